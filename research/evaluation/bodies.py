"""Bodies of one line that can be run: held-out functions, with calls that tell right from wrong.

A function is asked for when its body is one `return` on one line and it gives, on arguments that
are drawn for it, plain values that differ and are the same each time. The `self` of a method is an
object that has the attributes which its class reads, and nothing else.
"""

import ast
import functools
import itertools
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from research.evaluation import functions, sandbox
from research.evaluation.functions import Function

LONGEST = 72  # bytes of a body
DRAWS, CALLS = 48, 8  # calls that are tried for a function, and most that are kept
# Parts of names of modules that do something when they are imported, or need a screen.
SKIPPED = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "lib2to3", "ensurepip", "test"}
VALUES = (
    ("0", "1", "2", "7", "-3", "16877", "33188", "40960", "True", "0.5"),
    ("''", "'a'", "'Hello, world'", "'3.25'", "'a/b.txt'", "'__name__'", "b'abc'", "b'\\x00\\xff'"),
    ("[]", "[3, 1, 2]", "['b', 'a']", "('x', 2)", "{'a': 1, 'b': 2}", "{1, 2}", "None"),
)


class Body(NamedTuple):
    """A body to complete.

    Attributes:
        prompt: all that stands before it, with its indentation.
        line: the body itself.
        name: of the function.
        module: whose names it may use.
        calls: lists of arguments, as the sandbox takes them.
        results: what the function gives for each call, as text.
    """

    prompt: str
    line: str
    name: str
    module: str
    calls: list[list[Any]]
    results: list[str]


def runnable(config: Any) -> list[Body]:
    """The bodies of the held-out functions, of both sides that no run trains on."""
    sides = (functions.held_out(config, split) for split in ("validation", "test"))
    return list(_runnable(tuple(itertools.chain(*sides))))


@functools.lru_cache(maxsize=4)
def _runnable(found: tuple[Function, ...]) -> tuple[Body, ...]:
    drawn = []
    for each in found:
        if _fits(each):
            drawn.append(
                Body(f"{each.prompt}    ", each.body, each.name, each.module, _draw(each), [])
            )
    tasks = [task(each, each.line) for each in drawn]
    # Twice, in Pythons that hash differently: what a function gives must be the same.
    pairs = zip(drawn, sandbox.run(tasks), sandbox.run(tasks), strict=True)
    kept = (_kept(each, first, second) for each, first, second in pairs)
    return tuple(each for each in kept if len(set(each.results)) > 1)


def task(body: Body, line: str) -> dict[str, Any]:
    """What the sandbox runs for `line` in place of the body."""
    about = {"name": body.name, "module": body.module, "calls": body.calls}
    return {"source": f"{body.prompt}{line}\n", **about}


def right(bodies: Sequence[Body], lines: Sequence[str]) -> list[bool]:
    """Whether each of `lines` gives, for every call, what the body in its place gives."""
    tasks = [task(body, line) for body, line in zip(bodies, lines, strict=True)]
    found = sandbox.run(tasks)
    return [each == body.results for body, each in zip(bodies, found, strict=True)]


def _fits(function: Function) -> bool:
    """Whether the function is of one line, and can be called with arguments by position."""
    *_, statement = function.node.body
    parameters = function.node.args
    names = function.module.split(".")
    return (
        isinstance(statement, ast.Return)
        and statement.value is not None
        and len(function.node.body) == 1 + bool(function.docstring)
        and not {"\n", "#"} & {*function.body}
        and len(function.body.encode()) <= LONGEST
        and not any(default is None for default in parameters.kw_defaults)
        and _decorators(function) <= {"property", "staticmethod"}
        and not SKIPPED & {*names}
        and not any(name.startswith("__") for name in names)
    )


def _decorators(function: Function) -> set[str]:
    return {ast.unparse(each) for each in function.node.decorator_list}


def _draw(function: Function) -> list[list[Any]]:
    """Calls to try: every second one has arguments of one kind."""
    parameters = function.node.args
    count = len(parameters.posonlyargs) + len(parameters.args) - len(parameters.defaults)
    names = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
    method = bool(function.owner and names and "staticmethod" not in _decorators(function))
    attributes = _attributes(function.owner) if method else []
    random = np.random.default_rng(zlib.crc32(f"{function.head}\n{function.body}".encode()))
    calls = []
    for index in range(DRAWS):
        kind = VALUES[random.integers(len(VALUES))]

        def value(kind=kind, mixed=index % 2):
            chosen = VALUES[random.integers(len(VALUES))] if mixed else kind
            return chosen[random.integers(len(chosen))]

        own = [{"attributes": {name: value() for name in attributes}}] if method else []
        call = [*own, *(value() for _ in range(count - len(own)))]
        if call not in calls:
            calls.append(call)
    return calls


def _attributes(owner: ast.ClassDef | None) -> list[str]:
    """The names that methods of a class read of `self`, in order."""
    found = {
        node.attr
        for node in ast.walk(owner or ast.Module([], []))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.endswith("__")
    }
    return sorted(found)


def _kept(body: Body, first: list[str | None], second: list[str | None]) -> Body:
    """The body with the calls that gave the same twice, those first that gave something new."""
    seen: set[str] = set()
    new, old = [], []
    for call, result, again in zip(body.calls, first, second, strict=True):
        if result is not None and result == again:
            (old if result in seen else new).append((call, result))
            seen.add(result)
    chosen = [*new, *old][:CALLS]
    return body._replace(calls=[c for c, _ in chosen], results=[r for _, r in chosen])
