"""Being asked to stop: a signal becomes a wish that the loop reads between two steps."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from research.errors import Interrupted, exit_code

# Ctrl-C; a machine that wants its place back; a terminal that was closed; a cluster's warning that
# the time is nearly up, which is the first or the second of the last two.
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


@contextlib.contextmanager
def heard_by(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Have `handler` called for each of SIGNALS while inside.

    What was ignored when the process began, as SIGHUP is under nohup, stays ignored. In a thread
    that gets no signals nothing changes: whoever owns them decides.
    """
    former = {}
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN and number != signal.SIGINT:
            continue
        with contextlib.suppress(ValueError):  # not the main thread
            former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before if before is not None else signal.SIG_DFL)


def at_once(said: str = "", code: int | None = None) -> contextlib.AbstractContextManager[None]:
    """End this process when one of SIGNALS comes while inside: nothing is there to be saved.

    Not by an exception: one that is raised in a finalizer or in a callback of the collector is
    printed and forgotten, and the import of an extension may crash by it.

    Args:
        said: what is then written to stderr.
        code: the exit code; None: what `exit_code` gives the signal.
    """

    def end(number: int, _: Any) -> None:
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # closed, or being written to
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.write(2, said.encode())
        os._exit(exit_code(number) if code is None else code)

    return heard_by(end)


class Stop:
    """Holds SIGNALS for the loop.

    `asked` is the number of the last one, 0 until one comes. In a thread that gets no signals it
    stays 0: whoever owns them decides.
    """

    asked = 0

    def __enter__(self) -> "Stop":
        self.heard = heard_by(self._ask)
        self.heard.__enter__()
        return self

    def _ask(self, number: int, *_: Any) -> None:
        self.asked = number

    def __exit__(self, kind: type | None, *_: Any) -> None:
        self.heard.__exit__(None, None, None)
        if self.asked and kind is None:  # too late for this run, so it stops what comes next
            raise Interrupted("stopped", self.asked)
