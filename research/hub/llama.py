"""The layout of Llama, and of Mistral, which is Llama with a sliding window."""

from typing import Any

from research.hub import links as tables
from research.hub.links import Link
from research.hub.said import GATES, activation, called, only, rope, rotary

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
PREFIX = "model."
IGNORED = ("*rotary_emb.inv_freq", "lm_head.weight")  # the head where it is tied
BLOCK, LAYER = tables.BLOCKS, "model.layers.{}."


def config(model: Any, length: int) -> dict[str, Any]:
    """config.json of a model; what it cannot say is as Llama has it."""
    window = model.get("window") if model.attention == "window" else None
    name, kind = ("MistralForCausalLM", "mistral") if window else ("LlamaForCausalLM", "llama")
    found = shared(model, length) | dict(architectures=[name], model_type=kind)
    return found | (dict(sliding_window=window) if window else {})


def shared(model: Any, length: int) -> dict[str, Any]:
    """What the descendants of Llama say alike."""
    return rope(model) | dict(
        vocab_size=model.vocab_size,
        hidden_size=model.width,
        intermediate_size=round(model.width * model.get("mlp_ratio", 4)),
        num_hidden_layers=model.depth,
        num_attention_heads=model.num_heads,
        num_key_value_heads=model.get("num_kv_heads") or model.num_heads,
        head_dim=model.width // model.num_heads,
        hidden_act=called(model.get("activation", "swiglu"), GATES),
        rms_norm_eps=model.norm_epsilon,
        tie_word_embeddings=model.tie_embeddings,
        attention_bias=False,
        mlp_bias=False,
        max_position_embeddings=length,
    )


def model(theirs: dict[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`."""
    width, heads = theirs["hidden_size"], theirs["num_attention_heads"]
    only(theirs, attention_bias=(False,), mlp_bias=(False,), head_dim=(None, width // heads))
    only(theirs, pretraining_tp=(1,), layer_types=(None,))
    found = rotary(theirs) | dict(
        norm="rmsnorm",
        norm_epsilon=float(theirs.get("rms_norm_eps", 1e-6)),
        bias=False,
        vocab_size=theirs["vocab_size"],
        width=width,
        depth=theirs["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=theirs.get("num_key_value_heads") or heads,
        mlp_ratio=theirs["intermediate_size"] / width,
        activation=activation(theirs, "hidden_act", GATES),
        tie_embeddings=bool(theirs.get("tie_word_embeddings", False)),
        scale_embeddings=False,
    )
    if theirs.get("sliding_window"):
        found |= dict(attention="window", window=theirs["sliding_window"])
    return found


def links(model: Any) -> list[Link]:
    """Every parameter."""
    return attention_links(model) + [
        tables.turned(f"{BLOCK}mlp/{name}/kernel", f"{LAYER}mlp.{name}_proj.weight")
        for name in ("gate", "up", "down")
    ]


def attention_links(model: Any) -> list[Link]:
    """All but the channel part."""
    names = tuple(f"{LAYER}self_attn.{name}_proj.weight" for name in "qkv")
    ends = [] if model.tie_embeddings else [tables.same("head", "lm_head.weight")]
    return [
        tables.same("embedding", "model.embed_tokens.weight"),
        tables.same("final_norm/scale", "model.norm.weight"),
        *ends,
        tables.same(f"{BLOCK}attention_norm/scale", f"{LAYER}input_layernorm.weight"),
        tables.same(f"{BLOCK}mlp_norm/scale", f"{LAYER}post_attention_layernorm.weight"),
        tables.heads_apart(model, f"{BLOCK}attention/qkv/kernel", (names[0], names[1], names[2])),
        tables.turned(f"{BLOCK}attention/out/kernel", f"{LAYER}self_attn.o_proj.weight"),
    ]
