"""An album of a run: pictures of how it draws, in its folder, which a report shows.

A picture carries its caption, so that a new one is a function here and nothing elsewhere. What a
family or a run cannot do has no picture.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research import data, families, trained
from research.errors import UserError
from research.evaluation import image_samples
from research.run import files, storage
from research.sampling import pictures

COLUMNS = 12
ROWS = 4
STRENGTHS = (1.0, 2.0, 4.0, 8.0)


class Model(NamedTuple):
    """A run that draws, and what all of its pictures begin with.

    Attributes:
        family: the module.
        config: of the run.
        params: its parameters.
        real_BxHxWxC: held-out images, one for each column.
        given: what the family's `sample` is told of them, classes or texts, [columns, ...].
    """

    family: Any
    config: ConfigDict
    params: Any
    real_BxHxWxC: NDArray
    given: dict[str, NDArray]

    def draw(self, seed: int = 0, **asked: Any) -> NDArray:
        """An image a column."""
        given = {**self.given, **asked}
        return self.family.sample(self.config, self.params, jax.random.key(seed), COLUMNS, **given)


class Picture(NamedTuple):
    """Images [rows * columns, H, W, C], row by row, and what they show."""

    images: NDArray
    columns: int
    caption: str


def film(model: Model) -> Picture | None:
    """What the network makes of the noise, step by step."""
    if not hasattr(model.family, "film"):
        return None
    own = {name: each[:ROWS] for name, each in model.given.items()}
    frames = model.family.film(model.config, model.params, jax.random.key(0), ROWS, **own)
    caption = "From noise to image: what the network guesses on the way"
    return Picture(pictures.spread(frames, COLUMNS), COLUMNS, caption)


def guidance(model: Model) -> Picture | None:
    """One noise and one class a column, one strength a row.

    Raises:
        UserError: where the run cannot be guided, as its family's `check` says.
    """
    if "guidance" not in model.config.sampling:
        return None
    guided = []
    for strength in STRENGTHS:
        config = model.config.copy_and_resolve_references()
        config.sampling.guidance = strength
        families.check(config, data.outline(config.data))
        guided.append(model._replace(config=config))
    rows = [each.draw() for each in guided]
    said = ", ".join(f"{each:g}" for each in STRENGTHS)
    caption = f"Guided by {said} (1: not at all), a row each; a column is one class and one noise"
    return Picture(np.concatenate(rows), COLUMNS, caption)


def between(model: Model) -> Picture | None:
    """Along the great circle between two noises."""
    if "path" not in getattr(model.family, "REQUESTS", ()):
        return None
    rows = []
    for row in range(ROWS):
        own = {name: each[row : row + 1].repeat(COLUMNS, 0) for name, each in model.given.items()}
        rows.append(model.draw(row, **own, path=True))
    return Picture(np.concatenate(rows), COLUMNS, "From one noise to another, a row each")


def filled(model: Model) -> Picture | None:
    """The right half of held-out images, drawn anew."""
    if "mask_BxHxWx1" not in getattr(model.family, "REQUESTS", ()):
        return None
    if not model.config.model.get("discrete"):
        return None  # the half of a latent is no half of an image
    real = model.real_BxHxWxC
    mask = np.zeros((*real.shape[:3], 1), np.float32)
    mask[:, :, real.shape[2] // 2 :] = 1
    asked = {"image_BxHxWxC": real, "mask_BxHxWx1": mask}
    drawn = [model.draw(seed, **asked) for seed in (0, 1)]
    kept = np.where(mask > 0, np.uint8(127), real)
    caption = "Held-out images, what is kept of them, and two ways to fill the hole"
    return Picture(np.concatenate([real, kept, *drawn]), COLUMNS, caption)


def traversals(model: Model) -> Picture | None:
    """One number of a held-out image's latent is moved, the others stay: those that vary most."""
    if not hasattr(model.family, "decode"):
        return None
    given, label = (model.config, model.params), model.given.get("label")
    latents = np.asarray(model.family.encode(*given, model.real_BxHxWxC, None, label))
    flat = latents.reshape(len(latents), -1)
    chosen = np.argsort(-flat.var(0))[:ROWS]
    moved = np.broadcast_to(flat[0], (len(chosen), COLUMNS, flat.shape[1])).copy()
    for row, number in enumerate(chosen):
        moved[row, :, number] = np.linspace(-3, 3, COLUMNS)
    told = None if label is None else label[:1].repeat(len(chosen) * COLUMNS)
    images = model.family.decode(*given, moved.reshape(-1, *latents.shape[1:]), told)
    caption = "One number of the latent from -3 to 3 deviations, a row each: the most various"
    return Picture(np.asarray(images), COLUMNS, caption)


PICTURES: tuple[Callable[[Model], Picture | None], ...] = (
    film, guidance, between, filled, traversals,
)  # fmt: skip


def pictures_of(config: ConfigDict, params: Any) -> Iterator[tuple[str, Picture]]:
    """Every picture that a run can draw, with its name."""
    held = data.load(config.data, "validation")
    real = image_samples.chosen(held, COLUMNS, seed=0)
    told = {"label": "num_classes", "text": "text_vocab"}
    given = {name: real[name] for name, key in told.items() if config.model.get(key)}
    model = Model(families.load(config.family), config, params, real["image"], given)
    for draw in PICTURES:
        with contextlib.suppress(UserError):  # a map from noise to images, say, fills no hole
            if found := draw(model):
                yield draw.__name__, found


def write(run: str | Path, ema: float | None = None) -> Path:
    """Draw the album of the run in a folder; return the album's.

    Raises:
        UserError: when there is no run, or it draws no images in steps.
    """
    config, params = trained.load(run, ema)
    if not getattr(families.load(config.family), "REQUESTS", ()):
        raise UserError(
            f"--album: {run} is of family {config.family!r}, which has no such pictures"
        )
    folder = storage.path(run) / files.ALBUM
    for name, (images, columns, caption) in pictures_of(config, params):
        shown = data.shown(config.data, images)
        content = pictures.to_png(shown, columns=columns, caption=caption)
        storage.write(folder / f"{name}.png", content)
    return folder
