"""English that every Python carries: the topics of its help, and the docstrings of its library.

The docstrings of a file are one document, on the side where the file itself is in python_stdlib,
so that what is held out of one is held out of the other. The topics are pydoc_data/topics.py in
python_stdlib, which is whole on one side there: `python -m research data mixture --contamination`
says what that comes to.
"""

import ast
import warnings
from collections.abc import Iterator

from research.data import sides
from research.data.settings import Config
from research.data.sources import python_stdlib
from research.errors import UserError

ON_REQUEST = True
DEFAULTS = {"topics": True, "docstrings": True}
NODES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def check(data: Config) -> None:
    """Raise UserError where nothing is taken."""
    if not (data["topics"] or data["docstrings"]):
        raise UserError("data.topics and data.docstrings are both False; nothing is left to read")


def identity(data: Config) -> dict:
    """Both come with the interpreter."""
    library = python_stdlib.identity({"include_tests": False, "files": ("*",)})
    own = {key: data[key] for key in DEFAULTS}
    return own | {key: library[key] for key in ("python", "listing")}


def documents(data: Config) -> Iterator[tuple[str | None, bytes]]:
    """Yield (split, text) of every topic, then of every file that has docstrings."""
    if data["topics"]:
        from pydoc_data import topics

        texts = sorted((f"topic {name}", text.encode()) for name, text in topics.topics.items())
        yield from sides.sided(lambda: texts)
    if data["docstrings"]:
        for split, found in python_stdlib.sides(False, ("*",)).items():
            for _, source in found:
                if text := docstrings(source):
                    yield split, text


def docstrings(source: bytes) -> bytes:
    """The docstrings of a Python file, outer ones first, with a blank line between two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that the library itself gets wrong
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # templates of code, and files for other versions
            return b""
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, NODES)]
    return "\n\n".join(text for text in found if text).encode("utf-8", "replace")
