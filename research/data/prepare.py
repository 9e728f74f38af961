"""What is inside each source's pack, and the key that tells one pack from another."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from research.data import fashion, gaussian_mixture, glyphs, imaging, markov, stdlib
from research.data.pack import Pack, Writer, ensure
from research.data.settings import data_folder

CONTENT_VERSION = 1  # raised when a source is made in another way from the same settings

Data = dict[str, Any]


def prepare(data: Data) -> Pack:
    """Return the pack of a checked config, after preparing it when it is not there.

    Raises:
        UserError: when it cannot be prepared or a file of it is damaged.
    """
    folder, made = data_folder(data), identity(data)
    fills: dict[str, Callable[[Writer, Data, Path, str], None]] = {
        "python_stdlib": _fill_python_stdlib,
        "glyphs": _fill_glyphs,
        "fashion_mnist": _fill_fashion_mnist,
        "markov": _fill_markov,
        "gaussian_mixture": _fill_gaussian_mixture,
    }
    fill = fills.get(data["name"], _fill_foreign)
    # One TFDS data set serves every resolution.
    config = _digest({key: value for key, value in made.items() if key != "resolution"})
    name = data["name"]
    return ensure(folder, name, key(data, made), made, lambda w: fill(w, data, folder, config))


def identity(data: Data) -> dict[str, Any]:
    """Return every value that decides the content of the pack of a checked config."""
    name = data["name"]
    made: dict[str, Any] = {"version": CONTENT_VERSION}
    if name == "python_stdlib":
        return made | stdlib.identity(data["include_tests"], data["files"])
    if name == "glyphs":
        return made | {"resolution": data["resolution"]} | glyphs.identity(data["fonts"])
    if name in ("markov", "gaussian_mixture"):
        return made | {k: v for k, v in data.items() if k not in ("name", "folder")}
    keys = ("resolution", "feature")
    return made | {key: data[key] for key in keys if key in data}


def key(data: Data, made: dict[str, Any]) -> str:
    """Return the folder name of a pack: what a reader wants to know, then a digest of it all."""
    words = [data["name"].replace("/", "-")]
    if data["name"] == "python_stdlib":
        words += [made["python"].replace(" ", "-").lower()]
        words += ["tests"] if data["include_tests"] else []
    if data.get("resolution"):
        words += [f"r{data['resolution']}"]
    return "-".join([*words, f"v{CONTENT_VERSION}", _digest(made)])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _fill_python_stdlib(writer: Writer, data: Data, folder: Path, config: str) -> None:
    from research.data import builders

    builder = builders.open_builder(builders.PythonStdlib, folder, config, data)
    writer.facts["kind"] = "text"
    for split in builder.info.splits:
        for example in builders.read(builder, split):
            writer.append(split, "tokens", np.frombuffer(example["text"] + b"\0", np.uint8))


def _fill_glyphs(writer: Writer, data: Data, folder: Path, config: str) -> None:
    from research.data import builders

    builder = builders.open_builder(builders.Glyphs, folder, config, data)
    writer.facts["kind"] = "image"
    writer.facts["class_names"] = {
        "category": list(glyphs.CATEGORIES),
        "style": glyphs.styles(),
    }
    _fill_images(writer, builder, data["resolution"], ("category", "style"))


def _fill_fashion_mnist(writer: Writer, data: Data, folder: Path, config: str) -> None:
    from research.data import builders

    builder = builders.open_builder(builders.FashionMnist, folder, config, data)
    writer.facts["kind"] = "image"
    writer.facts["class_names"] = list(fashion.CLASSES)
    _fill_images(writer, builder, data["resolution"], ("label",))


def _fill_images(writer: Writer, builder: Any, resolution: int, labels: tuple[str, ...]) -> None:
    """Pack grey images at `resolution`; a 28x28 image gets a black border before it is halved."""
    from research.data import builders

    for split in builder.info.splits:
        images, rows = [], []
        for example in builders.read(builder, split, skip="image"):
            image = imaging.decode(example["image"], 1)
            if resolution != image.shape[0]:
                image = imaging.resize(imaging.pad(image, 32), resolution)
            images.append(image)
            rows.append([example[label] for label in labels])
        shape = (-1, resolution, resolution, 1)
        writer.append(split, "image", np.array(images, np.uint8).reshape(shape))
        columns = np.array(rows, np.int32).reshape(-1, len(labels)).T
        for label, column in zip(labels, columns, strict=True):
            writer.append(split, label, column)


def _fill_markov(writer: Writer, data: Data, folder: Path, config: str) -> None:
    drawn = markov.splits(data)
    writer.facts["kind"] = "text"
    writer.facts["floor"] = markov.floor(data, drawn["validation"])
    for split, windows in drawn.items():
        writer.append(split, "tokens", windows.ravel())


def _fill_gaussian_mixture(writer: Writer, data: Data, folder: Path, config: str) -> None:
    drawn = gaussian_mixture.splits(data)
    writer.facts["kind"] = "image"
    writer.facts["class_names"] = [f"component {k}" for k in range(data["components"])]
    writer.facts["floor"] = gaussian_mixture.floor(data, drawn["validation"][0])
    for split, (images, labels) in drawn.items():
        writer.append(split, "image", images)
        writer.append(split, "label", labels)


def _fill_foreign(writer: Writer, data: Data, folder: Path, config: str) -> None:
    from research.data import foreign

    foreign.fill(writer, foreign.open_builder(data, folder), data)
