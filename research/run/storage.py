"""Files of runs, here or in a bucket: each is written whole or not at all, and some then grow.

A local file is written beside its name, synced, then renamed into place. Paths in gs:// and s3://
are etils.epath's, and the stores do as much for each of their objects: they write it whole, make it
exclusively where asked, and append nothing.
"""

import contextlib
import io
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

from research.errors import UserError, nearest

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # what fsspec needs for each kind of bucket
TEMPORARY = ".isoflop-tmp"  # ends the name of a file that is being written

# What says, for each folder that this process holds (`run.lease`), that it still does.
guards: dict[Path, Callable[[], None]] = {}


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
    # Others write there: no listing is remembered.
    fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    return cast(Path, epath.Path(name))


def remote(path: Path) -> bool:
    """Whether `path` is in a bucket."""
    return not isinstance(path, Path)


def is_folder(name: str) -> bool:
    """Whether `name` is a folder, here or in a bucket; False for what is no path at all."""
    return path(name).is_dir() if "://" in name else os.path.isdir(name)


def names(folder: Path) -> list[str]:
    """The names in `folder`, none when it is not there."""
    try:
        return [each.name for each in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def guard(path: Path) -> None:
    """Raise Lost when `path` is below a folder that this process held and another has taken.

    Between the temporary file and its rename this is a fence: whoever takes a folder over first
    removes the temporary files it finds there (`discard_unfinished`), so that a process that is
    stopped after this check has nothing left to rename.
    """
    for folder, check in list(guards.items()):
        if str(path).startswith(f"{folder}/"):
            check()


def write(name: str | Path, data: bytes, durable: bool = True, mode: int | None = None) -> None:
    """Write `data` so that the file `name` holds either its old content or all of the new one.

    Without `durable` it does not wait for the disk: for what is soon written again. A local file
    has the rights `mode`, from its first byte on; by default those that the umask leaves, and one
    that is replaced keeps its own.

    Raises:
        UserError: when the folder cannot be written or the disk is full; the file is untouched.
        Lost: when another process has taken the folder.
    """
    file = path(name)
    if remote(file):
        guard(file)
        _put(file, data, "overwrite")
    else:
        _begin(file, data, durable, mode).close()


def _begin(path: Path, data: bytes, durable: bool = True, mode: int | None = None) -> io.FileIO:
    """Write a local file as `write` does, and return it open at its end."""
    temporary, file = path.parent / f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.FileIO(
            temporary, "xb", opener=lambda name, how: os.open(name, how, mode or 0o666)
        )
        written = 0
        while written < len(data):  # a large one takes several calls
            written += file.write(memoryview(data)[written:])
        if durable:
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(mode or path.stat().st_mode))
        guard(path)
        os.replace(temporary, path)
        return file
    except BaseException as error:
        if file is not None:
            file.close()
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise


def discard_unfinished(folder: Path) -> None:
    """Remove what a killed `write` left in `folder`; the caller holds the folder's lease."""
    for temporary in folder.glob(f".*.*{TEMPORARY}"):
        temporary.unlink(missing_ok=True)


def create(path: Path, data: bytes) -> bool:
    """Write `data` unless `path` exists: of all who try, on whatever machine, one gets True.

    Raises:
        UserError: when the folder cannot be written.
    """
    try:
        if remote(path):
            _put(path, data, "create")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise _refused(path, error) from error


def _put(path: Path, data: bytes, mode: str) -> None:
    import fsspec

    try:
        store, name = fsspec.url_to_fs(str(path))
        store.pipe_file(name, data, mode=mode)
    except FileExistsError:
        raise
    except Exception as error:  # each store's package has its own
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> UserError:
    """What to raise for an `error` in writing `path`, if another process has not taken it."""
    guard(path)
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"cannot write {path}: {said.splitlines()[0]}")


class Appending:
    """A file begun anew with `content` that then grows by whole pieces: rows, points of curves.

    It grows through the descriptor that wrote it. So a process that lost the folder, whenever it
    was stopped, appends to a file without a name, and another user of the folder's group can go on,
    for whom the file that was there need not be writable. In a bucket the pieces wait for `flush`.

    Raises:
        UserError: when it cannot be written.
        Lost: when another process has taken its folder.
    """

    def __init__(self, path: Path, content: bytes):
        self.path, self.content = path, content
        self.file: io.FileIO | None = None  # also where it cannot be begun
        if not remote(path):
            self.file = _begin(path, content)

    def add(self, piece: bytes) -> None:
        """Append `piece`, all of it or nothing.

        Raises:
            UserError: when it cannot be written.
        """
        if self.file is None:
            self.content += piece
            return
        end = self.file.tell()
        try:
            if self.file.write(piece) != len(piece):  # a disk that fills up takes a part
                raise OSError("No space left on device")
        except OSError as error:
            self.file.truncate(end)
            self.file.seek(end)
            raise _refused(self.path, error) from error

    def flush(self) -> None:
        """Return once every piece is where it survives a power cut.

        Raises:
            UserError: when it cannot be written.
        """
        if self.file is None:
            return write(self.path, self.content)
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise _refused(self.path, error) from error

    def __del__(self) -> None:
        if self.file is not None:
            self.file.close()
