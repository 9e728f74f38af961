"""A worker of a sweep that dies at a moment of its own: while it cleans up, or names what it wrote.

What kills from outside seldom hits these moments, which last a millisecond each.
"""

import itertools
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research.run import lease
from tests import tiny

EXPIRY_SECONDS = 3.0


def _removes_old(*args: Any, **kwargs: Any) -> bool:
    """Whether `os.unlink` is called by `shutil.rmtree`, which removes checkpoints and no more."""
    return kwargs.get("dir_fd") is not None


def _names_new(source: Any, target: Any, **kwargs: Any) -> bool:
    """Whether `os.rename` gives a whole checkpoint its name."""
    return Path(target).name.isdigit()


# {moment: (function of os, whether this call of it counts, whether it is made before death)}
MOMENTS: dict[str, tuple[str, Callable[..., bool], bool]] = {
    "deletes a checkpoint": ("unlink", _removes_old, True),
    "names a checkpoint": ("rename", _names_new, False),
    "has named a checkpoint": ("rename", _names_new, True),
}


def worker(spec: str, folder: str, where: str = "", moment: str = "", count: str = "1") -> None:
    """One worker of a sweep: "elsewhere" on a machine of its own, dead at the `count`-th `moment`.

    What it held on another machine is taken over only when its lease expires; what it held here
    is free as soon as it is gone.
    """
    lease.EXPIRY_SECONDS = EXPIRY_SECONDS
    if where == "elsewhere":
        machine = str(uuid.uuid4())
        lease._space = lambda: machine
    if moment:
        _die(*MOMENTS[moment], int(count))
    tiny.one_worker(spec, folder)


def _die(name: str, counts: Callable[..., bool], made: bool, count: int) -> None:
    original, seen = getattr(os, name), itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        last = counts(*args, **kwargs) and next(seen) == count
        if last and not made:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, dying)
