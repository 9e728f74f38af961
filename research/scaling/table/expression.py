"""Expressions on the columns of a table: comparisons, arithmetic and a few tests of text.

An expression is parsed, never run: its syntax tree is walked over the columns, and what is not on
the short list below is refused. Names of columns that are no Python names stand in `backticks`.
"""

import ast
import keyword
import math
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from research.errors import UserError, nearest
from research.numbers import few
from research.scaling.table.cells import as_numbers, blank

LONGEST, DEEPEST = 10_000, 60  # characters and levels of an expression
ALLOWED = (
    "allowed are columns, numbers, 'text', comparisons, + - * / // % **, and, or, not, in [...],"
    " isna(x), exp, log, log10, sqrt, abs and x.str.contains('text'), startswith, endswith"
)
COMPARE: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: dict[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
FUNCTIONS = {"exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs}
TESTS = ("contains", "startswith", "endswith")
BLANK = {"isna": True, "isnull": True, "notna": False, "notnull": False}
PATTERN = re.compile(r"[\\^$*+?{}\[\]|()]")  # signs of a regular expression, which text is not
LEXEME = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]*)`|[&|]""")


def evaluate(frame: pd.DataFrame, text: str, source: str = "the table") -> Any:
    """The value of the expression `text`: a Series [rows], or a number where it reads no column.

    Arithmetic is of float64 numbers, so that nothing grows beyond them; text is compared with
    text, numbers with numbers, and text columns that hold numbers (20M) are read as such.

    Division by zero and overflow of columns give inf and NaN, as numpy has them.

    Raises:
        UserError: what is not allowed and what is, an unknown column and the nearest, or the row
            where a column is not what the expression takes it for.
    """
    if len(text) > LONGEST:
        raise UserError(f"the expression has {len(text)} characters; {LONGEST} are read")
    quoted: dict[str, str] = {}
    prefix = "column_"
    while prefix in text:
        prefix += "_"

    def lexeme(match: re.Match) -> str:
        if match[1] is not None:
            return f" {quoted.setdefault(match[1].strip(), f'{prefix}{len(quoted)}')} "
        # As in pandas, & and | bind as `and` and `or` do, so that a == 1 & b == 2 means what it
        # says.
        return " and " if match[0] == "&" else " or " if match[0] == "|" else match[0]

    plain = LEXEME.sub(lexeme, text).strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(_unparsed(frame, text, error)) from error
    shown = {placeholder: name for name, placeholder in quoted.items()}
    with np.errstate(all="ignore"):
        return _Walk(frame, shown, text, source).value(tree, 0)


class _Walk:
    """One expression over one frame; `quoted` maps the placeholders of backticks to names."""

    def __init__(self, frame: pd.DataFrame, quoted: dict[str, str], text: str, source: str):
        self.frame, self.quoted, self.text, self.source = frame, quoted, text, source

    def value(self, node: ast.AST, depth: int) -> Any:
        """The value of `node`: a Series [rows], a number, a text, a truth, or a list of them."""
        if depth > DEEPEST:
            raise UserError(f"the expression is nested more than {DEEPEST} deep")
        match node:
            case ast.Name(id=name):
                return self.column(name)
            case ast.Constant(value=bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as value):
                return self.number(float(value) if abs(value) < 1e300 else math.inf, node)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return [self.constant(item, depth + 1) for item in items]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                pair = [self.numbers(each, depth + 1) for each in (left, right)]
                return self.number(ARITHMETIC[type(op)](*pair), node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                found = self.numbers(operand, depth + 1)
                return -found if isinstance(op, ast.USub) else found
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.truth(operand, depth + 1)
            case ast.BoolOp(op=op, values=values):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                found = self.truth(values[0], depth + 1)
                for each in values[1:]:
                    found = join(found, self.truth(each, depth + 1))
                return found
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self.compared([left, *others], ops, depth + 1)
            case ast.Call():
                return self.called(node, depth + 1)
        raise self.refused(node)

    def refused(self, node: ast.AST) -> UserError:
        """What to say of a node that is not on the list."""
        bare = _bare(self.frame, self.text) if isinstance(node, ast.Attribute) else []
        if bare:
            return UserError(f"write `{bare[0]}`, in backticks")
        return UserError(f"{self.shown(node)!r} is not allowed; {ALLOWED}")

    def column(self, name: str) -> pd.Series:
        """The column that a name stands for."""
        backticks = name in self.quoted
        name = self.quoted.get(name, name)
        names = [str(column) for column in self.frame.columns]
        if name not in names:  # Python writes µ and ﬁ in another way than the table may
            name = next((n for n in names if unicodedata.normalize("NFKC", n) == name), name)
        if name in names:
            if names.count(name) > 1 or name in self.frame.attrs.get("repeated", ()):
                raise UserError(f"there are several columns called {name!r}")
            return self.frame.iloc[:, names.index(name)]
        bare = [] if backticks else _bare(self.frame, self.text)
        if bare:
            raise UserError(f"write `{bare[0]}`, in backticks: no column is called {name!r}")
        hint = nearest(name, names[:1000])
        close = re.search(r"'(.*)'", hint)
        if close and spelled(close[1]) != close[1]:
            hint = f" (did you mean {spelled(close[1])}?)"
        if not backticks and self.is_text(name):
            hint = f"; text stands in quotes: '{name}'"
        if not hint:
            hint = f"; it has {few(names, 12)}"
        shown = f"`{name}`" if backticks else repr(name)
        raise UserError(f"no column {shown} in {self.source}{hint}")

    def is_text(self, name: str) -> bool:
        """Whether a column of text holds `name` as one of its values."""
        texts = self.frame.select_dtypes(exclude=["number", "bool"]).columns[:100]
        return any((self.frame[column].astype(str) == name).any() for column in texts.unique())

    def constant(self, node: ast.AST, depth: int) -> Any:
        found = self.value(node, depth)
        if isinstance(found, pd.Series | list):
            raise UserError(f"{self.shown(node)!r} in a list: expected numbers or 'text'")
        return found

    def number(self, found: Any, node: ast.AST) -> Any:
        """`found`, refused where it is a single number beyond what float64 holds."""
        if not isinstance(found, pd.Series) and not np.isfinite(found):
            raise UserError(f"{self.shown(node)!r} is no finite number")
        return found if isinstance(found, pd.Series) else float(found)

    def numbers(self, node: ast.AST, depth: int) -> Any:
        """The value of `node` as float64: one number or a Series [rows]."""
        found = self.value(node, depth)
        if isinstance(found, pd.Series):
            return self.read(found)
        if isinstance(found, str | list):
            raise UserError(f"{self.shown(node)!r} is no number")
        return float(found)

    def read(self, column: pd.Series) -> pd.Series:
        """A column as numbers; blank cells are NaN, anything else is refused."""
        numbers, _ = as_numbers(column, self.frame.attrs.get("decimal", ""))
        bad = numbers.isna() & ~blank(column)
        if bad.any():
            row, value = column.index[bad][0], str(column[bad].iloc[0])
            name = "" if column.name is None else f" {column.name!r}"
            raise UserError(
                f"column{name} holds text in row {row + 1} ({value[:40]!r}), and is taken for"
                f" numbers here; text is compared with 'text' in quotes"
            )
        return numbers

    def truth(self, node: ast.AST, depth: int) -> Any:
        """The value of `node` as true or false: one numpy bool or a Series [rows]."""
        found = self.value(node, depth)
        if isinstance(found, pd.Series) and found.dtype == bool:
            return found
        if isinstance(found, bool | np.bool_):
            return np.bool_(found)
        text = self.shown(node)
        how = f"; write {text} == 1" if isinstance(found, pd.Series) else ""
        raise UserError(f"{text!r} is not true or false{how}")

    def compared(self, nodes: list[ast.expr], ops: list[ast.cmpop], depth: int) -> Any:
        """A chain of comparisons, all of which must hold."""
        found = None
        for left, op, right in zip(nodes, ops, nodes[1:], strict=False):
            if isinstance(op, ast.Is | ast.IsNot):
                raise UserError(f"{self.shown(left)!r} before `is`: write isna(x) or notna(x)")
            pair = [self.value(each, depth) for each in (left, right)]
            if isinstance(op, ast.In | ast.NotIn):
                one = self.among(pair[0], pair[1], right)
                one = ~one if isinstance(op, ast.NotIn) else one
            elif isinstance(pair[1], list) and isinstance(op, ast.Eq | ast.NotEq):
                one = self.among(pair[0], pair[1], right)
                one = ~one if isinstance(op, ast.NotEq) else one
            else:
                one = self.compare(COMPARE[type(op)], *pair)
            found = one if found is None else found & one
        return found

    def among(self, value: Any, choices: Any, node: ast.AST) -> Any:
        """Whether `value` is one of a list of `choices`."""
        if not isinstance(choices, list):
            shown = self.shown(node)
            raise UserError(f"in {shown!r}: expected a list, or {shown}.str.contains('text')")
        found = np.bool_(False)
        if isinstance(value, pd.Series):
            found = pd.Series(False, index=value.index)
        for choice in choices:
            found = found | self.compare(operator.eq, value, choice)
        return found

    def compare(self, how: Callable, left: Any, right: Any) -> Any:
        """One comparison, of numbers with numbers or of text with text."""
        if isinstance(left, list) or isinstance(right, list):
            raise UserError("a list is compared by == or `in` alone, as in size in [1, 2]")
        kinds = [_kind(left), _kind(right)]
        if kinds == ["text", "number"] and isinstance(left, pd.Series):
            left = self.read(left)
        elif kinds == ["number", "text"] and isinstance(right, pd.Series):
            right = self.read(right)
        elif set(kinds) == {"number", "text"}:
            column, text = (left, right) if isinstance(right, str) else (right, left)
            of = f"column {column.name!r}" if isinstance(column, pd.Series) else f"{column:g}"
            raise UserError(f"{of} holds numbers, and is compared with the text {text!r}")
        if isinstance(left, pd.Series) and left.dtype == "category":
            left = left.astype(object)
        try:
            found = how(left, right)
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"the two sides cannot be compared: {reason}") from error
        if isinstance(found, pd.Series):
            return found.fillna(how is operator.ne).astype(bool)
        return np.bool_(found)

    def called(self, node: ast.Call, depth: int) -> Any:
        """One of the few functions and tests."""
        options = {word.arg: word.value for word in node.keywords}
        match node.func:
            case ast.Name(id=name) if name in FUNCTIONS and len(node.args) == 1 and not options:
                found = self.numbers(node.args[0], depth)
                return self.number(FUNCTIONS[name](found), node)
            case ast.Name(id=name) if name in BLANK and len(node.args) == 1 and not options:
                return self.blank(node.args[0], BLANK[name], depth)
            case ast.Attribute(value=inner, attr=name) if name in BLANK and not node.args:
                return self.blank(inner, BLANK[name], depth)
            case ast.Attribute(value=inner, attr="isin") if len(node.args) == 1 and not options:
                choices = self.value(node.args[0], depth)
                return self.among(self.value(inner, depth), choices, node.args[0])
            case ast.Attribute(value=ast.Attribute(value=inner, attr="str"), attr=name) if (
                name in TESTS and len(node.args) == 1
            ):
                return self.text_test(inner, name, node, options, depth)
        raise self.refused(node)

    def blank(self, node: ast.AST, wanted: bool, depth: int) -> pd.Series:
        found = self.value(node, depth)
        if not isinstance(found, pd.Series):
            raise UserError(f"{self.shown(node)!r} is no column")
        return blank(found) == wanted

    def text_test(self, inner, name: str, node: ast.Call, options, depth: int) -> pd.Series:
        """contains, startswith or endswith, of text as it stands."""
        column, text = self.value(inner, depth), self.value(node.args[0], depth)
        given = {key: self.value(value, depth) for key, value in options.items()}
        if not (isinstance(column, pd.Series) and isinstance(text, str)):
            raise UserError(f"{self.shown(node)!r}: expected a column and a 'text'")
        if not set(given) <= {"case", "regex", "na"} or given.get("regex", False) is not False:
            raise UserError(f"{self.shown(node)!r}: text is matched as it stands; only case=False")
        if name == "contains" and "regex" not in given and PATTERN.search(text):
            raise UserError(
                f"{text!r} looks like a regular expression; text is matched as it stands: join"
                " several tests by `or`, or add regex=False"
            )
        texts = column.where(column.notna(), "").astype(str)
        if given.get("case", True) is False:
            texts, text = texts.str.lower(), text.lower()
        if name == "contains":
            return texts.str.contains(text, regex=False).astype(bool)
        return getattr(texts.str, name)(text).astype(bool)

    def shown(self, node: ast.AST) -> str:
        """What the user wrote for `node`, shortened."""
        try:
            written = ast.unparse(node)
        except (RecursionError, ValueError):
            written = self.text
        for placeholder, name in self.quoted.items():
            written = re.sub(rf"\b{placeholder}\b", lambda _, n=name: f"`{n}`", written)
        return written if len(written) <= 60 else written[:59] + "…"


def _kind(value: Any) -> str:
    if isinstance(value, pd.Series):
        types = pd.api.types
        if types.is_numeric_dtype(value):  # truths count as numbers
            return "number"
        if types.is_datetime64_any_dtype(value):
            return "date"
        return "mixed" if _holds_others(value) else "text"
    return "text" if isinstance(value, str) else "number"


def _holds_others(column: pd.Series) -> bool:
    """Whether a column holds truths or other things than text."""
    return column.dtype == object and not column.dropna().map(type).eq(str).all()


def spelled(name: str) -> str:
    """A column's name as an expression takes it."""
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return name if plain else f"`{name}`"


def _bare(frame: pd.DataFrame, text: str) -> list[str]:
    """Columns that stand in `text` without the backticks that they need, longest first."""
    outside = re.sub(r"`[^`]*`", "", text)
    names = [str(column) for column in frame.columns[:10_000]]
    found = [name for name in names if name and name in outside and spelled(name) != name]
    return sorted((n for n in found if not re.fullmatch(r"[\d.e+-]+", n)), key=len, reverse=True)


def _unparsed(frame: pd.DataFrame, text: str, error: Exception) -> str:
    """Why `text` is no expression, and what to write."""
    bare = _bare(frame, text)
    if bare:
        return f"write `{bare[0]}`, in backticks"
    if text.count("`") % 2:
        return "a backtick is not closed"
    if re.search(r"(?<![<>=!])=(?!=)", LEXEME.sub("", text)):
        return "equal is written =="
    if isinstance(error, SyntaxError) and error.msg and "nested" not in error.msg:
        return f"{error.msg.partition(' (')[0]}; {ALLOWED}"
    return "it is nested too deep"
