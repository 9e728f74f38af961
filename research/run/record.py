"""The run folder: every file is written beside its name, synced, then renamed into place.

It may be in a bucket (`research.run.buckets`), which does as much for each of its objects.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.run import buckets


def write_bytes(path: str | Path, data: bytes, durable: bool = True) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one.

    Without `durable` it does not wait for the disk: for what is soon written again.

    Raises:
        UserError: when the folder cannot be written or the disk is full; `path` is untouched.
    """
    path = buckets.path(path)
    if buckets.remote(path):
        return buckets.write(path, data)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def create(path: Path, data: bytes) -> bool:
    """Write `data` unless `path` exists: of all who try, on whatever machine, one gets True.

    Raises:
        UserError: when the folder cannot be written.
    """
    if buckets.remote(path):
        return buckets.create(path, data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def append(path: Path, text: str) -> None:
    """Append `text` to a local file that is there, all of it or nothing.

    Raises:
        UserError: when it cannot be written.
    """
    size = path.stat().st_size
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        os.truncate(path, size)  # no half of a line
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def exists(path: Path) -> bool:
    return buckets.exists(path) if buckets.remote(path) else path.exists()


def names(folder: Path) -> list[str]:
    """The names in `folder`, none when it is not there."""
    if buckets.remote(folder):
        return buckets.names(folder)
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def discard_unfinished(folder: Path) -> None:
    """Remove what a killed `write_bytes` left in `folder`; the caller holds the folder's lease."""
    if not buckets.remote(folder):
        for temporary in folder.glob(".*.*.*"):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write UTF-8 `text` atomically; see `write_bytes`."""
    write_bytes(path, text.encode(), durable)


def write_json(path: str | Path, content: Any, durable: bool = True) -> None:
    """Write `content` as indented JSON atomically, floats in full precision."""
    write_text(path, json.dumps(content, indent=2) + "\n", durable)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: when the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(buckets.path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not JSON: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error.msg} at line {error.lineno}") from error


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.lru_cache
def _environment() -> dict[str, Any]:
    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no git, as in a container
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    cpu = Path("/proc/cpuinfo")
    model = (
        [line for line in cpu.read_text().splitlines() if "model name" in line]
        if cpu.exists()
        else []
    )
    return {
        # Code that was shipped without its repository was told the revision (launch/).
        "git_revision": git("rev-parse", "HEAD") or os.environ.get("ISOFLOP_REVISION", ""),
        "dirty": bool(git("status", "--porcelain")),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "python": platform.python_version(),
        "machine": {
            "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "devices": [str(device.device_kind) for device in jax.devices()],
        },
    }


def provenance(data_fingerprint: str) -> dict[str, Any]:
    """Where a run came from: code, versions, machine, data, command line."""
    return {
        **_environment(),
        "data_fingerprint": data_fingerprint,
        "argv": sys.argv,
        "started_at": now(),
    }
