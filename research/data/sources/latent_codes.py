"""Codes of images, by a frozen autoencoder that has a codebook: tokens in raster order.

What stands first in an example, and is only read, is the image's class, whose number comes after
those of the codes; without `classes`, one token that is the same for all. So an autoregressive
family learns images, class by class, and what it draws is decoded. `length` is the codes of an
image, which a recipe writes into the config with `sha256` (see `latent_images`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research import data, latents
from research.data import source
from research.data.pack import Writer
from research.data.settings import Config
from research.data.sources import latent_images
from research.data.sources.latent_images import autoencoder, view
from research.errors import UserError, nearest

__all__ = ["view"]
DEFAULTS = {"run": "", "sha256": "", "length": 0, "classes": True}
ON_REQUEST = True


def check(given: Config) -> None:
    """Raise UserError as `latent_images` does, and for an autoencoder that has no codes."""
    if not given["run"]:
        return
    config = autoencoder(given)
    if not latents.symbols(config):
        raise UserError(
            f"data.run {given['run']} has config.model.bottleneck={config.model.bottleneck!r}, "
            "whose latents are no codes: use data.name latent_images, or an autoencoder with 'vq' "
            "or 'fsq'"
        )
    if given["length"] not in (0, _length(config)):
        raise UserError(
            f"data.length is {given['length']}; the codes of an image are {_length(config)}"
        )


def _length(config: Any) -> int:
    return math.prod(latents.shape(config)[:2])


def pins(given: Config) -> dict[str, Any]:
    """The hash of the autoencoder, and the codes of an image."""
    found = latent_images.pins(given)
    return found | {"length": _length(latents.settings(given["run"]))} if found else {}


def outline(given: Config) -> source.Spec:
    """Tokens of an image in a row of its own, int32 [length + 1]."""
    config = autoencoder(given)
    length, classes = _length(config), len(_class_names(given))
    return {
        "length": length,
        "vocab_size": latents.symbols(config) + classes,
        "unit": "tokens",
        "amount": length,
        "arrays": {"tokens": source.Column((length + 1,), np.int32, "tokens")},
    }


def _class_names(given: Config) -> list[str]:
    """Names of what may stand first."""
    config = autoencoder(given)
    return data.outline(config.data)["class_names"] if given["classes"] else ["an image"]


def identity(given: Config) -> dict[str, Any]:
    """The autoencoder, and whether its images' classes stand first."""
    return latent_images.identity(given) | {"classes": given["classes"]}


def fill(writer: Writer, given: Config) -> None:
    """Write the codes of each split after what stands first."""
    for split, code, label in latent_images.encoded(writer, given, "codes"):
        writer.append(split, "tokens", of_latents(given, code, label)["tokens"])


def of_latents(given: Config, latent: NDArray[Any], label: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The batch of codes [B, h, w] of images with these labels."""
    first = latents.symbols(autoencoder(given))
    first_Bx1 = first + label[:, None] * given["classes"]
    rows = [first_Bx1, latent.reshape(len(latent), -1)]
    return {"tokens": np.concatenate(rows, 1, dtype=np.int32)}


def beginnings(given: Config, texts: Sequence[str] = ()) -> NDArray[np.integer] | None:
    """The token of each class named in `texts`, by default of all, [N, 1]; None without classes.

    Raises:
        UserError: for a class that is none of the data's (nearest named).
    """
    if not given["classes"]:
        return None
    names = _class_names(given)
    for text in texts:
        if text not in names:
            raise UserError(f"{text!r} is not a class of the images{nearest(text, names)}")
    chosen = [names.index(text) for text in texts or names]
    first = latents.symbols(autoencoder(given))
    return first + np.array(chosen, np.int32)[:, None]


def shown(given: Config, samples: NDArray[Any]) -> NDArray[Any]:
    """Images of tokens [num, 1 + length]; one that is no code is taken for the last one."""
    config = autoencoder(given)
    height, across, _ = latents.shape(config)
    code = np.minimum(samples[:, -height * across :], latents.symbols(config) - 1)
    code = code.reshape(-1, height, across)
    return np.asarray(latents.run("decode_codes", given["run"], given["sha256"], code))
