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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from research.data import fashion, glyphs, imaging, stdlib
from research.errors import UserError


class _Config(tfds.core.BuilderConfig):
    """A TFDS config that carries the settings of the source."""

    def __init__(self, name: str, settings: dict[str, Any]):
        super().__init__(name=name)
        self.settings = settings


class _Builder(tfds.core.GeneratorBasedBuilder):
    """What the three builders share: one config object, and generators made from lists."""

    VERSION = tfds.core.Version("1.0.0")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        with registered.skip_registration():  # TFDS has a fashion_mnist of its own
            super().__init_subclass__(**kwargs)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the source, as its config carries them."""
        config: Any = self.builder_config
        return config.settings

    def _generate_examples(self, examples: Iterator[tuple[str, dict]]) -> Iterator:
        yield from examples


class PythonStdlib(_Builder):
    """Source files of the running interpreter's standard library."""

    name = "python_stdlib"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"path": tfds.features.Text(), "text": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Source files of a Python standard library; near-duplicates on one side.",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        splits = stdlib.documents(self.settings["include_tests"], self.settings["files"])
        return {
            split: self._generate_examples(stdlib.examples(documents))
            for split, documents in splits.items()
            if documents  # TFDS refuses an empty split
        }


class Glyphs(_Builder):
    """Characters drawn by the fonts inside matplotlib, 32x32 grey."""

    name = "glyphs"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(32, 32, 1), encoding_format="png"),
            "text": tfds.features.Text(),
            "category": tfds.features.ClassLabel(names=list(glyphs.CATEGORIES)),
            "style": tfds.features.ClassLabel(names=glyphs.styles()),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Named characters of the DejaVu and STIXGeneral fonts, split by character.",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        splits = glyphs.splits(self.settings["fonts"])
        return {s: self._generate_examples(iter(each)) for s, each in splits.items() if each}


class FashionMnist(_Builder):
    """Fashion-MNIST from the upstream idx files, installed or downloaded."""

    name = "fashion_mnist"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(fashion.CLASSES)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Fashion-MNIST; the last 5,000 training images are the validation split.",
            features=tfds.features.FeaturesDict(features),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        paths = fashion.archive(self.settings["archive"])
        if paths is None:
            paths = _download({name: fashion.URL + name for name in fashion.FILES}, dl_manager)
        return {
            split: self._generate_examples(
                (f"{split} {i:05d}", {"image": imaging.png(image), "label": int(label)})
                for i, (image, label) in enumerate(zip(images, labels, strict=True))
            )
            for split, (images, labels) in fashion.read(paths).items()
        }


def _download(urls: dict[str, str], dl_manager: Any) -> dict[str, Path]:
    missing = f"Fashion-MNIST is not installed and cannot be downloaded; {fashion.REMEDIES}"
    if not reachable(urls.values()):
        raise UserError(missing)
    try:
        return {name: Path(path) for name, path in dl_manager.download(urls).items()}
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


def open_builder(
    kind: type[_Builder], folder: Path, config: str, settings: dict[str, Any]
) -> tfds.core.DatasetBuilder:
    """Return a builder of this project, prepared under `folder`/tfds."""
    with _quiet():
        try:
            builder = kind(
                data_dir=str(folder / "tfds"),
                file_format="array_record",
                config=_Config(config, settings),
            )
        except Exception as error:  # of the JSON beside the records, by protobuf
            home = folder / "tfds" / kind.name / config
            reason = str(error).strip().partition("\n")[0][:120]
            raise UserError(f"TFDS cannot open {home}: {reason}") from error
    prepare(builder)
    return builder


def prepare(builder: tfds.core.DatasetBuilder, progress: bool = False) -> None:
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
