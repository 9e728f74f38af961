"""What people's files may say on a terminal: text, and nothing that the terminal would obey."""

from typing import Any


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
