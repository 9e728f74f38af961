"""Data that cannot be read are not damaged, and what another process needs is left alone."""

import errno
import os
import shutil
import stat
from pathlib import Path

import filelock
import pytest

from research import data
from research.data import builders, pack
from research.data.sources import python_stdlib as stdlib
from research.errors import UserError
from research.run import alone, storage

FAULTS = {
    "permission": (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    "disk": (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    "server": (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
    "memory": (MemoryError(), "out of memory"),
}


def content(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def fail(monkeypatch, function, name, fault):
    """Let `Path.function` fail on files called `name`."""
    original = getattr(Path, function)

    def failing(self, *args, **kwargs):
        if self.name == name:
            raise fault
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, function, failing)


@pytest.mark.parametrize("name", ["meta.json", "train.tokens"])
@pytest.mark.parametrize("fault, said", FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_read_is_not_called_damaged(small_chain, monkeypatch, name, fault, said):
    data.load(small_chain, "train")
    before = content(small_chain.folder)
    with monkeypatch.context() as patched:
        fail(patched, "open", name, fault)
        with pytest.raises(UserError, match=f"cannot read .*{name}: {said}; nothing") as caught:
            data.load(small_chain, "train")
    assert "\n" not in str(caught.value) and "delete" not in str(caught.value)
    assert content(small_chain.folder) == before
    assert len(data.load(small_chain, "train")) == 100


def test_a_folder_that_cannot_be_searched(small_chain, monkeypatch):
    """It is neither absent, to be prepared again, nor a traceback."""
    key = data.describe(small_chain)["folder"].rpartition("/")[2]
    fail(monkeypatch, "stat", key, FAULTS["permission"][0])
    with pytest.raises(UserError, match=f"cannot read .*{key}: Permission denied; nothing"):
        data.load(small_chain, "train")


@pytest.mark.parametrize("name", ["meta.json", "train.tokens"])
def test_a_folder_where_a_file_is_expected(small_chain, name):
    data.load(small_chain, "train")
    (file,) = Path(small_chain.folder).rglob(name)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=f"cannot read .*{name}: Is a directory; nothing"):
        data.load(small_chain, "train")
    assert file.is_dir()


def test_a_source_that_cannot_be_read_is_named(small_text, tmp_path, monkeypatch):
    """It does not lie in the data folder, which would then be said not to be writable."""
    config = small_text.copy_and_resolve_references()
    config.folder = str(tmp_path / "data")

    def denied(*args):
        raise PermissionError(errno.EACCES, "Permission denied", "/usr/lib/python3/json/tool.py")

    monkeypatch.setattr(stdlib, "documents", denied)
    with pytest.raises(UserError, match="cannot read /usr/lib/python3/json/tool.py: Permission"):
        data.load(config, "train")


@pytest.mark.parametrize("mask, folders, files", [(0o002, 0o775, 0o664), (0o077, 0o700, 0o600)])
def test_the_umask_decides_who_else_may_read_and_prepare(small_chain, mask, folders, files):
    former = os.umask(mask)
    try:
        data.load(small_chain, "train")
    finally:
        os.umask(former)
    modes = {
        path: stat.S_IMODE(path.stat().st_mode) for path in Path(small_chain.folder).rglob("*")
    }
    assert {mode for path, mode in modes.items() if path.is_dir()} == {folders}
    locks = [mode for path, mode in modes.items() if path.name == ".markov.lock"]
    arrays = {mode for path, mode in modes.items() if path.name.endswith(".tokens")}
    assert locks == [files] and arrays == {files}


def test_a_lock_is_open_to_whoever_may_write_the_folder(tmp_path):
    """Under a strict umask as well: the folder says who shares it."""
    tmp_path.chmod(0o770)
    former = os.umask(0o077)
    try:
        with alone.lock(tmp_path, "markov", "preparing"):
            assert stat.S_IMODE((tmp_path / ".markov.lock").stat().st_mode) == 0o660
    finally:
        os.umask(former)


def test_only_unfinished_packs_of_the_same_key_are_removed(small_chain):
    packed = Path(small_chain.folder, "packed")
    key = data.describe(small_chain)["folder"].rpartition("/")[2]
    (packed / key).rename(packed / "kept")
    unfinished = packed / f".{key}.0{storage.TEMPORARY}"
    others = [packed / f".{key}.swp", packed / f".{key}0.0{storage.TEMPORARY}"]
    for folder in (unfinished, *others):
        folder.mkdir()
    data.load(small_chain, "train")
    assert {path.name for path in packed.iterdir()} == {
        key, "kept", *(path.name for path in others)
    }  # fmt: skip


def test_configs_of_one_data_set_wait_for_each_other(tmp_path, capsys):
    """TFDS makes mnist and mnist/3.0.1 in one place, and each would clear what the other writes."""

    def fill(writer):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / ".mnist.lock").acquire(timeout=0)

    assert pack.ensure(tmp_path, "mnist/3.0.1", "mnist-3.0.1-v1", {}, fill).meta["splits"] == {}


def test_what_tfds_writes_of_another_version_is_left(tmp_path):
    class Builder:
        data_dir = str(tmp_path / "mnist" / "3.0.1")

        def download_and_prepare(self):
            pass

    home = tmp_path / "mnist"
    for name in ("incomplete.ABCDEF_3.0.1", "incomplete.ABCDEF_3.0.0"):
        (home / name).mkdir(parents=True)
    builder: object = Builder()
    builders.download_and_prepare(builder)  # pyright: ignore[reportArgumentType]
    assert [path.name for path in home.iterdir()] == ["incomplete.ABCDEF_3.0.0"]


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "flipped": ("*train.array_record*", flip, "1.0.0 is damaged .Corrupted.*; delete it"),
    "removed": ("*train.array_record*", Path.unlink, "cannot read .*1.0.0: .*No such file"),
    "no JSON": (
        "dataset_info.json",
        lambda file: file.write_text("{"),
        "TFDS cannot open .*glyphs",
    ),
}


@pytest.mark.parametrize("pattern, damage, said", DAMAGE.values(), ids=DAMAGE)
def test_what_tfds_prepared_is_damaged(small_glyphs, tmp_path, pattern, damage, said):
    """The records from which packs of other resolutions are made."""
    config = small_glyphs.copy_and_resolve_references()
    config.folder = str(tmp_path / "data")
    shutil.copytree(Path(small_glyphs.folder, "tfds"), tmp_path / "data" / "tfds")
    (file,) = tmp_path.rglob(pattern)
    damage(file)
    with pytest.raises(UserError, match=said) as caught:
        data.load(config, "train")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data" / "packed").iterdir())
