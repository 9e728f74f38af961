"""Being asked to stop: a signal becomes a wish that the loop reads between two steps."""

import signal
from typing import Any

from research.errors import Interrupted


class Stop:
    """Holds SIGINT (a person) and SIGTERM (a machine that wants its place back) for the loop.

    `asked` is the signal's number, 0 until one comes. In a thread that gets no signals it stays 0:
    whoever owns them decides.
    """

    asked = 0

    def __enter__(self) -> "Stop":
        self.former = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.former[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread
                pass
        return self

    def _ask(self, number: int, *_: Any) -> None:
        self.asked = number

    def __exit__(self, kind: type | None, *_: Any) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        if self.asked and kind is None:  # too late for this run, so it stops what comes next
            raise Interrupted("stopped", self.asked)
