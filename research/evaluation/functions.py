"""Functions of the standard library's held-out files: what questions about code are made of."""

import ast
import functools
import textwrap
from typing import Any, NamedTuple

from research.data.sources import python_stdlib


class Function(NamedTuple):
    """A function as its file has it; texts are source lines without their common indentation.

    Attributes:
        name: what it is called.
        head: from "def" to the colon that ends the signature.
        docstring: its text by `inspect.cleandoc`, "" where it has none.
        quoted: the lines of the docstring in its quotes, "" where it has none.
        body: the lines after them.
        node: the parsed function.
        module: the dotted name of its file.
        owner: the class whose method it is, if any.
    """

    name: str
    head: str
    docstring: str
    quoted: str
    body: str
    node: ast.FunctionDef
    module: str
    owner: ast.ClassDef | None

    @property
    def prompt(self) -> str:
        """All that stands before the body."""
        quoted = textwrap.indent(self.quoted, "    ")
        return f"{self.head}\n{quoted}\n" if quoted else f"{self.head}\n"

    @property
    def indented(self) -> str:
        """The body as it follows the prompt."""
        return textwrap.indent(self.body, "    ") + "\n"


def held_out(config: Any, split: str = "validation") -> list[Function]:
    """The functions of the files of `split`, in their order; those of the run's own data, if they
    are python_stdlib's, which are the same for every run with one Python."""
    ours = config.data if config.data["name"] == "python_stdlib" else python_stdlib.DEFAULTS
    return list(_held_out(ours["include_tests"], tuple(ours["files"]), split))


@functools.lru_cache(maxsize=4)
def _held_out(include_tests: bool, files: tuple[str, ...], split: str) -> tuple[Function, ...]:
    documents = python_stdlib.sides(include_tests, files)[split]
    return tuple(each for path, text in documents for each in of_file(path, text))


def of_file(path: str, content: bytes) -> list[Function]:
    """The functions of a file, in the order of its lines; none where it is not of this Python."""
    try:
        text = content.decode()
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    lines = text.split("\n")  # as the parser counts them: a form feed ends none
    owners = {
        id(child): node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for child in node.body
    }
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    nodes.sort(key=lambda node: node.lineno)
    found = (_function(node, lines, module, owners.get(id(node))) for node in nodes)
    return [each for each in found if each]


def _function(
    node: ast.FunctionDef, lines: list[str], module: str, owner: ast.ClassDef | None
) -> Function | None:
    """The function of `node`; None where its signature and body share a line, or it has no body."""
    docstring = ast.get_docstring(node) or ""
    first = node.body[0]
    rest = node.body[1:] if docstring else node.body
    if not rest or first.lineno == node.lineno or _begins_inside(rest[0], lines):
        return None
    quoted = "" if not docstring else _cut(lines, first.lineno, first.end_lineno)
    # Comments between the signature and the body are left out.
    head = _cut(lines, node.lineno, first.lineno - 1)
    head = "\n".join(line for line in head.splitlines() if not line.lstrip().startswith("#"))
    body = _cut(lines, rest[0].lineno, rest[-1].end_lineno)
    if not head.rstrip().endswith(":"):
        return None
    return Function(node.name, head.rstrip(), docstring, quoted, body, node, module, owner)


def _begins_inside(statement: ast.stmt, lines: list[str]) -> bool:
    """Whether something else stands on the line before `statement`."""
    return bool(lines[statement.lineno - 1].encode()[: statement.col_offset].strip())


def _cut(lines: list[str], first: int, last: int | None) -> str:
    return textwrap.dedent("\n".join(lines[first - 1 : last])).rstrip()
