"""A lease on a folder: one holder at a time, on one machine or on many that share the folder.

Lease n of a folder is its file `.lease/n`; the highest number counts. To take a folder over is to
create the next number, which succeeds once, ever, so that of two who try only one gets it, and a
holder that was merely asleep finds the higher number and stops before it writes. The holder raises
a counter in its file every few seconds. Whoever waits times the counter by its own clock, so the
clocks of two machines need not agree; on the holder's own machine a process that is gone is gone
at once.
"""

import contextlib
import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from research import processes
from research.errors import AGAIN, UserError
from research.run import record, storage

EXPIRY_SECONDS = 60.0  # a counter that stands still for so long has no holder
BEATS = 6  # of the counter in that time


class Held(UserError):
    """The folder is another process's: it had it first, or took it over from this one."""


class Holder(TypedDict, total=False):
    """What a lease says: the process that holds it, and whether it let go."""

    host: str
    space: str
    pid: record.Count
    born: str | None
    user: str
    released: bool


class Lost(Held):
    """Another process took the folder over: no mistake of anybody's, the same command may go on."""

    code = AGAIN


class Hold(NamedTuple):
    """A folder that is held under lease `number`; `check` raises Lost when it is no longer."""

    number: int
    check: Callable[[], None]


NOBODY = Hold(0, lambda: None)  # for a folder that no other process knows of


class Lease:
    """A held lease: it beats until `release`, or until another process has taken the folder."""

    def __init__(self, folder: Path, number: int):
        self.folder, self.number = folder, number
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def check(self) -> None:
        """Raise Lost when another process has taken the folder; call it before each write."""
        if _file(self.folder, self.number + 1).exists():
            raise Lost(f"{self.folder}: this process was silent for too long; another has taken it")

    def release(self) -> None:
        """Let go, so that whoever comes next need not wait."""
        self.ended.set()
        self.thread.join()

    def _beat(self) -> None:
        holder, beats = _myself(), 0
        while not self.ended.wait(EXPIRY_SECONDS / BEATS):
            beats += 1
            self._write(holder | {"beats": beats})
        self._write(holder | {"released": True})

    def _write(self, content: dict[str, Any]) -> None:
        try:
            record.write_json(_file(self.folder, self.number), content)
        except UserError:
            pass  # a full disk: if it lasts, the lease expires and `check` says so


def take(folder: Path) -> Lease:
    """Take the lease of `folder` when it is free.

    It is when nobody ever held it, its holder let go or is gone from this machine, or this process
    has asked again and again for `EXPIRY_SECONDS` and seen nothing move.

    Raises:
        Held: when another process has it.
        UserError: when the folder cannot be written.
    """
    number = _newest(folder)
    if number and not _free(folder, number):
        raise Held(f"{folder} is in use by {_who(folder, number)}; wait for it or stop it")
    content = json.dumps(_myself() | {"beats": 0})
    if not storage.create(_file(folder, number + 1), content.encode()):
        raise Held(f"{folder} is in use by another process, which was quicker")
    return Lease(folder, number + 1)


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[Hold]:
    """Hold `folder`, the first process of a run for all, which then guards what is written there.

    Raises:
        Held: in every process, when another run has the folder.
        UserError: when it cannot be written, or is not the same folder for every process.
    """
    held, error = None, Held(f"{folder}: the first process of this run could not take it")
    if processes.first():
        try:
            held = take(folder)
        except UserError as found:
            error = found
    number = processes.from_first(held.number if held else 0)
    if not number:
        raise error
    try:
        _check_shared(folder)
        if held is None:
            yield Hold(number, lambda: None)
        else:
            storage.guards[folder] = held.check
            storage.discard_unfinished(folder)
            yield Hold(number, held.check)
    finally:
        if held:
            storage.guards.pop(folder, None)
            held.release()


def _check_shared(folder: Path) -> None:
    end = time.monotonic() + EXPIRY_SECONDS  # a network file system may remember an absence
    while not (seen := _newest(folder) > 0) and time.monotonic() < end:
        time.sleep(1)
    if not processes.all_agree(seen):
        raise UserError(f"{folder} is not the same folder on every host; use one that all share")


def wait(folder: Path) -> None:
    """Return once nobody holds `folder`, or somebody is seen to: `take` then says which.

    A job that was moved to another machine finds the lease of its former self there.
    """
    number = _newest(folder) if processes.first() else 0
    first = _read(folder, number) if number else b""
    while number and not _free(folder, number):
        if _read(folder, number) != first or _here(_parsed(first)):
            return
        time.sleep(EXPIRY_SECONDS / BEATS / 4)


# Observations: the lease last seen in each folder, and when this process first saw it so.
_seen: dict[Path, tuple[int, bytes, float]] = {}


def _free(folder: Path, number: int) -> bool:
    content = _read(folder, number)
    holder = _parsed(content)
    if holder.get("released") or _gone(holder):
        return True
    if _seen.get(folder, (0, b"", 0.0))[:2] != (number, content):
        _seen[folder] = number, content, time.monotonic()
    return time.monotonic() - _seen[folder][2] >= EXPIRY_SECONDS


def _file(folder: Path, number: int) -> Path:
    return folder / ".lease" / str(number)


def _newest(folder: Path) -> int:
    names = storage.names(folder / ".lease")
    return max((int(name) for name in names if name.isdigit()), default=0)


def _read(folder: Path, number: int) -> bytes:
    try:
        return _file(folder, number).read_bytes()
    except OSError:
        return b""


def _parsed(content: bytes) -> Holder:
    """What a lease says; one half written says nothing, and is judged by its expiry alone."""
    try:
        return record.parse_json(content, "lease", Holder)
    except UserError:
        return {}


def _who(folder: Path, number: int) -> str:
    holder = _parsed(_read(folder, number))
    if not holder:
        return "another process"
    host = "" if _here(holder) else f" on {holder.get('host')}"
    return f"process {holder.get('pid')} of {holder.get('user')}{host}"


# Processes of this machine.


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return {
        "host": socket.gethostname(),
        "space": _space(),
        "pid": pid,
        "born": _born(pid),
        "user": user,
    }


def _space() -> str:
    """Where process numbers mean the same: one boot of one machine, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _here(holder: Holder) -> bool:
    return holder.get("space") == _space()


def _gone(holder: Holder) -> bool:
    """Whether the holder was a process of this machine and is no more."""
    return _here(holder) and _born(holder.get("pid", 0)) != holder.get("born")


def _born(pid: int) -> str | None:
    """When process `pid` began; None when there is none, or only its exit code is left."""
    if not os.path.isdir("/proc/self"):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # another user's, alive
        return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
