"""The one exception for a user's mistake, and the hint that names the nearest valid choice."""

import difflib
import signal
from collections.abc import Iterable

AGAIN = 75  # the exit code that asks for the same command again (EX_TEMPFAIL of sysexits.h)


class UserError(Exception):
    """A mistake in a config, a file or a command: one line, shown without a traceback.

    `code` is the exit code.
    """

    code = 2


def exit_code(number: int) -> int:
    """130 after a person's Ctrl-C, and `AGAIN` after the signals of terminals and schedulers."""
    return 130 if number == signal.SIGINT else AGAIN


class Interrupted(Exception):
    """A run was asked to stop by a signal; its state is saved and the same command goes on.

    `code` is the exit code (`exit_code`).
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.code = exit_code(number)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the closest of `choices`, or an empty string."""
    lowered = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    close += [key for key in lowered if name and key.startswith(name.lower())]
    return f" (did you mean {lowered[close[0]]!r}?)" if close else ""
