"""What configs say in common, whatever the layout: refusals, activations, rotary positions."""

from typing import Any

from research.errors import UserError, nearest

# Of a perceptron with one map in, by the names of `transformers`.
ACTIVATIONS = {
    "relu": "relu",
    "relu2": "relu2",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu": "gelu_exact",
    "silu": "silu",
    "swish": "silu",
}
# Of one whose second map is gated.
GATES = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu", "gelu_new": "geglu"}


def only(theirs: dict[str, Any], **allowed: tuple[Any, ...]) -> None:
    """Raise UserError for a key of `theirs` that is there and not one of the values `allowed`."""
    for key, values in allowed.items():
        if key in theirs and theirs[key] not in values:
            expected = " or ".join(str(value) for value in values)
            raise UserError(f"{key}={theirs[key]!r} has no counterpart here; expected {expected}")


def activation(theirs: dict[str, Any], key: str, table: dict[str, str]) -> str:
    """Our name of the activation that `theirs` names by `key`."""
    if theirs[key] not in table:
        raise UserError(
            f"{key}={theirs[key]!r} is not one of {', '.join(table)}{nearest(theirs[key], table)}"
        )
    return table[theirs[key]]


def called(ours: str, table: dict[str, str]) -> str:
    """Their name of our activation; any of the table's where it has none."""
    return next((theirs for theirs, name in table.items() if name == ours), next(iter(table)))


def rotary(theirs: dict[str, Any]) -> dict[str, Any]:
    """Our keys of rotary positions, from either of the two ways to write them."""
    said = {"rope_theta": theirs.get("rope_theta", 10_000.0), **(theirs.get("rope_scaling") or {})}
    said |= theirs.get("rope_parameters") or {}
    kind = said.get("rope_type") or said.get("type") or "default"
    found: dict[str, Any] = dict(positions="rotary", rotary_base=float(said["rope_theta"]))
    if kind == "default":
        return found
    known = {"linear": {}, "llama3": dict(low_freq_factor=(1.0,), high_freq_factor=(4.0,))}
    known["yarn"] = dict(beta_fast=(None, 32), beta_slow=(None, 1), attention_factor=(None,))
    known["yarn"] |= dict(mscale=(None,), mscale_all_dim=(None,), truncate=(None, True))
    if kind not in known:
        raise UserError(f"rope_type={kind!r} is not one of default, {', '.join(known)}")
    only(said, **known[kind])
    found |= dict(rotary_scaling=kind, rotary_factor=float(said["factor"]))
    length = said.get("original_max_position_embeddings") or theirs["max_position_embeddings"]
    return found | (dict(rotary_length=length) if kind != "linear" else {})


def rope(model: Any) -> dict[str, Any]:
    """What their config says of `model`'s rotary positions; nothing of those that scale by NTK."""
    scaling = model.get("rotary_scaling", "none")
    said: dict[str, Any] = {"rope_theta": model.get("rotary_base", 10_000.0)}
    if scaling in ("none", "ntk"):
        return said
    about: dict[str, Any] = {"rope_type": scaling, "factor": model.rotary_factor}
    if scaling != "linear":
        about["original_max_position_embeddings"] = model.rotary_length
    if scaling == "llama3":
        about |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return said | {"rope_scaling": about}


def plain(model: Any) -> dict[str, Any]:
    """`config.model` in which what is the same function is the same value."""
    found = dict(model)
    found["num_kv_heads"] = found.get("num_kv_heads") or found["num_heads"]
    if "mlp_ratio" in found:
        found["mlp_ratio"] = round(found["width"] * found["mlp_ratio"])
    if found.get("rotary_scaling") == "none":
        found |= {"rotary_factor": 1.0, "rotary_length": 0}
    if found.get("rotary_scaling") == "linear":
        found["rotary_length"] = 0
    if not found.get("tie_embeddings"):
        found["scale_embeddings"] = False
    if "capacity_factor" in found:  # with as many slots as positions no expert is ever full
        enough = found["num_experts"] / found["experts_per_token"]
        found["capacity_factor"] *= found["capacity_factor"] < enough
    return found
