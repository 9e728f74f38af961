"""What people's files may say on a terminal: text, and nothing that the terminal would obey."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from research.run import stop

CLOSED = 128 + 13  # the exit code of what ends because nobody reads on: SIGPIPE


def plain(text: str) -> str:
    """Return `text` without control characters, marks of direction and halves of characters."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def one_line(text: str) -> str:
    """Return `text` as one plain line."""
    return plain(" ".join(text.split()))


class Plain:
    """A stream that gets only plain text; see `contextlib.redirect_stdout`."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(plain(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Patient(Plain):
    """A stream that drops what it cannot write: a terminal that was closed stops no run."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


def until_closed(main: Callable[[list[str]], int], words: list[str]) -> Any:
    """Return the exit code of `main`; `CLOSED`, without a word, when its reader has gone.

    As after `| head`. Characters that the terminal does not know are printed as escapes.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    try:
        try:
            code = main(words)
        except SystemExit as left:  # argparse after --help
            code = left.code
        sys.stdout.flush()
        for number in stop.SIGNALS:  # all is done; the interpreter, which winds down, knows no more
            signal.signal(number, signal.SIG_IGN)
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return CLOSED


def live(line: str) -> None:
    """Redraw the live line on a terminal; a log stays quiet."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=Patient(sys.stderr), flush=True)
