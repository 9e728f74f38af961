"""The one FLOP and parameter ledger: counted from the architecture, by group, for every family.

Convention: a product [m, k] x [k, n] is 2 m k n FLOPs; attention scores are counted dense
(a causal mask saves nothing here); look-ups, norms, activations and the optimizer count zero;
the backward pass is twice the forward. It reads "6ND plus attention", with the head inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from research.models import moe

CONVENTION = {
    "params": "total, embeddings and head included",
    "flops": "ledger: matrix products, attention (dense) and head; backward = 2 x forward",
}


@dataclass(frozen=True)
class Ledger:
    """Parameters and forward FLOPs of one example, each by group.

    Attributes:
        params: parameter count by group; groups sum to the network's total.
        forward_flops: FLOPs of one example's forward pass by group.
        tokens: positions the stack processes for one example (text tokens, image patches).
        idle_params: parameters that a position does not meet: the experts it is not sent to.
    """

    params: Mapping[str, int]
    forward_flops: Mapping[str, int]
    tokens: int
    idle_params: int = 0

    @property
    def total_params(self) -> int:
        return sum(self.params.values())

    @property
    def active_params(self) -> int:
        """Parameters that a position meets."""
        return self.total_params - self.idle_params

    @property
    def non_embedding_params(self) -> int:
        """Parameters without look-up tables and the head (Kaplan 2020's N)."""
        return sum(n for group, n in self.params.items() if group not in ("embedding", "head"))

    @property
    def flops(self) -> int:
        """Forward FLOPs of one example."""
        return sum(self.forward_flops.values())

    @property
    def train_flops(self) -> int:
        """Forward and backward FLOPs of one example."""
        return 3 * self.flops


def add(*tables: Mapping[str, int]) -> dict[str, int]:
    """Sum tables group by group."""
    total: dict[str, int] = {}
    for table in tables:
        for group, count in table.items():
            total[group] = total.get(group, 0) + count
    return total


def stack(model, length: int, modulated: bool = False) -> Ledger:
    """Count `models.transformer.Stack`: `depth` blocks over `length` positions.

    Args:
        model: `config.model`; every key of `transformer.default_model` may count. A mixture of
            experts is charged for all its slots, filled or not: that is what a machine computes.
        modulated: whether each block carries adaLN-zero modulation of one condition.
    """
    depth, width, heads = model.depth, model.width, model.num_heads
    kv_heads = model.num_kv_heads or heads
    qkv = (heads + 2 * kv_heads) * (width // heads)
    hidden = round(width * model.mlp_ratio)
    up = hidden * (2 if model.activation == "swiglu" else 1)
    bias = 1 if model.bias else 0
    norm = width * (1 + bias)
    params = {
        "attention": width * qkv + width * width + bias * (qkv + width),
        "norm": 0 if modulated else 2 * norm,
    }
    flops = {
        "attention": 2 * length * (width * qkv + width * width),
        "attention_scores": 2 * 2 * length * length * width,
    }
    perceptron, idle = width * up + hidden * width, 0
    if model.num_experts:
        slots = model.num_experts * moe.capacity(model, length)
        params |= {"router": width * model.num_experts, "experts": model.num_experts * perceptron}
        flops |= {"router": 2 * length * params["router"], "experts": 2 * slots * perceptron}
        idle = (model.num_experts - model.experts_per_token) * perceptron
    else:
        params["mlp"] = perceptron + bias * (up + width)
        flops["mlp"] = 2 * length * perceptron
    if model.qk_norm:
        params["norm"] += 2 * (width // heads)
    if modulated:
        params["modulation"] = 6 * width * (width + 1)
        flops["modulation"] = 2 * 6 * width * width
    return Ledger(
        {group: depth * n for group, n in params.items()},
        {group: depth * n for group, n in flops.items()},
        length,
        depth * idle,
    )


def decoder(model, length: int) -> Ledger:
    """Count `models.decoder.Decoder` on one sequence of `length` tokens."""
    blocks = stack(model, length)
    table = model.vocab_size * model.width
    params = {
        "embedding": table + model.max_length * model.width,
        "final_norm": model.width * (2 if model.bias else 1),
        "head": 0 if model.tie_embeddings else table,
    }
    return Ledger(
        add(blocks.params, params),
        add(blocks.forward_flops, {"head": 2 * length * table}),
        length,
        blocks.idle_params,
    )
