"""The layout of GPT-2, whose maps are written inputs first, as ours are."""

from typing import Any

from research.hub import links as tables
from research.hub.links import Link
from research.hub.said import ACTIVATIONS, activation, called, only

ARCHITECTURES = ("GPT2LMHeadModel",)
PREFIX = "transformer."
IGNORED = ("*attn.bias", "*attn.masked_bias", "lm_head.weight")  # masks; the head where it is tied
BLOCK, LAYER = tables.BLOCKS, "transformer.h.{}."


def config(model: Any, length: int) -> dict[str, Any]:
    """config.json of a model; what it cannot say is as GPT-2 has it."""
    return dict(
        architectures=list(ARCHITECTURES),
        model_type="gpt2",
        vocab_size=model.vocab_size,
        n_positions=model.get("max_length", length),
        n_embd=model.width,
        n_layer=model.depth,
        n_head=model.num_heads,
        n_inner=round(model.width * model.get("mlp_ratio", 4)),
        activation_function=called(model.get("activation", "gelu"), ACTIVATIONS),
        layer_norm_epsilon=model.norm_epsilon,
        tie_word_embeddings=model.tie_embeddings,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )


def model(theirs: dict[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`."""
    only(theirs, scale_attn_weights=(True,), scale_attn_by_inverse_layer_idx=(False,))
    only(theirs, add_cross_attention=(False,))
    width = theirs["n_embd"]
    return dict(
        positions="learned",
        max_length=theirs["n_positions"],
        norm="layernorm",
        norm_epsilon=float(theirs.get("layer_norm_epsilon", 1e-5)),
        bias=True,
        vocab_size=theirs["vocab_size"],
        width=width,
        depth=theirs["n_layer"],
        num_heads=theirs["n_head"],
        mlp_ratio=(theirs.get("n_inner") or 4 * width) / width,
        activation=activation(theirs, "activation_function", ACTIVATIONS),
        tie_embeddings=bool(theirs.get("tie_word_embeddings", True)),
        scale_embeddings=False,
    )


def links(model: Any) -> list[Link]:
    """Every parameter."""
    heads, width = model.num_heads, model.width
    qkv, names = f"{BLOCK}attention/qkv/", f"{LAYER}attn.c_attn."
    found = [
        tables.same("embedding", "transformer.wte.weight"),
        tables.same("positions", "transformer.wpe.weight"),
        *tables.norm("final_norm", "transformer.ln_f"),
        *tables.norm(f"{BLOCK}attention_norm", f"{LAYER}ln_1"),
        *tables.norm(f"{BLOCK}mlp_norm", f"{LAYER}ln_2"),
        Link(
            f"{qkv}kernel", (f"{names}weight",),
            lambda x: x.reshape(width, 3, heads, -1).swapaxes(1, 2),
            lambda x: (x.swapaxes(1, 2).reshape(width, -1),),
        ),
        Link(
            f"{qkv}bias", (f"{names}bias",),
            lambda x: x.reshape(3, heads, -1).swapaxes(0, 1),
            lambda x: (x.swapaxes(0, 1).reshape(-1),),
        ),
    ]  # fmt: skip
    maps = {"attention/out": "attn.c_proj", "mlp/up": "mlp.c_fc", "mlp/down": "mlp.c_proj"}
    for ours, theirs in maps.items():
        found += [
            tables.same(f"{BLOCK}{ours}/kernel", f"{LAYER}{theirs}.weight"),
            tables.same(f"{BLOCK}{ours}/bias", f"{LAYER}{theirs}.bias"),
        ]
    return found + ([] if model.tie_embeddings else [tables.same("head", "lm_head.weight")])
