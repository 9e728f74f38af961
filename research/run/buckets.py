"""Run folders in a bucket, gs:// or s3://: paths through etils.epath, the rest through fsspec.

Objects are written whole by themselves, cannot be appended to, and are made exclusively by the
store itself. What fsspec remembers of a bucket is forgotten before each look: others write there.
"""

import os
from pathlib import Path
from typing import Any, cast

from research.errors import UserError, nearest

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # what fsspec needs for each kind of bucket


def path(name: str | Path) -> Path:
    """Return what `name` says, local or in a bucket, as a path that reads and joins as pathlib's.

    Raises:
        UserError: for another kind of address, or when the package for this kind is not there.
    """
    scheme, separator, _ = str(name).partition("://")
    if not separator:
        return Path(name)
    if scheme not in PACKAGES:
        known = ", ".join(f"{each}://" for each in PACKAGES)
        hint = nearest(scheme, PACKAGES)
        raise UserError(f"{name}: neither a local path nor one of {known}{hint}")
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = PACKAGES[scheme]
        raise UserError(f"{name}: {scheme}:// needs {package}: pip install {package}") from error
    return cast(Path, epath.Path(name))


def remote(path: Path) -> bool:
    """Whether `path` is in a bucket."""
    return not isinstance(path, Path)


def is_folder(name: str) -> bool:
    """Whether `name` is a folder, here or in a bucket; False for what is no path at all."""
    return path(name).is_dir() if "://" in name else os.path.isdir(name)


def write(path: Path, data: bytes) -> None:
    """Write an object.

    Raises:
        UserError: when the store refuses, whatever its package raises then.
    """
    _pipe(path, data, "overwrite")


def create(path: Path, data: bytes) -> bool:
    """Write an object unless it exists: of all who try, one gets True.

    Raises:
        UserError: when the store refuses.
    """
    try:
        _pipe(path, data, "create")
        return True
    except FileExistsError:
        return False


def exists(path: Path) -> bool:
    system, name = _system(path)
    return system.exists(name)


def names(folder: Path) -> list[str]:
    """The names in `folder`, none when nothing is there."""
    system, name = _system(folder)
    try:
        found = system.ls(name, detail=False)
    except FileNotFoundError:
        return []
    return [each.rstrip("/").rpartition("/")[2] for each in found]


def upload(folder: Path, path: Path) -> None:
    """Copy the files below a local folder."""
    system, name = _system(path)
    system.put(f"{folder}/", f"{name}/", recursive=True)


def download(path: Path, folder: Path) -> None:
    """Copy the objects below `path` into a local folder."""
    system, name = _system(path)
    system.get(f"{name}/", f"{folder}/", recursive=True)


def remove(path: Path) -> None:
    """Delete an object, or all below `path`, where there is one."""
    system, name = _system(path)
    if system.exists(name):
        system.rm(name, recursive=True)


def _system(path: Path) -> tuple[Any, str]:
    import fsspec

    system, name = fsspec.url_to_fs(str(path))
    system.invalidate_cache()
    return system, name


def _pipe(path: Path, data: bytes, mode: str) -> None:
    try:
        system, name = _system(path)
        system.pipe_file(name, data, mode=mode)
    except FileExistsError:
        raise
    except Exception as error:  # each package has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot write {path}: {reason}") from error
