"""How softmax attention is computed: whole, in chunks, or by a tiled kernel; a choice of hardware.

Every kernel is a function (q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule) -> y_BxNxRxV and the log
of each row's normaliser, [B, N, R], or None where the kernel keeps it to itself. The G heads that
share a key and a value stand side by side at each position, R = L * G: grouped-query attention is
the same two products, and to split positions over devices is to split rows. All of them honour the
same `Rule` of who attends to whom. Values may have another number of features than keys.
"""

from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict, FrozenConfigDict

from research import mesh
from research.errors import UserError
from research.mesh import joined, strided
from research.models import numerics, positions
from research.parts import Machine, check_choice

TILE = 128  # positions of the smallest tile of TPU's kernel
ROWS = 256  # rows of a chunk, on each device


class Places(NamedTuple):
    """Where the rows of queries and the keys stand.

    Attributes:
        query, key: positions in their text, [R] and [S], or [B, R] and [B, S].
        query_segment, key_segment: which text of several in one example, [B, R] and [B, S].
        key_open: keys that all queries see, also those before them, [B, S]: of a prefix.
        key_there: whether there is a key at all, [B, S]: not in the empty part of a cache.
        query_group: which of its G heads a row is of, [R], where scores have a bias.
        query_order, key_order: of a text that comes to be out of order, [R] and [S], or with
            [B, ...] before; see `attention.Where`.
    """

    query: Any
    key: Any
    query_segment: Any = None
    key_segment: Any = None
    key_open: Any = None
    key_there: Any = None
    query_group: Any = None
    query_order: Any = None
    key_order: Any = None


@dataclass(frozen=True)
class Rule:
    """Who attends to whom: what the attention `kind` says, and in a causal network the past only.

    Attributes:
        kind: a module with sees(model, query, key) and perhaps band(model); see `attention.KINDS`.
        positions: a module that may add a bias to scores; see `positions.POSITIONS`.
    """

    kind: ModuleType
    model: FrozenConfigDict
    causal: bool
    positions: ModuleType | None = None

    def sees(self, query: Any, key: Any) -> Any:
        """Whether a query at each position `query` sees a key at `key`; None: all see all."""
        seen = self.kind.sees(self.model, query, key)
        if not self.causal:
            return seen
        past = query >= key
        return past if seen is None else past & seen

    @property
    def band(self) -> tuple[int | None, int | None] | None:
        """How many keys to the left and to the right a query sees; None without a bound.

        None in place of both where what it sees is no band.
        """
        if not hasattr(self.kind, "band"):
            return None
        left, right = self.kind.band(self.model)
        return left, 0 if self.causal else right

    def mask(self, places: Places) -> jax.Array | None:
        """Which keys each row sees, [R, S] or [B, 1, R, S]; None when all see all."""
        seen = self.sees(places.query[..., :, None], places.key[..., None, :])
        if places.key_open is not None and seen is not None:
            seen = seen | places.key_open[..., None, :]
        if places.query_order is not None:
            row, column = places.query_order[..., :, None], places.key_order[..., None, :]
            settled = (row == column) | ((row > column) & (column % 2 == 1))
            seen = settled if seen is None else settled & seen
        if places.query_segment is not None:
            same = places.query_segment[..., :, None] == places.key_segment[..., None, :]
            seen = same if seen is None else same & seen
        if places.key_there is not None:
            there = places.key_there[..., None, :]
            seen = there if seen is None else there & seen
        return seen if seen is None or seen.ndim == 2 else seen[:, None]

    @property
    def biased(self) -> bool:
        """Whether scores have a bias by position."""
        return hasattr(self.positions, "bias")

    def bias(self, places: Places, heads: int) -> jax.Array | None:
        """What is added to the scores, [N, R, S] or [B, N, R, S] of N = `heads` keys' heads."""
        if not self.biased:
            return None
        query, key = places.query[..., :, None], places.key[..., None, :]
        if query.ndim == 3 or key.ndim == 3:
            query, key = (x if x.ndim == 2 else x[:, None] for x in (query, key))
        groups = self.model.num_heads // heads
        head_NxRx1 = jnp.arange(heads)[:, None, None] * groups + places.query_group[:, None]
        positions: Any = self.positions
        return positions.bias(self.model, query, key, head_NxRx1)


@jax.named_scope("scores")
def _scores(q_BxNxRxK: jax.Array, k_BxNxSxK: jax.Array, places: Places, rule: Rule) -> jax.Array:
    """Scaled products [B, N, R, S] in float32 of the keys that each row sees."""
    seen, bias = rule.mask(places), rule.bias(places, k_BxNxSxK.shape[1])
    scale = k_BxNxSxK.shape[-1] ** -0.5
    s_BxNxRxS = jnp.einsum("bhqd,bhkd->bhqk", q_BxNxRxK * scale, k_BxNxSxK).astype(jnp.float32)
    if bias is not None:
        s_BxNxRxS += bias
    return s_BxNxRxS if seen is None else jnp.where(seen, s_BxNxRxS, -1e30)


@jax.named_scope("scores")
def _weighed(w_BxNxRxS: jax.Array, v_BxNxSxK: jax.Array) -> jax.Array:
    return jnp.einsum("bhqk,bhkd->bhqd", w_BxNxRxS, v_BxNxSxK)


def _of_keys(w_BxNxRxS: jax.Array, x_BxNxRxK: jax.Array) -> jax.Array:
    """What each key gathers from the rows that weigh it, [B, N, S, K].

    Wide first: a product whose result is tall takes CPUs twice the time, see `numerics.dot`.
    """
    y_BxNxKxS = jnp.einsum("bhqd,bhqk->bhdk", x_BxNxRxK, w_BxNxRxS)
    return jax.lax.optimization_barrier(y_BxNxKxS).swapaxes(-1, -2)


@jax.named_scope("scores")
def _gradients(w_BxNxRxS, q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, y_BxNxRxV, g):
    """Gradients of query, key and value from the weights and the output (Dao 2022, app. B.2).

    Args:
        g: those of the output and of the normaliser, whose derivatives are the weights.
    """
    g_BxNxRxV, g_BxNxR = g
    v_gradient = _of_keys(w_BxNxRxS, g_BxNxRxV)
    w_gradient = jnp.einsum("bhqd,bhkd->bhqk", g_BxNxRxV, v_BxNxSxV).astype(jnp.float32)
    mean = (g_BxNxRxV * y_BxNxRxV).astype(jnp.float32).sum(-1, keepdims=True) - g_BxNxR[..., None]
    s_gradient = w_BxNxRxS * (w_gradient - mean) * q_BxNxRxK.shape[-1] ** -0.5
    s_gradient = s_gradient.astype(q_BxNxRxK.dtype)
    q_gradient = jnp.einsum("bhqk,bhkd->bhqd", s_gradient, k_BxNxSxK)
    k_gradient = _of_keys(s_gradient, q_BxNxRxK)
    return q_gradient, k_gradient, v_gradient


def dense(
    q_BxNxRxK: jax.Array, k_BxNxSxK: jax.Array, v_BxNxSxV: jax.Array, places: Places, rule: Rule
) -> tuple[jax.Array, jax.Array]:
    """Softmax attention that keeps its weights for the backward pass."""
    if numerics.FORWARDS.get():
        return _dense_forward(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule)[0]
    return _dense(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _dense(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule):
    return _dense_forward(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule)[0]


def _dense_forward(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule):
    s_BxNxRxS = _scores(q_BxNxRxK, k_BxNxSxK, places, rule)
    w_BxNxRxS = jax.nn.softmax(s_BxNxRxS).astype(v_BxNxSxV.dtype)
    y_BxNxRxV = checkpoint_name(_weighed(w_BxNxRxS, v_BxNxSxV), "attention")
    found = y_BxNxRxV, jax.nn.logsumexp(s_BxNxRxS, -1)
    return found, (q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, w_BxNxRxS, y_BxNxRxV)


def _dense_backward(rule, saved, g):
    q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, w_BxNxRxS, y_BxNxRxV = saved
    return *_gradients(w_BxNxRxS, q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, y_BxNxRxV, g), None


_dense.defvjp(_dense_forward, _dense_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def chunked(
    q_BxNxRxK: jax.Array, k_BxNxSxK: jax.Array, v_BxNxSxV: jax.Array, places: Places, rule: Rule
) -> tuple[jax.Array, jax.Array]:
    """The same, one chunk of rows after another; the backward pass makes the weights anew.

    What is kept grows with the length, not with its square (Rabe & Staats 2021; Dao 2023).
    """
    return _chunked_forward(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule)[0]


def _count(rows: int) -> int:
    """How many chunks: the fewest that divide a device's rows and have at most ROWS of them."""
    here = rows // mesh.size("sequence")
    return next(n for n in range(1, here + 1) if here % n == 0 and here // n <= ROWS)


def _cut(places: Places, count: int) -> tuple[Any, ...]:
    """Positions, segments, groups and order of the rows of each of `count` chunks."""
    of_rows = (places.query, places.query_segment, places.query_group, places.query_order)
    return jax.tree.map(lambda x: strided(x, count, x.ndim - 1), of_rows)


def _of_chunk(places: Places, of_rows: tuple[Any, ...]) -> Places:
    query, segment, group, order = of_rows
    return places._replace(query=query, query_segment=segment, query_group=group, query_order=order)


def _chunked_forward(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, rule):
    count = _count(q_BxNxRxK.shape[-2])

    def step(_, chunk):
        query, of_rows = chunk
        products = _scores(query, k_BxNxSxK, _of_chunk(places, of_rows), rule)
        normaliser = jax.nn.logsumexp(products, -1, keepdims=True)
        weights = jnp.exp(products - normaliser).astype(v_BxNxSxV.dtype)
        return None, (_weighed(weights, v_BxNxSxV), normaliser[..., 0])

    chunks = (strided(q_BxNxRxK, count, 2), _cut(places, count))
    _, (output, normaliser) = jax.lax.scan(step, None, chunks)
    y_BxNxRxV = checkpoint_name(joined(output, 2), "attention")
    normaliser_BxNxR = checkpoint_name(joined(normaliser, 2), "attention")
    found = y_BxNxRxV, normaliser_BxNxR
    return found, (q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, y_BxNxRxV, normaliser_BxNxR)


def _chunked_backward(rule, saved, g):
    q_BxNxRxK, k_BxNxSxK, v_BxNxSxV, places, y_BxNxRxV, normaliser_BxNxR = saved
    count = _count(q_BxNxRxK.shape[-2])

    def step(sums, chunk):
        query, output, normaliser, g, of_rows = chunk
        products = _scores(query, k_BxNxSxK, _of_chunk(places, of_rows), rule)
        weights = jnp.exp(products - normaliser[..., None]).astype(v_BxNxSxV.dtype)
        q_gradient, *of_chunk = _gradients(weights, query, k_BxNxSxK, v_BxNxSxV, output, g)
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, of_chunk), q_gradient

    zeros = [jnp.zeros(x.shape, jnp.float32) for x in (k_BxNxSxK, v_BxNxSxV)]
    of_rows = (q_BxNxRxK, y_BxNxRxV, normaliser_BxNxR, g)
    of_rows = jax.tree.map(lambda x: strided(x, count, 2), of_rows)
    (k_gradient, v_gradient), q_gradient = jax.lax.scan(
        step, zeros, (*of_rows, _cut(places, count))
    )
    k_gradient, v_gradient = k_gradient.astype(k_BxNxSxK.dtype), v_gradient.astype(v_BxNxSxV.dtype)
    return joined(q_gradient, 2), k_gradient, v_gradient, None


chunked.defvjp(_chunked_forward, _chunked_backward)


def _one_size(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Queries, keys and values with zeros after their features, up to those of the widest."""
    most = max(x.shape[-1] for x in arrays)
    return tuple(jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, most - x.shape[-1])]) for x in arrays)


def splash(
    q_BxNxRxK: jax.Array, k_BxNxSxK: jax.Array, v_BxNxSxV: jax.Array, places: Places, rule: Rule
) -> tuple[jax.Array, None]:
    """The same by JAX's tiled TPU kernel, which never writes the weights to memory (Dao 2022).

    It places queries and keys by their index, which is as far apart as their positions are within
    a text. Off a TPU the kernel is interpreted, which is slow: for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel

    scale, features = q_BxNxRxK.shape[-1] ** -0.5, v_BxNxSxV.shape[-1]
    q_BxNxRxK, k_BxNxSxK, v_BxNxSxV = _one_size(q_BxNxRxK * scale, k_BxNxSxK, v_BxNxSxV)
    batch, kv_heads, rows, head_dim = q_BxNxRxK.shape
    length = k_BxNxSxK.shape[-2]
    groups, heads_split = rows // length, mesh.size("tensor")
    query = q_BxNxRxK.reshape(batch, kv_heads, length, groups, head_dim).swapaxes(2, 3)
    block = next(b for b in (512, 256, TILE) if length % b == 0)
    attend = kernel.make_splash_mha(
        _splash_mask(rule, length, kv_heads // heads_split * groups),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=kernel.BlockSizes(*[block] * 6, use_fused_bwd_kernel=True),
        residual_checkpoint_name="attention",
        interpret=not mesh.on_tpu(),
    )

    def local(query, key, value, segment):
        query = query.reshape(query.shape[0], -1, length, head_dim)
        segments = None if segment is None else kernel.SegmentIds(segment, segment)
        return jax.vmap(attend)(query, key, value, segments)

    layout = mesh.spec(("batch", "heads", None, None), k_BxNxSxK.shape)
    grouped = PartitionSpec(*layout[:2], None, None, None)
    if mesh.size(*mesh.AXES) > 1:
        each = PartitionSpec(layout[0], None)
        local = jax.shard_map(
            local, in_specs=(grouped, layout, layout, each), out_specs=layout, check_vma=False
        )
    y: Any = local(query, k_BxNxSxK, v_BxNxSxV, places.key_segment)
    y = y.reshape(batch, kv_heads, groups, length, head_dim)
    return y.swapaxes(2, 3).reshape(batch, kv_heads, rows, head_dim)[..., :features], None


def _splash_mask(rule: Rule, length: int, heads: int) -> Any:
    """The mask of all heads: by its band, which is never written down, or as a table."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    shape, band = (length, length), rule.band
    if band == (None, None):
        mask = masks.FullMask(shape)
    elif band == (None, 0):
        mask = masks.CausalMask(shape)
    elif band is not None:
        mask = masks.LocalMask(shape, band, 0)
    else:
        at = np.arange(length)
        seen = rule.sees(at[:, None], at[None])
        mask = masks.NumpyMask(np.broadcast_to(True if seen is None else np.asarray(seen), shape))
    return masks.MultiHeadMask([mask] * heads)


def cudnn(
    q_BxNxRxK: jax.Array, k_BxNxSxK: jax.Array, v_BxNxSxV: jax.Array, places: Places, rule: Rule
) -> tuple[jax.Array, None]:
    """The same by NVIDIA's fused kernel, for GPUs; it is told the rule in words where it has them.

    Those are all, causal, and a causal window; anything else goes as a mask, which is read whole.
    """
    scale, features = q_BxNxRxK.shape[-1] ** -0.5, v_BxNxSxV.shape[-1]
    q_BxNxRxK, k_BxNxSxK, v_BxNxSxV = _one_size(q_BxNxRxK, k_BxNxSxK, v_BxNxSxV)
    batch, kv_heads, rows, head_dim = q_BxNxRxK.shape
    length = k_BxNxSxK.shape[-2]
    groups, band = rows // length, rule.band
    query = q_BxNxRxK.reshape(batch, kv_heads, length, groups, head_dim).transpose(0, 2, 1, 3, 4)
    how: dict[str, Any] = {}
    told = (places.key_segment, places.key_open, places.key_order)
    plain = all(each is None for each in told)
    if plain and band == (None, None):
        pass
    elif plain and band is not None and rule.causal:
        how = (
            dict(is_causal=True)
            if band[0] is None
            else dict(local_window_size=band, is_causal=True)
        )
    else:
        seen = rule.mask(jax.tree.map(lambda x: x[..., :: x.shape[-1] // length], places))
        how = dict(mask=None if seen is None else seen.reshape(-1, 1, length, length))
    y = jax.nn.dot_product_attention(
        query.reshape(batch, length, kv_heads * groups, head_dim),
        k_BxNxSxK.swapaxes(1, 2),
        v_BxNxSxV.swapaxes(1, 2),
        scale=scale,
        implementation="cudnn",
        **how,
    )
    y = checkpoint_name(y.reshape(batch, length, kv_heads, groups, head_dim), "attention")
    return y.transpose(0, 2, 1, 3, 4).reshape(batch, kv_heads, rows, head_dim)[..., :features], None


KERNELS = {"dense": dense, "chunked": chunked, "splash": splash, "cudnn": cudnn}


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for a `config.hardware.attention` that the machine or the shape forbids."""
    hardware, model = config.hardware, config.model
    check_choice("hardware.attention", hardware.attention, KERNELS)
    key = f"config.hardware.attention={hardware.attention!r}"
    if hardware.attention not in ("splash", "cudnn"):
        return
    if hasattr(positions.load(model), "bias"):
        raise UserError(
            f"{key} cannot add the bias of config.model.positions={model.positions!r}; use chunked"
        )
    if model.get("sink_logits"):
        raise UserError(
            f"{key} does not tell the normaliser that config.model.sink_logits needs; use chunked"
        )
    if machine.sizes["sequence"] > 1:
        raise UserError(
            f"{key} cannot split positions over mesh.sequence={machine.sizes['sequence']}; "
            "use chunked"
        )
    if hardware.attention == "splash":
        if (many := machine.positions()) % TILE:
            raise UserError(
                f"{key} works on tiles of {TILE} positions, which do not divide {many}; use chunked"
            )
        return
    if machine.platform not in ("gpu", None):
        raise UserError(f"{key} is a kernel for NVIDIA's GPUs, of which there is none; use chunked")
    if hardware.compute_dtype != "bfloat16":
        raise UserError(f"{key} needs config.hardware.compute_dtype=bfloat16")
    if (head_dim := model.width // model.num_heads) % 8 or head_dim > 128:
        raise UserError(
            f"{key} takes heads of a multiple of 8 and at most 128 features, "
            f"not width/num_heads={head_dim}; use chunked"
        )
