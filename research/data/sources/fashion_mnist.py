"""Fashion-MNIST (Xiao 2017, arXiv 1708.07747) from its four upstream idx files."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import imaging, source
from research.data.pack import Writer
from research.data.settings import Config
from research.errors import UserError

# archive: where the four upstream .gz files are looked for before they are downloaded.
DEFAULTS = {"resolution": 28, "archive": "/usr/share/datasets/fashion-mnist", "unique": 0}
ON_REQUEST = True  # where the Debian package is not installed

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# sha256 of the content; the .gz files differ from mirror to mirror in their headers.
FILES = {
    f"{name}-ubyte.gz": sha256
    for name, sha256 in (
        ("train-images-idx3", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        ("train-labels-idx1", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ("t10k-images-idx3", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("t10k-labels-idx1", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    )
}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VALIDATION = 5_000  # the last images of upstream's training file
REMEDIES = "install the Debian package dataset-fashion-mnist, or run where the network is reachable"


def check(data: Config) -> None:
    """Raise UserError for a resolution or a number of images that is not there."""
    imaging.check(data)


def outline(data: Config) -> source.Spec:
    """Grey images of ten classes."""
    return source.images((data["resolution"], data["resolution"], 1), CLASSES)


def identity(data: Config) -> dict[str, int]:
    """The files are known by their sha256, wherever they lie."""
    return {"resolution": data["resolution"]}


def fill(writer: Writer, data: Config) -> None:
    """Write every image and its class, in the order that TFDS gave them."""
    from research.data import builders

    features = {"image": (28, 28, 1), "label": list(CLASSES)}
    builder = builders.prepared(data, features, lambda manager: _examples(data, manager))
    builders.pack_images(writer, builder, data["resolution"], ("label",))


def _examples(data: Config, manager: Any) -> dict[str, Any]:
    """Return (key, features) of each split, read from the installed files or downloaded ones."""
    from research.data import builders

    paths = archive(data["archive"])
    if paths is None:
        missing = f"Fashion-MNIST is not installed and cannot be downloaded; {REMEDIES}"
        paths = builders.download({name: URL + name for name in FILES}, manager, missing)
    return {
        split: (
            (f"{split} {i:05d}", {"image": imaging.png(image), "label": int(label)})
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        )
        for split, (images, labels) in read(paths).items()
    }


def archive(folder: str) -> dict[str, Path] | None:
    """Return the four files of `folder` by name, or None when one is missing."""
    paths = {name: Path(folder, name) for name in FILES}
    return paths if all(path.is_file() for path in paths.values()) else None


def read(paths: dict[str, Path]) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Return (images uint8 [n, 28, 28], labels int32 [n]) of train, validation and test.

    Raises:
        UserError: when a file is not the upstream one.
    """
    arrays = {name: _idx(path, FILES[name]) for name, path in paths.items()}
    images, labels, test_images, test_labels = (arrays[name] for name in FILES)
    labels, test_labels = labels.astype(np.int32), test_labels.astype(np.int32)
    return {
        "train": (images[:-VALIDATION], labels[:-VALIDATION]),
        "validation": (images[-VALIDATION:], labels[-VALIDATION:]),
        "test": (test_images, test_labels),
    }


def _idx(path: Path, sha256: str) -> NDArray[np.uint8]:
    """Read an idx file: two zero bytes, a type, the number of axes, each axis, the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:  # of the file, not of its format
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise UserError(f"{path} cannot be read as gzip: {error}; {REMEDIES}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} is not the file of Fashion-MNIST (sha256); {REMEDIES}")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
