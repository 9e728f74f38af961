"""What a run writes down as JSON: sealed by a checksum, held to a type, and where it came from."""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from research.errors import UserError
from research.run import storage

CHECKSUM, CRC = "checksum", "crc32"  # the last key of an object that `write_json` wrote
KINDS = {
    "int": "an integer", "float": "a number", "str": "a string", "bool": "true or false",
    "object": "an object", "array": "a list",
}  # fmt: skip
# Numbers of files: Python's JSON reads NaN, 1e999 and integers that no float or array can hold.
Number = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write UTF-8 `text` atomically; see `storage.write`."""
    storage.write(path, text.encode(errors="replace"), durable)


def write_json(
    path: str | Path, content: Any, durable: bool = True, *, checksum: bool = True
) -> None:
    """Write `content` as indented JSON atomically, floats in full precision.

    An object ends with a "checksum" of the rest, by which `read_json` sees that it was changed.
    Without `checksum` it has none: for what people are meant to edit.
    """
    if checksum and isinstance(content, dict):
        plain = json.loads(json.dumps(content))  # as it will be read: keys are text, tuples lists
        content = {**plain, CHECKSUM: digest(plain)}
    write_text(path, json.dumps(content, indent=2) + "\n", durable)


def read_json(path: str | Path, kind: Any = Any) -> Any:
    """Read a JSON file that holds a `kind`: any type, TypedDict or dataclass that msgspec knows.

    What is returned has the keys that `kind` names; others, which a later version may write, are
    left out. A checksum is verified where there is one, and is no part of the content.

    Raises:
        UserError: when the file cannot be read, is not JSON, was changed since `write_json`, or
            holds something else than a `kind`: its key, what was expected and what is there.
    """
    try:
        data = storage.path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_json(data, path, kind)


def parse_json(data: bytes, source: str | Path, kind: Any = Any) -> Any:
    """Return the content of JSON `data`, read from `source`; see `read_json`."""
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=named_once)
        if isinstance(content, dict) and not _as_written(content):
            raise UserError(
                f"{source} was changed since it was written: restore it, or remove its "
                f'"{CHECKSUM}" if the change was meant'
            )
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not JSON: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{source} is not JSON: {error.msg} at line {error.lineno}") from error
    except RecursionError as error:
        raise UserError(f"{source} is not JSON that can be read: nested too deep") from error
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        reason = str(error).partition(":")[0]
        raise UserError(f"{source} is not JSON that can be read: {reason}") from error
    return content if kind is Any else held_to(kind, content, source)


def held_to(kind: Any, content: Any, source: str | Path) -> Any:
    """Return `content`, read from `source`, as a `kind`; see `read_json`."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {_mismatch(kind, str(error), content)}") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{source}: holds {error.object[:60]!a}, which is no text") from error


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys differ: a hook of `json`, which raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} is there twice")
    return found


def digest(content: dict[str, Any]) -> str:
    """A checksum of JSON, whatever the order of its keys and the blanks between them."""
    return f"{CRC} {zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _as_written(content: dict[str, Any]) -> bool:
    """Whether the checksum of `content`, if it has one, fits; it is taken out."""
    said = [
        k for k, v in content.items() if k == CHECKSUM or isinstance(v, str) and v.startswith(CRC)
    ]
    return not said or said == [CHECKSUM] and content.pop(CHECKSUM) == digest(content)


def _mismatch(kind: Any, said: str, content: Any) -> str:
    """What msgspec said, such as "Expected `int`, got `str` - at `$.data[0]`", in our words."""
    said, _, where = said.partition(" - at `$")
    found, path = content, ""
    for name, index in re.findall(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]", where):
        key = _failing(kind, content, found) if index == "..." else int(index) if index else name
        found, path = found[key], f"{path}.{key}"
    path = path.removeprefix(".")
    if missing := re.fullmatch("Object missing required field `(.*)`", said):
        return f"key {path + '.' * bool(path) + missing[1]!r} is missing"
    said = said.partition(" matching regex")[0]  # of text, which prints
    said = re.sub("`([^`]*)`", lambda kind: _in_words(kind[1]), said)
    said = said[:1].lower() + said[1:]
    if isinstance(found, str | int | float):
        said = f"{said.partition(', got ')[0]}, got {json.dumps(found)[:60]}"
    return f"{path}: {said}" if path else said


def _failing(kind: Any, content: Any, holder: dict[str, Any]) -> str:
    """The first key of `holder`, an object in `content`, that is no part of a `kind`."""
    for key, value in list(holder.items()):
        holder.clear()
        holder[key] = value
        try:
            msgspec.convert(content, kind)
        except (msgspec.ValidationError, UnicodeEncodeError):
            break
    return next(iter(holder))


def _in_words(kinds: str) -> str:
    return " or ".join(KINDS.get(kind, kind) for kind in kinds.split(" | "))


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def code() -> dict[str, Any]:
    """The revision of this code, and whether files have changes that it lacks; None: unknown."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no git, as in a container
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A repository around the code need not be the code's.
    if git("ls-files", "--error-unmatch", __file__) is not None:
        revision, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
        return {"git_revision": revision or "", "dirty": None if changes is None else changes != ""}
    # Code that was shipped without its repository was told (launch/).
    dirty = {"true": True, "false": False}.get(os.environ.get("ISOFLOP_DIRTY", ""))
    return {"git_revision": os.environ.get("ISOFLOP_REVISION", ""), "dirty": dirty}


@functools.lru_cache
def versions() -> dict[str, str]:
    """Versions of the libraries that compute a run."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


@functools.lru_cache
def _environment() -> dict[str, Any]:
    import jax

    about = Path("/proc/cpuinfo")
    cpu = re.findall(r"model name\s*:(.*)", about.read_text()) if about.exists() else []
    return {
        **code(),
        "versions": versions(),
        "python": platform.python_version(),
        "machine": {
            "cpu": cpu[0].strip() if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "devices": [str(device.device_kind) for device in jax.devices()],
        },
    }


def provenance(data_fingerprint: str, tokenizer: dict[str, Any] | None = None) -> dict[str, Any]:
    """Where a run came from: code, versions, machine, data, command line.

    Args:
        tokenizer: {"kind", "vocab", "sha256"} of the one that was trained for the data, if any.
    """
    return {
        **_environment(),
        "data_fingerprint": data_fingerprint,
        **({"tokenizer": tokenizer} if tokenizer else {}),
        "argv": [word.encode(errors="replace").decode() for word in sys.argv],
        "started_at": now(),
    }
