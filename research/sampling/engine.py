"""Tokens one after another from caches of static shape, by two compiled programs.

One reads a chunk of every row's prompt at a time, one draws up to `BLOCK` tokens of every row.
Prompts of different lengths stand flush right, with padding before them that nothing sees, so the
two serve prompts of any length; numbers of `Drawing` are arguments. What a row draws depends on its
own key and position, not on the rows beside it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from research import mesh, programs
from research.errors import UserError
from research.sampling import drawing as drawings
from research.sampling.drawing import Drawing

CHUNK = 64  # positions of a prompt that are read at once; half where there are several
BLOCK = 16  # tokens that are drawn before somebody looks at them


class Network(NamedTuple):
    """What an engine asks of a family.

    Attributes:
        config: of the run.
        grid: the mesh of devices.
        params: as `follow` reads them, laid out on the devices.
        follow: (config, params, tokens_BxL, positions_BxL, cache, every=False, prompt=False) ->
            (logits [B, V] of the token after the last of them, or [B, L, V] after `every` one,
            cache); tokens of a `prompt` may see one another.
        empty: (config, batch, length, dtype, padding) -> cache of `length` positions with room for
            as much padding before them.
        rewound: (cache, count, before_Bx1) -> the cache without the last `count` positions, which a
            scalar array says, after token `before`; None where it cannot forget.
        vocab_size: of the logits.
        readable: tokens that may stand in a prompt.
        symbols: tokens of the data; what pads the vocabulary beyond them is never drawn.
        whole: whether a prompt has to be read at once, since its tokens see those after them.
    """

    config: ConfigDict
    grid: Any  # jax.sharding.Mesh
    params: Any
    follow: Callable
    empty: Callable
    rewound: Callable | None
    vocab_size: int
    readable: int
    symbols: int
    whole: bool = False


class State(NamedTuple):
    """Where every row stands.

    Attributes:
        cache: what the network keeps of the positions it has seen.
        position: of the next token, [B].
        logits: of the next token, [B, V].
        seen: which tokens a row has had, [B, V].
    """

    cache: Any
    position: jax.Array
    logits: jax.Array
    seen: jax.Array


class Drawn(NamedTuple):
    """What a call drew: tokens and their log-probabilities under the network, [B, count]."""

    tokens: np.ndarray
    log_probabilities: np.ndarray


class Engine:
    """Rows that are read and continued together.

    Attributes:
        length: most positions of a row, prompt and continuation.
    """

    def __init__(self, network: Network, batch: int, length: int, dtype: Any = None):
        """Build for `batch` rows of at most `length` positions.

        Args:
            dtype: of the cache, such as int8; None is that of products.
        """
        self.network, self.batch, self.length = network, batch, length
        chunk = CHUNK if batch == 1 else CHUNK // 2
        self.chunk = length if network.whole else min(chunk, length)
        self.slots = length + self.chunk - 1  # with the padding before a prompt
        self._dtype = dtype
        self.read_chunk, self.draw_block = programs_of(network)
        self.used = 0
        self._start = jax.jit(
            self._empty, out_shardings=jax.tree.map(self._place, jax.eval_shape(self._empty))
        )

    def start(self) -> State:
        """Rows that have read nothing."""
        self.used = 0
        with self.on_grid():
            return self._start()

    def _empty(self) -> State:
        rows = (self.batch, self.network.vocab_size)
        return State(
            cache=self.network.empty(
                self.network.config, self.batch, self.length, self._dtype, self.chunk - 1
            ),
            position=jnp.zeros(self.batch, jnp.int32),
            logits=jnp.zeros(rows, jnp.float32),
            seen=jnp.zeros(rows, bool),
        )

    def _place(self, leaf: Any) -> NamedSharding:
        """Rows over the replicas; what has them and more axes than two has heads, over tensor."""
        has_rows = leaf.shape[:1] == (self.batch,)
        names = ("batch", "heads" if leaf.ndim > 2 else None)[: leaf.ndim] if has_rows else ()
        return NamedSharding(self.network.grid, mesh.spec(names, leaf.shape))

    def read(self, state: State, prompts: Sequence[Sequence[int]]) -> State:
        """Read one prompt a row, of any lengths."""
        longest = max(map(len, prompts))
        columns = -(-longest // self.chunk) * self.chunk
        self.reserve(columns)
        tokens = np.zeros((self.batch, columns), np.int32)
        there = np.zeros((self.batch, columns), bool)
        for row, prompt in enumerate(prompts):
            tokens[row, columns - len(prompt) :] = prompt
            there[row, columns - len(prompt) :] = True
        for start in range(0, columns, self.chunk):
            part = slice(start, start + self.chunk)
            with self.on_grid():
                state = self.read_chunk(self.network.params, state, tokens[:, part], there[:, part])
        return state

    def draw(
        self, state: State, drawing: Drawing, key_B: jax.Array, count: int, allowed: Any = None
    ) -> tuple[State, Drawn]:
        """Draw `count` tokens of every row, at most BLOCK of them.

        Args:
            key_B: a key a row.
            allowed: bool [B, V], which may be drawn, at each of them; None for all.
        """
        self.reserve(count)
        if allowed is None:
            allowed = np.ones(state.logits.shape, bool)
        with self.on_grid():
            state, tokens, logs = self.draw_block(
                self.network.params, state, drawing, key_B, np.int32(count), allowed
            )
        return state, Drawn(np.asarray(tokens)[:, :count], np.asarray(logs)[:, :count])

    def on_grid(self) -> Any:
        """Where programs are traced, so that they find the mesh."""
        return jax.sharding.use_abstract_mesh(self.network.grid.abstract_mesh)

    def reserve(self, columns: int) -> None:
        """Take `columns` slots of the cache.

        Raises:
            UserError: when there are not so many left.
        """
        self.used += columns
        if self.used > self.slots:
            raise UserError(
                f"{self.used} positions, padding included, do not fit into a cache of {self.slots}"
            )


def carried(*networks: Network) -> tuple[Any, programs.Carried]:
    """What tells the programs of `networks` from others, and the networks without parameters."""
    key = tuple((programs.shape(each.config), each.follow, each.symbols) for each in networks)
    return key, programs.Carried(tuple(each._replace(params=None, grid=None) for each in networks))


def programs_of(network: Network) -> tuple[Callable, Callable]:
    """The program that reads and the one that draws, shared by networks of one shape."""
    return _programs(*carried(network))


@functools.lru_cache(maxsize=16)
def _programs(key: Any, held: programs.Carried) -> tuple[Callable, Callable]:
    del key
    (network,) = held.held
    config, follow, symbols = network.config, network.follow, network.symbols

    def read_chunk(params, state, tokens_BxC, there_BxC):
        count_BxC = jnp.cumsum(there_BxC, 1)
        positions_BxC = jnp.where(there_BxC, state.position[:, None] + count_BxC - 1, -1)
        logits_BxV, cache = follow(
            config, params, tokens_BxC, positions_BxC, state.cache, prompt=True
        )
        rows_Bx1 = jnp.arange(len(tokens_BxC))[:, None]
        seen = state.seen.at[rows_Bx1, tokens_BxC].max(there_BxC)
        return State(cache, state.position + count_BxC[:, -1], logits_BxV, seen)

    def draw_block(params, state, drawing, key_B, count, allowed_BxV):
        batch, vocab_size = state.logits.shape
        allowed_BxV &= jnp.arange(vocab_size) < symbols

        def one(carry):
            index, state, tokens, logs = carry
            keys = jax.vmap(jax.random.fold_in)(key_B, state.position)
            logits_BxV = drawings.repeated(state.logits, drawing, state.seen)
            logits_BxV = jnp.where(allowed_BxV, logits_BxV, -jnp.inf)
            token_B = drawings.draw(logits_BxV, drawing, keys)
            rows = jnp.arange(batch)
            log_B = jax.nn.log_softmax(state.logits)[rows, token_B]
            after_BxV, cache = follow(
                config, params, token_B[:, None], state.position[:, None], state.cache
            )
            seen = state.seen.at[rows, token_B].set(True)
            state = State(cache, state.position + 1, after_BxV, seen)
            return index + 1, state, tokens.at[:, index].set(token_B), logs.at[:, index].set(log_B)

        start = (0, state, jnp.zeros((batch, BLOCK), jnp.int32), jnp.zeros((batch, BLOCK)))
        _, state, tokens, logs = jax.lax.while_loop(lambda carry: carry[0] < count, one, start)
        return state, tokens, logs

    return jax.jit(read_chunk, donate_argnums=1), jax.jit(draw_block, donate_argnums=1)


def row_keys(seed: int, rows: Sequence[int]) -> jax.Array:
    """The key of each row, by its number."""
    return _row_keys(np.uint32(seed % 2**32), np.array(rows))


@jax.jit
def _row_keys(seed: jax.Array, rows_B: jax.Array) -> jax.Array:
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(rows_B)
