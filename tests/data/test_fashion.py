"""Fashion-MNIST through our own builder, over made-up idx files of the upstream format."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from research import data
from research.data.sources import fashion_mnist as fashion
from research.errors import UserError


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """A folder with four small files in place of the upstream ones, and what they hold."""
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(
            0,
            256 if "images" in name else 10,
            (60 if "train" in name else 20, *((28, 28) if "images" in name else ())),
            dtype=np.uint8,
        )
        for name in fashion.FILES
    }
    folder = tmp_path / "upstream"
    folder.mkdir()
    for name, array in arrays.items():
        (folder / name).write_bytes(gzip.compress(idx(array), mtime=0))
    hashes = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(fashion, "FILES", hashes)
    monkeypatch.setattr(fashion, "VALIDATION", 10)
    return folder, arrays


@pytest.fixture
def config(tmp_path):
    made = data.default("fashion_mnist")
    made.folder, made.archive = str(tmp_path / "data"), str(tmp_path / "nowhere")
    return made


def contents(source):
    return sorted(
        (image.tobytes(), int(label))
        for image, label in zip(source.arrays["image"], source.arrays["label"], strict=True)
    )


def test_installed_files_become_three_splits(upstream, config):
    folder, arrays = upstream
    config.archive = str(folder)
    images, labels, test_images, test_labels = arrays.values()
    expected = {
        "train": (images[:50], labels[:50]),
        "validation": (images[50:], labels[50:]),
        "test": (test_images, test_labels),
    }
    for split, (image, label) in expected.items():
        source = data.load(config, split)
        assert source.spec["shape"] == (28, 28, 1) and source.spec["num_classes"] == 10
        pairs = zip(image, label, strict=True)
        assert contents(source) == sorted((i.tobytes(), int(c)) for i, c in pairs)


def test_other_resolutions_have_a_black_border(upstream, config):
    config.archive = str(upstream[0])
    plain = data.load(config, "test").arrays["image"]
    config.resolution = 32
    framed = data.load(config, "test").arrays["image"]
    assert np.array_equal(framed[:, 2:-2, 2:-2], plain)
    assert framed.sum(dtype=int) == plain.sum(dtype=int)
    config.resolution = 16
    assert data.load(config, "test").arrays["image"].shape == (20, 16, 16, 1)


def test_missing_files_are_downloaded(upstream, config, monkeypatch):
    folder, arrays = upstream
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *args: None  # type: ignore[method-assign]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(fashion, "URL", f"http://127.0.0.1:{server.server_port}/")
        assert len(data.load(config, "train")) == 50
    finally:
        server.shutdown()
        server.server_close()


def test_without_files_or_network_both_remedies_are_named(config, monkeypatch):
    monkeypatch.setattr(fashion, "URL", "http://127.0.0.1:9/")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(UserError, match="Debian package dataset-fashion-mnist.* network") as caught:
        data.load(config, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"not gzip", "train-labels-idx1-ubyte.gz cannot be read as gzip"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x01", mtime=0), "is not the file of Fashion-MNIST"),
    ],
)
def test_a_wrong_file_is_named(upstream, config, content, message):
    config.archive = str(upstream[0])
    (upstream[0] / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=message):
        data.load(config, "train")
