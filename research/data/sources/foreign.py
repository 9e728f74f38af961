"""Any other TFDS data set: its first image or text feature through the same pipeline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.data import imaging, source, texts, tokenizers
from research.data.pack import Writer
from research.data.settings import Config, data_folder
from research.errors import UserError, nearest

# feature: "" takes the first image, else the first text; resolution: 0 keeps the size of images.
DEFAULTS = {**texts.DEFAULTS, "resolution": 0, "feature": ""}
DIFFER = "the images of {} differ in size; give data.resolution, such as 32"
EVERY = 20  # where a split is missing, one training example in twenty makes it


def check_name(name: str, ours: Sequence[str]) -> None:
    """Refuse a name that is neither one of `ours` nor known to TFDS.

    Raises:
        UserError: naming the nearest source.
    """
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        hint = nearest(name, ours) or nearest(name, known)
        raise UserError(
            f"data.name is {name!r}, which is neither {', '.join(ours)} nor a TFDS name{hint}"
        )


check = texts.check  # text or images, its keys of text are right


def identity(data: Config) -> dict[str, Any]:
    """The release of TFDS is not in it: TFDS numbers the versions of a data set itself."""
    own = {key: data[key] for key in ("resolution", "feature")}
    return {**own, **texts.identity(data)}


words = tokenizers.words


def outline(data: Config) -> source.Spec:
    """Text, or images; a builder knows its features before its files.

    Raises:
        UserError: when TFDS cannot say them, or they are images whose size needs data.resolution.
    """
    import tensorflow_datasets as tfds

    try:
        features = tfds.builder(data["name"]).info.features
    except Exception as error:  # a builder of TFDS may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"TFDS cannot describe {data['name']}: {reason}") from error
    chosen: Any = features[feature(features, data["feature"])]
    if type(chosen).__name__ != "Image":
        return texts.outline(data)
    sides = (data["resolution"],) * 2 if data["resolution"] else chosen.shape[:2]
    if None in sides:
        raise UserError(DIFFER.format(data["name"]))
    return source.images((*sides, chosen.shape[-1] or 3), label(features)[1])


def open_builder(data: Config) -> Any:
    """Return the prepared TFDS builder of data.name.

    Raises:
        UserError: when it needs a network or a package (such as TensorFlow) that is not here.
    """
    import tensorflow_datasets as tfds

    from research.data import builders

    name, folder = data["name"], data_folder(data)
    try:
        builder = tfds.builder(name, data_dir=str(folder / "tfds"), file_format="array_record")
        feature(builder.info.features, data["feature"])
        urls = builder.url_infos or ()
        if not Path(builder.data_dir).exists() and not builders.reachable(urls):
            raise UserError(
                f"TFDS must download {name} and no network is reachable; prepare it elsewhere and"
                f" copy {folder / 'tfds'}, or use a source that is on every machine: python_stdlib"
            )
        builders.download_and_prepare(builder, progress=True)
    except (UserError, KeyboardInterrupt):
        raise
    except ImportError as error:
        missing = error.name or str(error)
        raise UserError(f"TFDS needs {missing} to prepare {name}: pip install {missing}") from error
    except Exception as error:  # a builder of TFDS may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"TFDS cannot prepare {name}: {reason}") from error
    return builder


def fill(writer: Writer, data: Config) -> None:
    """Write every split of a TFDS data set: its text, or its images as uint8.

    A validation or test split that is missing takes one training example in twenty.

    Raises:
        UserError: when the images differ in size and data.resolution is 0.
    """
    builder = open_builder(data)
    chosen = feature(builder.info.features, data["feature"])
    if type(builder.info.features[chosen]).__name__ == "Image":
        _fill_images(writer, data, builder, chosen)
    else:
        texts.fill(writer, data, lambda _: _texts(builder, chosen))


def documents(data: Config) -> Iterator[tuple[str, bytes]]:
    """Yield (split, text) of a data set of text, as a mixture reads it.

    Raises:
        UserError: when it is one of images.
    """
    builder = open_builder(data)
    chosen = feature(builder.info.features, data["feature"])
    if type(builder.info.features[chosen]).__name__ == "Image":
        raise UserError(f"{data['name']} is a data set of images; documents are text")
    yield from _texts(builder, chosen)


def _texts(builder: Any, chosen: str) -> Iterator[tuple[str, bytes]]:
    for split, example in _examples(builder):
        yield split, example[chosen]


def _fill_images(writer: Writer, data: Config, builder: Any, chosen: str) -> None:
    labels = label(builder.info.features)
    channels = builder.info.features[chosen].shape[-1] or 3
    for split, example in _examples(builder, chosen):
        pixels = imaging.decode(example[chosen], channels)
        if data["resolution"]:
            pixels = imaging.resize(pixels, data["resolution"])
        try:
            writer.append(split, "image", pixels[None])
        except ValueError:
            raise UserError(DIFFER.format(data["name"])) from None
        number = int(example[labels[0]]) if labels[0] else 0
        writer.append(split, "label", np.array([number], np.int32))


def _examples(builder: Any, skip: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    from research.data import builders

    present = builder.info.splits
    if "train" not in present:
        raise UserError(f"{builder.name} has no train split; it has {', '.join(present)}")
    missing = [split for split in ("validation", "test") if split not in present]
    for split in ("train", "validation", "test"):
        if split not in missing:
            for number, example in enumerate(builders.read(builder, split, skip)):
                part = number % EVERY
                moved = split == "train" and part < len(missing)
                yield (missing[part] if moved else split), example


def feature(features: Any, wanted: str) -> str:
    """Return the feature to learn: `wanted`, else the first image, else the first text."""
    kinds = {key: type(value).__name__ for key, value in features.items()}
    usable = [k for k in kinds if kinds[k] == "Image"] + [k for k in kinds if kinds[k] == "Text"]
    if wanted and wanted not in usable:
        raise UserError(
            f"data.feature is {wanted!r}; the image and text features are"
            f" {', '.join(usable) or 'none'}{nearest(wanted, usable)}"
        )
    if not usable:
        raise UserError(f"this TFDS data set has no image or text feature; it has {list(kinds)}")
    return wanted or usable[0]


def label(features: Any) -> tuple[str, list[str]]:
    """Return the first class label feature and its names; one class when there is none."""
    for key, value in features.items():
        if type(value).__name__ == "ClassLabel":
            return key, [str(name) for name in value.names]
    return "", ["all"]
