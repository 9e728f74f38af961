"""Published results against ours, line by line; a paper is a file of experiments/papers/.

Such a file has a docstring (question, paper, data and licence, columns, cost, expected result),
`DATA`, which says where its table is to be had (None when it needs none), `LEARNED`, and
`reproduce(path) -> list[Line]`. Tables are given by path: nothing is fetched.
"""

import importlib.util
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from research.errors import UserError, nearest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "papers"

Value = float | str


@dataclass(frozen=True)
class Line:
    """One result: as published, as we find it, and whether they agree.

    `passed` follows from the `tolerance` on the difference, or from the `interval` that ours must
    lie in; without either it is a statement, and `published` and `ours` may be words.
    """

    name: str
    published: Value
    ours: Value
    passed: bool
    tolerance: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Ours less the published number; None between words."""
        if isinstance(self.ours, str) or isinstance(self.published, str):
            return None
        return self.ours - self.published

    def to_json(self) -> dict[str, Any]:
        """Every field, floats in full precision."""
        return {**asdict(self), "difference": self.difference}


def close(name: str, published: float, ours: float, tolerance: float, note: str = "") -> Line:
    """A line that passes when ours is within `tolerance` (absolute) of the published number."""
    passed = abs(float(ours) - published) <= tolerance  # never of a nan
    return Line(name, published, float(ours), passed, tolerance=float(tolerance), note=note)


def inside(
    name: str, published: float, ours: float, interval: tuple[float, float], note: str = ""
) -> Line:
    """A line that passes when ours lies in `interval`, ends included."""
    passed = interval[0] <= ours <= interval[1]
    return Line(name, published, float(ours), bool(passed), interval=interval, note=note)


@dataclass(frozen=True)
class Reproduction:
    """What one paper says and what we find."""

    name: str
    title: str
    lines: list[Line]
    learned: str
    source: str | None

    @property
    def passed(self) -> bool:
        """Whether every line did."""
        return all(line.passed for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Every field, floats in full precision."""
        return {
            "paper": self.name,
            "title": self.title,
            "source": self.source,
            "passed": self.passed,
            "lines": [line.to_json() for line in self.lines],
            "learned": self.learned,
        }


def names() -> list[str]:
    """The papers there are, in order."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def load(name: str) -> ModuleType:
    """Return the paper called `name`.

    Raises:
        UserError: there is none; the nearest is named.
    """
    known = names()
    if name not in known:
        raise UserError(f"no paper {name!r}{nearest(name, known)}; one of {', '.join(known)}")
    module_name = f"experiments.papers.{name}"
    spec = importlib.util.spec_from_file_location(module_name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def title(paper: ModuleType) -> str:
    """The first line of a paper's docstring."""
    return (paper.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def reproduce(name: str, path: str | Path | None = None) -> Reproduction:
    """Compute every line of a paper from the table at `path` (a file, or a folder that holds it).

    Raises:
        UserError: no such paper, no `path` where it needs a table (the message says which public
            file), a `path` where it needs none, or a table that is not its own or cannot be read.
    """
    paper = load(name)
    if paper.DATA is None and path is not None:
        raise UserError(f"--data: {name} needs no data")
    if paper.DATA is not None and path is None:
        raise UserError(f"--data: {name} needs a table that is not here; give {paper.DATA}")
    lines = paper.reproduce(None) if path is None else _lines_of(name, paper, Path(path))
    learned = " ".join(paper.LEARNED.split())
    return Reproduction(name, title(paper), lines, learned, path and str(path))


def _lines_of(name: str, paper: ModuleType, path: Path) -> list[Line]:
    try:
        return paper.reproduce(path)
    except UserError as error:
        if not path.exists() or str(error).startswith(f"--data {path}: "):
            raise
        # The paper's own code chose rows and columns: the user gave nothing but the file.
        reason = re.sub(r"^--[a-z]+( [^:]*)?: ", "", str(error))
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    raise UserError(f"--data {path}: not the table of {name} ({reason}); give {paper.DATA}")


def table_file(path: Path | None, name: str) -> Path:
    """The file that `--data` means: `path` itself, or the one called `name` below a folder.

    Raises:
        UserError: the folder holds no such file, or several.
    """
    assert path is not None, "reproduce() has refused that"
    if not path.is_dir():
        return path
    found = sorted(path.rglob(name))
    if len(found) != 1:
        how = "no file" if not found else f"{len(found)} files"
        raise UserError(f"--data {path}: {how} called {name} in this folder; give the file itself")
    return found[0]
