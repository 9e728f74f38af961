"""The layout of GPT-NeoX and Pythia: both branches of one input, and part of a head turned."""

from typing import Any

from research.hub import links as tables
from research.hub.links import Link
from research.hub.said import ACTIVATIONS, activation, called, only, rope, rotary

ARCHITECTURES = ("GPTNeoXForCausalLM",)
PREFIX = "gpt_neox."
IGNORED = ("*attention.bias", "*attention.masked_bias", "*rotary_emb.inv_freq")  # no parameters
BLOCK, LAYER = tables.BLOCKS, "gpt_neox.layers.{}."


def config(model: Any, length: int) -> dict[str, Any]:
    """config.json of a model; what it cannot say is as Pythia has it."""
    return rope(model) | dict(
        architectures=list(ARCHITECTURES),
        model_type="gpt_neox",
        vocab_size=model.vocab_size,
        hidden_size=model.width,
        intermediate_size=round(model.width * model.get("mlp_ratio", 4)),
        num_hidden_layers=model.depth,
        num_attention_heads=model.num_heads,
        hidden_act=called(model.get("activation", "gelu_exact"), ACTIVATIONS),
        layer_norm_eps=model.norm_epsilon,
        tie_word_embeddings=model.tie_embeddings,
        attention_bias=True,
        use_parallel_residual=model.parallel,
        rotary_pct=model.get("rotary_fraction", 0.25),
        rotary_emb_base=model.get("rotary_base", 10_000.0),
        max_position_embeddings=length,
        attention_dropout=0.0,
        hidden_dropout=0.0,
    )


def model(theirs: dict[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`."""
    only(theirs, attention_bias=(True,))
    width, said = theirs["hidden_size"], theirs.get("rope_parameters") or {}
    base = theirs.get("rope_theta", theirs.get("rotary_emb_base", 10_000))
    share = said.get("partial_rotary_factor", theirs.get("rotary_pct", 0.25))
    return rotary({**theirs, "rope_theta": base}) | dict(
        rotary_fraction=float(share),
        norm="layernorm",
        norm_epsilon=float(theirs.get("layer_norm_eps", 1e-5)),
        bias=True,
        parallel=bool(theirs.get("use_parallel_residual", True)),
        vocab_size=theirs["vocab_size"],
        width=width,
        depth=theirs["num_hidden_layers"],
        num_heads=theirs["num_attention_heads"],
        mlp_ratio=theirs["intermediate_size"] / width,
        activation=activation(theirs, "hidden_act", ACTIVATIONS),
        tie_embeddings=bool(theirs.get("tie_word_embeddings", False)),
        scale_embeddings=False,
    )


def links(model: Any) -> list[Link]:
    """Every parameter."""
    width, heads = model.width, model.num_heads
    qkv, names = f"{BLOCK}attention/qkv/", f"{LAYER}attention.query_key_value."
    found = [
        tables.same("embedding", "gpt_neox.embed_in.weight"),
        *tables.norm("final_norm", "gpt_neox.final_layer_norm"),
        *tables.norm(f"{BLOCK}attention_norm", f"{LAYER}input_layernorm"),
        *tables.norm(f"{BLOCK}mlp_norm", f"{LAYER}post_attention_layernorm"),
        Link(
            f"{qkv}kernel", (f"{names}weight",),
            lambda x: x.T.reshape(width, heads, 3, -1), lambda x: (x.reshape(width, -1).T,),
        ),
        Link(
            f"{qkv}bias", (f"{names}bias",),
            lambda x: x.reshape(heads, 3, -1), lambda x: (x.reshape(-1),),
        ),
    ]  # fmt: skip
    maps = {
        "attention/out": "attention.dense",
        "mlp/up": "mlp.dense_h_to_4h",
        "mlp/down": "mlp.dense_4h_to_h",
    }
    for ours, theirs in maps.items():
        found += [
            tables.turned(f"{BLOCK}{ours}/kernel", f"{LAYER}{theirs}.weight"),
            tables.same(f"{BLOCK}{ours}/bias", f"{LAYER}{theirs}.bias"),
        ]
    return found + ([] if model.tie_embeddings else [tables.same("head", "embed_out.weight")])
