"""TFDS builders of the sources this project makes, and how their examples are read back.

Without TensorFlow: array_record files, images handed over as PNG bytes and decoded by Pillow.
Importing this module imports TFDS, so only a preparation does it.
"""

import contextlib
import io
import logging
import shutil
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core import registered

from research.data import imaging, prepare
from research.data.pack import Writer
from research.data.settings import Config, data_folder
from research.errors import UserError

Examples = Iterable[tuple[str, dict[str, Any]]]  # (key, features)


def prepared(
    data: Config, features: dict[str, Any], splits: Callable[[Any], Mapping[str, Examples]]
) -> tfds.core.DatasetBuilder:
    """Return a builder of the source data["name"], prepared below its data folder.

    One TFDS data set serves every resolution, every tokenizer, all filters and names or none.

    Args:
        data: the checked config of the source.
        features: by name "text", the shape of a PNG image, or the names of classes.
        splits: given TFDS's download manager, the examples of each split; an empty one is left out.

    Raises:
        UserError: when what TFDS left there cannot be read.
    """
    name, folder = data["name"], data_folder(data) / "tfds"
    made = prepare.identity(dict(data.items()))
    config = prepare.digest(
        {k: made[k] for k in made if k not in ("resolution", "words", "tokenizer", "filters")}
    )
    with registered.skip_registration():  # TFDS has a fashion_mnist of its own

        class Builder(tfds.core.GeneratorBasedBuilder):
            """The examples of one source, as TFDS wants them."""

            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> tfds.core.DatasetInfo:
                known = {key: _feature(value) for key, value in features.items()}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(known)
                )

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                found = splits(dl_manager).items()
                return {s: self._generate_examples(each) for s, each in found if each != []}

            def _generate_examples(self, examples: Examples) -> Iterator:
                yield from examples

    Builder.name = name
    with _quiet():
        try:
            builder = Builder(
                data_dir=str(folder),
                file_format="array_record",
                config=tfds.core.BuilderConfig(name=config),
            )
        except Exception as error:  # of the JSON beside the records, by protobuf
            home, reason = folder / name / config, str(error).strip().partition("\n")[0][:120]
            raise UserError(f"TFDS cannot open {home}: {reason}") from error
    download_and_prepare(builder)
    return builder


def _feature(about: Any) -> Any:
    if about == "text":
        return tfds.features.Text()
    if isinstance(about, tuple):
        return tfds.features.Image(shape=about, encoding_format="png")
    return tfds.features.ClassLabel(names=about)


def pack_images(
    writer: Writer,
    builder: Any,
    resolution: int,
    labels: tuple[str, ...],
    beside: Mapping[str, Callable[[dict[str, Any]], NDArray[Any]]] = MappingProxyType({}),
) -> None:
    """Pack grey images at `resolution`; a 28x28 image gets a black border before it is halved.

    Args:
        beside: {array: what is in it of one example}, beside images and labels.
    """
    for split in builder.info.splits:
        images, rows, others = [], [], {name: [] for name in beside}
        for example in read(builder, split, skip="image"):
            image = imaging.decode(example["image"], 1)
            if resolution != image.shape[0]:
                image = imaging.resize(imaging.pad(image, 32), resolution)
            images.append(image)
            rows.append([example[label] for label in labels])
            for name, of_example in beside.items():
                others[name].append(of_example(example))
        shape = (-1, resolution, resolution, 1)
        writer.append(split, "image", np.array(images, np.uint8).reshape(shape))
        columns = np.array(rows, np.int32).reshape(-1, len(labels)).T
        for label, column in zip(labels, columns, strict=True):
            writer.append(split, label, column)
        for name, each in others.items():
            writer.append(split, name, np.stack(each))


def download(urls: dict[str, str], manager: Any, missing: str) -> dict[str, Path]:
    """Return the downloaded files by name, or raise UserError(`missing`)."""
    if not reachable(urls.values()):
        raise UserError(missing)
    try:
        return {name: Path(path) for name, path in manager.download(urls).items()}
    except Exception as error:  # TFDS raises what its download library does
        raise UserError(f"{missing} ({error})") from error


def reachable(urls: Iterable[str]) -> bool:
    """Whether a connection to the first host of `urls` can be opened (assumed behind a proxy).

    TFDS itself would retry for minutes on a machine without a network.
    """
    hosts = [urllib.parse.urlsplit(url) for url in urls]
    hosts = [each for each in hosts if each.scheme in ("http", "https") and each.hostname]
    if not hosts or urllib.request.getproxies():
        return True
    port = hosts[0].port or (443 if hosts[0].scheme == "https" else 80)
    try:
        socket.create_connection((hosts[0].hostname or "", port), timeout=10).close()
    except OSError:
        return False
    return True


def download_and_prepare(builder: tfds.core.DatasetBuilder, progress: bool = False) -> None:
    """Prepare `builder` unless it is; TFDS renames the finished folder into place.

    What a killed preparation of the same left is removed first: the caller holds its lock.
    """
    home = Path(builder.data_dir)
    if not home.exists():
        for stale in home.parent.glob(f"incomplete.*_{home.name}"):
            shutil.rmtree(stale, ignore_errors=True)
    with _quiet(progress):
        builder.download_and_prepare()


def read(builder: Any, split: str, skip: str = "") -> Iterator[dict[str, Any]]:
    """Yield the examples of `split` in TFDS's order, which is fixed by their keys.

    Args:
        builder: a prepared builder.
        split: a split of it.
        skip: the image feature to leave encoded, as bytes.

    Raises:
        UserError: when what TFDS prepared cannot be read or is damaged.
    """
    decoders: Any = {skip: tfds.decode.SkipDecoding()} if skip else None
    with _one_line(Path(builder.data_dir)):
        source = builder.as_data_source(split=split, decoders=decoders)
    for start in range(0, len(source), 1024):
        with _one_line(Path(builder.data_dir)):
            examples = source.__getitems__(range(start, min(start + 1024, len(source))))
        yield from examples


@contextlib.contextmanager
def _one_line(home: Path) -> Iterator[None]:
    """Say in one line that what TFDS prepared in `home` cannot be read, or is damaged."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record's, of any kind
        reason = str(error).strip().partition("\n")[0][:120]
        if reason.startswith("Corrupted"):  # by its checksums
            raise UserError(f"{home} is damaged ({reason}); delete it and run again") from error
        raise UserError(f"cannot read {home}: {reason}; nothing was changed") from error


@contextlib.contextmanager
def _quiet(progress: bool = False) -> Iterator[None]:
    """Keep TFDS's announcements off stdout, and its bars too unless `progress`."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    if progress:
        tfds.enable_progress_bar()
    else:
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr if progress else io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.enable_progress_bar()
