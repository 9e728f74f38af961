"""A prepared data set on disk: flat arrays that are memory-mapped, and one meta.json.

`folder/packed/<key>/` appears whole or not at all: it is written beside under a hidden name,
synced and renamed. A process that is killed leaves only hidden files, which the next one removes.
What a checksum or the format proves broken is said to be damaged; what cannot be read is not.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.run import record, storage
from research.run.alone import lock

VERIFIED_BYTES = 64 * 2**20  # larger arrays are hashed by the data verb only, not by every run


class Writer:
    """Collects the arrays of each split; rows are appended, so a split need not fit in memory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.open: dict[tuple[str, str], Any] = {}
        self.facts: dict[str, Any] = {}

    def append(self, split: str, name: str, rows: NDArray[Any]) -> None:
        """Append `rows` ([rows, ...]) to the array `name` of `split`."""
        rows = np.ascontiguousarray(rows)
        array = self.open.get((split, name))
        if array is None:
            file = open(self.folder / f"{split}.{name}", "wb")  # noqa: SIM115
            layout = {"dtype": rows.dtype.str, "shape": [0, *rows.shape[1:]]}
            array = self.open[split, name] = {"file": file, "sha": hashlib.sha256(), **layout}
        if array["dtype"] != rows.dtype.str or array["shape"][1:] != list(rows.shape[1:]):
            raise ValueError(f"{split}.{name}: rows of another shape or type")
        if name == "tokens" and rows.size and rows.dtype.kind in "iu":
            least, most = int(rows.min()), int(rows.max())
            if least < 0 or most >= 2**31:
                token = least if least < 0 else most
                raise UserError(f"the {split} split has token {token}; tokens are 0 to 2**31 - 1")
            self.facts["vocab_size"] = max(self.facts.get("vocab_size", 0), most + 1)
        array["shape"][0] += len(rows)
        array["sha"].update(rows.data)
        array["file"].write(rows.data)

    def finish(self, name: str, identity: dict[str, Any]) -> None:
        """Sync every array and write meta.json."""
        splits: dict[str, dict[str, Any]] = {}
        for (split, array_name), array in sorted(self.open.items()):
            array["file"].flush()
            os.fsync(array["file"].fileno())
            layout = {"dtype": array["dtype"], "shape": array["shape"]}
            entry = {**layout, "sha256": array["sha"].hexdigest()}
            splits.setdefault(split, {})[array_name] = entry
        meta = {
            "name": name,
            "identity": identity,
            "fingerprint": _fingerprint(splits),
            "splits": splits,
            **self.facts,
        }
        record.write_json(self.folder / "meta.json", meta)

    def close(self) -> None:
        """Close every file."""
        for array in self.open.values():
            array["file"].close()


class Layout(TypedDict):
    """One array of a split: how its file is read, and what it holds."""

    dtype: Annotated[str, msgspec.Meta(pattern=r"^[<>|=][biuf][1248]$")]
    shape: list[record.Count]
    sha256: str


class Floor(TypedDict):
    """What no model can beat."""

    value: record.Number
    unit: str
    kind: str
    source: str
    entropy_rate: NotRequired[record.Number]
    sample_value: NotRequired[record.Number]
    standard_error: NotRequired[record.Number]


class Trained(TypedDict):
    """The tokenizer that tokens were made with; `key` names its folder."""

    kind: str
    vocab: record.Count
    sha256: str
    key: Annotated[str, msgspec.Meta(pattern=r"^[\w-]+$")]


class Meta(TypedDict):
    """meta.json: the arrays by split and name, their fingerprint, and what is known of them.

    `vocab_size` is one more than the largest token; older packs of bytes do not say it. `dropped`
    is how many documents were left out, by the reason; `sources`, of a mixture, how many tokens of
    a split come from each of its sources, which follow one another; `spent`, where a network made
    the data, the FLOPs that it took, by what took them.
    """

    name: str
    fingerprint: str
    splits: dict[str, dict[str, Layout]]
    floor: NotRequired[Floor]
    vocab_size: NotRequired[record.Count]
    tokenizer: NotRequired[Trained]
    dropped: NotRequired[dict[str, record.Count]]
    sources: NotRequired[dict[str, list[record.Count]]]
    spent: NotRequired[dict[str, record.Count]]


@dataclasses.dataclass(frozen=True)
class Pack:
    """A finished pack: its folder and the content of its meta.json."""

    folder: Path
    meta: dict[str, Any]

    def arrays(self, split: str, verify: bool | None = None) -> dict[str, NDArray[Any]]:
        """Return the arrays of `split`, memory-mapped read-only.

        Args:
            split: a split of the pack.
            verify: whether to hash the content; by default only arrays up to 64 MiB are.

        Raises:
            UserError: when a file is missing, truncated, not what was prepared, or cannot be read.
        """
        if split not in self.meta["splits"]:
            known = ", ".join(self.meta["splits"])
            raise UserError(
                f"nothing of {self.meta['name']} falls into the {split} split with this config"
                f" (only into {known}); let it take in more"
            )
        loaded = {}
        for name, layout in self.meta["splits"][split].items():
            path, dtype, shape = self.folder / f"{split}.{name}", layout["dtype"], layout["shape"]
            expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
            with _reading(path, self.folder), path.open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != expected:
                    raise UserError(
                        f"{path} has {found} bytes of {expected}; {_remedy(self.folder)}"
                    )
                if verify or (verify is None and expected <= VERIFIED_BYTES):
                    # Read, not mapped: a disk that fails then raises, and kills nobody.
                    if hashlib.file_digest(file, "sha256").hexdigest() != layout["sha256"]:
                        raise UserError(f"{path} was changed (sha256); {_remedy(self.folder)}")
                loaded[name] = np.asarray(np.memmap(file, dtype, "r", shape=tuple(shape)))
        return loaded


def ensure(
    folder: Path, name: str, key: str, identity: dict[str, Any], fill: Callable[[Writer], None]
) -> Pack:
    """Return the pack `key` of `folder`, made by `fill` when it is not there yet.

    Two processes may call this at once: one makes the pack and the other waits for it.

    Raises:
        UserError: when the folder cannot be written, the disk is full, or meta.json is damaged or
            cannot be read.
    """
    home = folder / "packed" / key
    path = home / "meta.json"
    if not _there(home):
        # TFDS makes lm1b and lm1b/plain_text in one place, so they have one lock.
        with _writing(folder), lock(folder, name.partition("/")[0], f"preparing {name}"):
            if not _there(home):
                _make(home, name, identity, fill)
    with _reading(path, home):
        data = path.read_bytes()
    try:
        meta: dict[str, Any] = record.held_to(Meta, record.parse_json(data, path), path)
    except UserError as error:
        raise UserError(f"{error}; {_remedy(home)}") from error
    if meta["fingerprint"] != _fingerprint(meta["splits"]):
        raise UserError(f"{path}: another fingerprint; {_remedy(home)}")
    return Pack(home, meta)


def _make(home: Path, name: str, identity: dict[str, Any], fill: Callable[[Writer], None]) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    for stale in home.parent.glob(f".{home.name}.*{storage.TEMPORARY}"):
        shutil.rmtree(stale, ignore_errors=True)  # of a killed process: the lock is ours
    temporary = home.parent / f".{home.name}.{uuid.uuid4().hex}{storage.TEMPORARY}"
    temporary.mkdir()
    writer = Writer(temporary)
    try:
        fill(writer)
        writer.finish(name, identity)
        writer.close()
        _sync(temporary)
        os.replace(temporary, home)
        _sync(home.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            writer.close()
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _there(home: Path) -> bool:
    with _reading(home):
        try:
            home.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


@contextlib.contextmanager
def _reading(path: Path, home: Path | None = None) -> Iterator[None]:
    """Say in one line that `path` cannot be read; of a pack in `home`, that it is not there."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if home and isinstance(error, FileNotFoundError):  # a pack appears whole or not at all
            raise UserError(f"{path} is missing; {_remedy(home)}") from error
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        raise UserError(
            f"cannot read {path}: {reason}; nothing was changed, and it need not be damaged:"
            " run again when it can be read"
        ) from error


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line which file of `folder`, or which source outside of it, was in the way."""
    try:
        yield
    except OSError as error:
        reason, name = error.strerror or error, error.filename
        where = f" ({name})" if name and Path(name) != folder else ""
        if where and not Path(name).absolute().is_relative_to(folder.absolute()):
            raise UserError(f"cannot read {name}: {reason}; nothing was prepared") from error
        raise UserError(
            f"data.folder {folder} cannot be written: {reason}{where};"
            " choose another with data.folder or ISOFLOP_DATA"
        ) from error


def _fingerprint(splits: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()


def _remedy(folder: Path) -> str:
    return f"delete {folder} and run again"
