"""The layout of Mixtral: Llama's, with experts in the place of each perceptron, and none full."""

from typing import Any

import numpy as np

from research.hub import links as tables
from research.hub import llama
from research.hub.links import Link

ARCHITECTURES = ("MixtralForCausalLM",)
PREFIX, IGNORED = llama.PREFIX, llama.IGNORED
NAMES = {"gate": "w1", "up": "w3", "down": "w2"}


def config(model: Any, length: int) -> dict[str, Any]:
    """config.json of a model; what it cannot say is as Mixtral has it."""
    return llama.config(model, length) | dict(
        architectures=["MixtralForCausalLM"],
        model_type="mixtral",
        num_local_experts=model.get("num_experts", 8),
        num_experts_per_tok=model.get("experts_per_token", 2),
        router_aux_loss_coef=model.get("balance_weight", 0.0),
    )


def model(theirs: dict[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; no expert is ever full."""
    return llama.model(theirs) | dict(
        channel="moe",
        num_experts=theirs["num_local_experts"],
        experts_per_token=theirs["num_experts_per_tok"],
        capacity_factor=0.0,
        balance_weight=float(theirs.get("router_aux_loss_coef", 0.0)),
    )


def links(model: Any) -> list[Link]:
    """Every parameter."""
    before = f"{llama.LAYER}block_sparse_moe."
    router = tables.turned(f"{llama.BLOCK}mlp/router", f"{before}gate.weight")
    experts = [
        Link(
            f"{llama.BLOCK}mlp/{ours}",
            tuple(f"{before}experts.{e}.{theirs}.weight" for e in range(model.num_experts)),
            lambda *each: np.stack([x.T for x in each]),
            lambda x: tuple(x[e].T for e in range(len(x))),
        )
        for ours, theirs in NAMES.items()
    ]
    return [*llama.attention_links(model), router, *experts]
