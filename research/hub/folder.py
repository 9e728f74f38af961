"""A folder of `transformers`: its config.json, and its tensors in one safetensors file or more."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from research import hub
from research.errors import UserError
from research.hub import links
from research.run import record, storage

CONFIG, WHOLE = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = 5 * 10**9  # bytes of a file, as the hub would have them at most


def there(name: str | Path) -> bool:
    """Whether `name` is such a folder, and no run of ours."""
    path = storage.path(name) / CONFIG
    return path.is_file() and "architectures" in record.read_json(path, dict[str, Any])


def read_config(name: str | Path) -> tuple[ModuleType, ConfigDict]:
    """The layout of a folder, and the `config.model` that it says.

    Raises:
        UserError: for a folder that cannot be read, or a network that is not ours.
    """
    path = _inside(_local(name), CONFIG)
    return hub.read_model(record.read_json(path, dict[str, Any]), str(path))


def read(name: str | Path, config: ConfigDict) -> dict[str, Any]:
    """The parameters of a folder, as `config`'s network has them when `config.model` is theirs.

    Raises:
        UserError: for a tensor that is missing, has another shape or belongs to nothing; or a file
            that is outside the folder.
    """
    folder = _local(name)
    layout, model = read_config(folder)
    config = config.copy_and_resolve_references()
    config.model = model
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_opened(path)) for path in _files(folder)]
        where = {name: file for file in files for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in where.items()}
        names = links.check(layout, config, shapes, folder)

        def tensor(name: str) -> np.ndarray:
            return where[names[name]].get_tensor(names[name]).astype(np.float32)

        return links.to_ours(layout, config, tensor)


def _local(name: str | Path) -> Path:
    folder = storage.path(name)
    if storage.remote(folder):
        raise UserError(f"{name}: safetensors are read from this machine; copy the folder here")
    return folder


def _files(folder: Path) -> list[Path]:
    """The files of tensors: those that the index names, or the one there is."""
    index = folder / INDEX
    if not index.exists():
        return [_inside(folder, WHOLE)]
    listed = record.read_json(_inside(folder, INDEX), dict[str, Any])
    if not isinstance(listed.get("weight_map"), dict):
        raise UserError(f"{index} has no weight_map")
    return [_inside(folder, str(name)) for name in sorted(set(listed["weight_map"].values()))]


def _inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`; UserError where it is none, or leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path} leads out of {folder}, to {path.resolve()}; copy it there")
    if not path.is_file():
        raise UserError(f"{folder} has no {name}")
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error


def shards(tensors: Mapping[str, np.ndarray], most: int) -> list[list[str]]:
    """Names of the tensors of each file, of at most `most` bytes or of one tensor."""
    found: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if found[-1] and size + tensor.nbytes > most:
            found.append([])
            size = 0
        found[-1].append(name)
        size += tensor.nbytes
    return found


def write_tensors(folder: Path, tensors: Mapping[str, np.ndarray], most: int = SHARD) -> None:
    """Write tensors into `folder`, as one file or as several and their index."""
    each = shards(tensors, most)
    names = [f"model-{i + 1:05}-of-{len(each):05}.safetensors" for i in range(len(each))]
    for name, held in zip(names, each, strict=True):
        there = {key: np.ascontiguousarray(tensors[key]) for key in held}
        path = folder / (WHOLE if len(each) == 1 else name)
        save_file(there, path, {"format": "pt"})
        path.chmod(folder.stat().st_mode & 0o666)  # else it is its owner's alone
    if len(each) > 1:
        where = {key: name for name, held in zip(names, each, strict=True) for key in held}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        record.write_json(folder / INDEX, index, checksum=False)


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `folder` when all went well, and is gone if not.

    Raises:
        UserError: when there is a `folder` with something in it.
    """
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is there already; name another folder, or delete it")
    beside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}{storage.TEMPORARY}"
    try:
        beside.mkdir(parents=True)
        yield beside
        if folder.is_dir():
            folder.rmdir()
        beside.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
