"""The studies of a folder, as their files and tables say them; no study is imported or run.

The docstring of a study is its page in the book. A line that begins with `Question:`, `Cost:`,
`Expected:` (or `Expected, as found:`), `Literature:`, `Paper:` and the like begins a section. The
first word of `Literature:` says whether what was found `agrees` with it, `disagrees` or agrees
`partly`. `ANSWERS = ("power --loss loss --over size", ...)` names verbs of the law lab that the
book asks of the study's table (book_answers.py).
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import research
from research.errors import UserError
from research.scaling.table.file import read_frame

HEAD = re.compile(
    r"(?:^|(?<=[.?]\s))(Question|Cost|Expected|Found|Literature|Paper|Data|Columns|Rows|Intervals)"
    r"((?:,? (?:of|as|and|fitted)\b[^:\n]*)?):\s",
    re.M,
)
NAME = r"[A-Z][\w'’-]*[a-z]\w*"
CITED = re.compile(
    rf"((?:{NAME}, )*{NAME}(?:,? (?:&|and) {NAME})?(?: et al\.)?),? \(?((?:19|20)\d\d)(?!\w)"
)
AGREES = {"agrees": "agrees", "disagrees": "disagrees", "partly": "agrees partly"}
AXES = re.compile(r"size|budget|seed|arm|(?:model|train|data|evaluation|hardware)\.[\w.]+")
# Columns that are no axis: what came out of a run, and what golf says of a row.
RESULTS = {"loss", "flops", "params", "seconds", "step", "mean", "sd", "n", "active", "lookup"}
RESULTS |= {"data", "tokens", "images", "digest", "against", "verdict", "why", "p_value"}
ONE_PARAGRAPH = (
    "Question",
    "Cost",
    "Paper",
)  # what follows them after a blank line is no more theirs


@dataclass(frozen=True)
class Study:
    """What a study says of itself.

    `sections` maps a head such as "Question" to its text, "" to what stands under no head.
    `agrees` is a value of `AGREES`, or "" where the docstring does not say. `table` is what
    stands beside the file, None where nothing does or `faults` say why it cannot be read.
    """

    file: Path
    title: str
    sections: dict[str, str]
    docstring: str
    families: tuple[str, ...]
    sources: tuple[str, ...]
    axes: tuple[str, ...]
    cited: tuple[str, ...]
    agrees: str
    answers: tuple[str, ...] | None
    table: pd.DataFrame | None
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name that no other study of the folder has, fit for a link."""
        return self.file.stem if self.file.parent.name != "papers" else f"papers-{self.file.stem}"


def read_studies(folder: Path) -> list[Study]:
    """Read every study of `folder`, those with a table first, and its `papers` last.

    A study whose file or table cannot be read is there with its faults, each of one line.

    Raises:
        UserError: a folder without a study.
    """
    files = sorted(folder.glob("[!_]*.py")), sorted((folder / "papers").glob("[!_]*.py"))
    if not files[0]:
        raise UserError(f"{folder}: no study; expected a folder of files such as quickstart.py")
    own = [read_study(file) for file in files[0]]
    own = sorted(own, key=lambda study: study.table is None and not study.faults)
    return own + [read_study(file) for file in files[1]]


def read_study(file: Path) -> Study:
    """Read one study and the table beside it; what is wrong with them is in its `faults`."""
    faults: list[str] = []
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        faults.append(f"{file}{where}: is no Python that can be read: {error.args[0]}")
        tree = ast.Module([], [])
    docstring = ast.get_docstring(tree) or ""
    if not docstring and not faults:
        faults.append(f"{file}: has no docstring; expected a question, then Question:, Cost: and")
        faults[-1] += " Expected:"
    title, _, rest = docstring.partition("\n")
    sections = read_sections(rest)
    table = _table(file, faults)
    words, keys = set(_strings(tree)), set(_keys(tree))
    families = _named(words, "families")
    if not families:  # a study made of another one
        families = tuple(sorted({name for text in _used(tree, file) for name in families_of(text)}))
    return Study(
        file=file,
        title=title.strip() or file.stem,
        sections=sections,
        docstring=docstring,
        families=families,
        sources=_named(words - keys, "data/sources"),
        axes=tuple(sorted(filter(AXES.fullmatch, keys) if table is None else _varied(table))),
        cited=citations(docstring),
        agrees=_agrees(file, sections, faults),
        answers=_answers(file, tree, faults),
        table=table,
        faults=tuple(faults),
    )


def read_sections(text: str) -> dict[str, str]:
    """Cut the text below a docstring's title at its heads; a head twice is one section."""
    heads = list(HEAD.finditer(text))
    found = {"": text[: heads[0].start() if heads else None]}
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends, strict=False):
        own = (head[2].strip(", ") + ": ") * head[2].startswith(" of") + text[head.end() : end]
        if head[1] in ONE_PARAGRAPH:
            own, blank, rest = own.partition("\n\n")
            found[""] += blank + rest
        found[head[1]] = f"{found[head[1]]}\n\n{own}" if head[1] in found else own
    whole = {head: own.strip("\n").rstrip() for head, own in found.items() if own.strip()}
    return {head: own[0].upper() + own[1:] for head, own in whole.items()}


def citations(text: str) -> tuple[str, ...]:
    """What is cited as `Author (year)` or `Author et al. year`, each once, in order of its name."""
    flat = " ".join(text.split())
    return tuple(sorted({f"{names} {year}" for names, year in CITED.findall(flat)}))


def families_of(text: str) -> tuple[str, ...]:
    """Names of families among the strings of a module's source."""
    return _named(set(_strings(ast.parse(text))), "families")


def _agrees(file: Path, sections: dict[str, str], faults: list[str]) -> str:
    said = sections.get("Literature", "")
    word = said.partition(" ")[0].strip(",:;.").lower()
    if said and word not in AGREES:
        faults.append(f"{file}: Literature: begins with {word!r}; expected {', '.join(AGREES)}")
    return AGREES.get(word, "")


def _answers(file: Path, tree: ast.Module, faults: list[str]) -> tuple[str, ...] | None:
    """The constant `ANSWERS`, or None where the study has none that can be read."""
    for node in tree.body:
        names = [getattr(each, "id", "") for each in getattr(node, "targets", ())]
        if isinstance(node, ast.Assign) and "ANSWERS" in names:
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                value = None
            if isinstance(value, (tuple, list)) and all(isinstance(word, str) for word in value):
                return tuple(value)
            faults.append(f"{file}, line {node.lineno}: ANSWERS: expected a tuple of strings")
            faults[-1] += " such as 'power --loss loss --over size'"
    return None


def _table(file: Path, faults: list[str]) -> pd.DataFrame | None:
    path = file.with_suffix(".csv")
    if not path.exists():
        return None
    try:
        return read_frame(path)
    except UserError as error:
        faults.append(str(error))
        return None


def _varied(table: pd.DataFrame) -> list[str]:
    """Columns that take several values, each in several rows."""
    distinct = table.nunique()
    several = (distinct > 1) & (distinct <= len(table) / 2)
    return [str(name) for name in distinct[several].index if name not in RESULTS]


def _named(words: set[str], room: str) -> tuple[str, ...]:
    """Those of `words` that name a module of the room `room` of research/."""
    modules = Path(research.__file__).parent.joinpath(*room.split("/")).glob("[!_]*")
    return tuple(sorted(words & {module.stem for module in modules}))


def _strings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _keys(tree: ast.Module) -> Iterator[str]:
    """Strings that are keys of a dict, as axes are."""
    keys = (key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys)
    for key in keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _used(tree: ast.Module, file: Path) -> Iterator[str]:
    """Sources of the studies beside `file` that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments"):
            modules = [node.module or "", *(alias.name for alias in node.names)]
            for name in modules:
                path = file.with_name(f"{name.rpartition('.')[2]}.py")
                if path != file and path.exists():
                    yield path.read_text()
