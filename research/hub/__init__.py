"""Networks in the layout of Hugging Face's `transformers`: a config.json and safetensors.

A layout is a module of `LAYOUTS` with

    ARCHITECTURES: the names in `architectures` of a config.json that it is for
    config(model, length) -> what config.json says of `config.model`, as far as it can
    model(theirs) -> the keys of `config.model` that a config.json says, those not named plain;
        UserError for what our network does not have
    links(model) -> `Link`s, one for each array of our parameters
    PREFIX: of names, which some folders leave out; IGNORED: patterns of names that are no parameter

A model can be said in a layout where `model(config(m)) == m`: what differs stands in the way.
"""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from research import parts, presets
from research.errors import UserError
from research.hub.said import only, plain

LAYOUTS = {
    "llama": "research.hub.llama",
    "mixtral": "research.hub.mixtral",
    "gpt2": "research.hub.gpt2",
    "gpt_neox": "research.hub.gpt_neox",
}
# How a network begins, and what pulls on it in training: what it makes of a text does not change.
FREE = (
    "zero_outputs", "balance_weight", "router_z_weight", "ahead", "ahead_weight", "documents_apart"
)  # fmt: skip


def load(name: str) -> ModuleType:
    """The layout `name`."""
    return parts.load("format", name, LAYOUTS)


def read_model(theirs: dict[str, Any], name: str) -> tuple[ModuleType, ConfigDict]:
    """The layout of a config.json, called `name`, and the whole `config.model` that it says.

    Raises:
        UserError: for an architecture, or a part of one, that is not here.
    """
    known = {each: load(layout) for layout in LAYOUTS for each in load(layout).ARCHITECTURES}
    found = theirs.get("architectures") or ["nothing"]
    if found[0] not in known:
        raise UserError(f"{name}: architectures={found[0]!r} is not one of {', '.join(known)}")
    try:
        only(theirs, quantization_config=(None,))
        return known[found[0]], presets.model(presets.PLAIN | known[found[0]].model(theirs))
    except KeyError as error:
        raise UserError(f"{name} has no key {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{name} is no config of {found[0]}: {error}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def differences(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """{key: (in the first, in the second)} where two of `config.model` are other functions."""
    one, other = plain(first), plain(second)
    keys = [*one, *(key for key in other if key not in one)]
    pairs = {key: (one.get(key), other.get(key)) for key in keys if key not in FREE}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def layout_of(model: Any, length: int) -> tuple[ModuleType, dict[str, Any]]:
    """The layout in which `config.model` can be said, and its config.json.

    Raises:
        UserError: naming, for the nearest layout, each key that stands in the way and what it
            would be there.
    """
    nearest: tuple[str, dict[str, tuple[Any, Any]]] | None = None
    for name in LAYOUTS:
        layout = load(name)
        theirs = layout.config(model, length)
        _, said = read_model(theirs, name)
        between = differences(model, said)
        if not between:
            return layout, theirs
        if nearest is None or len(between) < len(nearest[1]):
            nearest = name, between
    assert nearest is not None
    name, between = nearest
    had = ", ".join(f"{key}={now!r}" for key, (now, _) in between.items())
    wanted = " ".join(
        f"--config.model.{key}={then}" for key, (_, then) in between.items() if then is not None
    )
    raise UserError(
        f"config.model has {had}, which no layout here can say; in the nearest, {name}, a run "
        f"trained with {wanted} can be exported"
    )
