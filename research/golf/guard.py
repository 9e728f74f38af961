"""Whoever reads by mistake what a recipe is scored on is told so, by a hook on opened files.

It is no lock. It sees the honest mistake, such as data.load(config.data, "validation") in a recipe
or in a module that it names; whoever wants to can get round it in a line, and readers look for it.
"""

import os
import sys

from research.errors import UserError
from research.run import code

HELD = ("validation", "test")
_closed: list[bool] = []  # an audit hook (PEP 578) stays: there is one, and this says if it acts


def close(now: bool = True) -> None:
    """Close the packed splits of `HELD` to foreign code in this process, or open them again."""
    if not _closed:
        sys.addaudithook(_opened)
    _closed[:] = [now]


def _opened(event: str, arguments: tuple) -> None:
    path = arguments[0] if event == "open" and _closed[0] else None
    if not isinstance(path, str | bytes | os.PathLike):
        return  # not a file, or one that was opened before
    folder, name = os.path.split(os.path.realpath(os.fsdecode(path)))
    if name.partition(".")[0] not in HELD or os.path.basename(os.path.dirname(folder)) != "packed":
        return
    frame = sys._getframe(1)
    while frame is not None:
        if code.foreign(frame.f_code.co_filename):
            where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            raise UserError(
                f"{where} opens {os.fsdecode(path)}: a golf recipe reads neither validation nor "
                "test; train on data.load(config.data, 'train')"
            )
        frame = frame.f_back
