"""Bad tables through the front door: one clear line, exit code 2, nothing written."""

import builtins
import gzip
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import pandas as pd
import pytest

from research.__main__ import main
from research.scaling.fit import fit_law
from research.scaling.table import from_frame, read_file

HEADER = "N,D,L,C,name\n"
ROWS = [
    (size, data, 1.7 + 400 * size**-0.34 + 400 * data**-0.28, 6 * size * data, name)
    for size, name in ((1e7, "a"), (3e7, "a"), (1e8, "b"), (3e8, "b"))
    for data in (1e9, 3e9, 1e10, 3e10)
]
GOOD = HEADER + "".join(f"{n:g},{d:g},{y:.6f},{c:g},{name}\n" for n, d, y, c, name in ROWS)
LINES = GOOD.splitlines()
FIT = ["--params", "N", "--data", "D", "--loss", "L", "--bootstrap", "100"]
WITH_FLOPS = [*FIT, "--flops", "C"]


def cell(row: int, column: str, value: str) -> str:
    """GOOD with one value changed; rows are counted from 1."""
    fields = LINES[row].split(",")
    fields[LINES[0].split(",").index(column)] = value
    return "\n".join([*LINES[:row], ",".join(fields), *LINES[row + 1 :]]) + "\n"


def scaled(column: str, factor: float, rows: Iterable[int] = range(1, 17)) -> str:
    """GOOD with a column in another unit, in all or some rows."""
    index, text = LINES[0].split(",").index(column), list(LINES)
    for row in rows:
        fields = text[row].split(",")
        fields[index] = f"{float(fields[index]) * factor:g}"
        text[row] = ",".join(fields)
    return "\n".join(text) + "\n"


def constant(column: str, value: str) -> str:
    """GOOD with one value in every row of a column."""
    text, index = list(LINES), LINES[0].split(",").index(column)
    for row in range(1, len(text)):
        fields = text[row].split(",")
        fields[index] = value
        text[row] = ",".join(fields)
    return "\n".join(text) + "\n"


def options(**columns: str) -> list[str]:
    """The options of FIT with other columns."""
    chosen = {"params": "N", "data": "D", "loss": "L", **columns}
    return [word for option, name in chosen.items() for word in (f"--{option}", name)]


# name: (content, options, what the line says)
CASES: dict[str, tuple[str | bytes, list[str], str]] = {
    # units
    "tokens in billions": (
        scaled("D", 1e-9),
        WITH_FLOPS,
        "'C' is 1.0e\\+09 times 6ND: 'D' .*in billi",
    ),
    "tokens in millions": (scaled("D", 1e-6), WITH_FLOPS, "'D' looks to be in millions"),
    "parameters in billions": (scaled("N", 1e-9), WITH_FLOPS, "'N' looks to be in billions"),
    "parameters in millions": (scaled("N", 1e-6), WITH_FLOPS, "'N' looks to be in millions"),
    "FLOPs in petaFLOP/s-days": (scaled("C", 1 / 8.64e19), WITH_FLOPS, "'C'.*expected FLOPs"),
    "tokens in billions, no FLOPs": (scaled("D", 1e-9), FIT, "'D' looks to be in billions"),
    "parameters in billions, no FLOPs": (scaled("N", 1e-9), FIT, "'N' looks to be in billions"),
    "one row in billions": (scaled("D", 1e-9, [5]), WITH_FLOPS, "'D' mixes units: in row 5 "),
    "three rows in billions": (
        scaled("D", 1e-9, [2, 3, 9]),
        WITH_FLOPS,
        "'D' mixes units: in rows 2, 3, 9 ",
    ),
    "some sizes in billions": (scaled("N", 1e-9, range(9, 17)), WITH_FLOPS, "'N' mixes units"),
    "one row's FLOPs in PF-days": (
        scaled("C", 1e-20, [1]),
        WITH_FLOPS,
        "'C' mixes units: in row 1",
    ),
    "mixed units, no FLOPs": (scaled("D", 1e-9, [1, 2]), FIT, "'D' mixes units: in rows 1, 2 "),
    # constant
    "one N": (constant("N", "1e8"), FIT, "every row has N = 1e\\+08"),
    "one D": (constant("D", "1e9"), FIT, "every row has D = 1e\\+09"),
    "constant loss": (constant("L", "2.5"), FIT, "the loss is 2.5 in every row"),
    "one row": ("\n".join(LINES[:2]), FIT, "1 rows? cannot fit"),
    "one row many times": (HEADER + (LINES[1] + "\n") * 30, FIT, "every row has|every row"),
    # values
    "NaN": (cell(3, "L", ""), FIT, "'L' is missing \\(NaN\\) in row 3"),
    "NA spelt out": (cell(3, "L", "NA"), FIT, "'L' is missing \\(NaN\\) in row 3"),
    "NaN in N": (cell(1, "N", "nan"), FIT, "'N' is missing \\(NaN\\) in row 1"),
    "NaN in FLOPs": (cell(2, "C", "null"), WITH_FLOPS, "'C' is missing \\(NaN\\) in row 2"),
    "a whole column missing": (constant("L", ""), FIT, "'L' is missing .* rows 1, 2, 3, 4, 5, ..."),
    "negative loss": (cell(2, "L", "-2.9"), FIT, "'L' is not positive in row 2 \\('-2.9'\\)"),
    "negative N": (cell(2, "N", "-1e7"), FIT, "'N' is not positive in row 2"),
    "zero D": (cell(4, "D", "0"), FIT, "'D' is not positive in row 4"),
    "infinite loss": (cell(2, "L", "inf"), FIT, "'L' is infinite in row 2"),
    "minus infinity": (cell(2, "L", "-inf"), FIT, "'L' is infinite in row 2"),
    "beyond doubles": (cell(2, "C", "1e400"), WITH_FLOPS, "'C' is infinite in row 2"),
    "beyond anything measured": (
        cell(2, "C", "1e200"),
        WITH_FLOPS,
        "'C' is beyond 1e\\+45 in row 2",
    ),
    "a loss of nearly nothing": (cell(2, "L", "1e-300"), FIT, "'L' is below 1e-45 in row 2"),
    "a string": (cell(5, "L", "diverged"), FIT, "row 5 \\('diverged'\\); expected plain numbers"),
    "a unit": (cell(2, "C", "8.64 PF-days"), WITH_FLOPS, "'C'.*row 2 \\('8.64 PF-days'\\)"),
    "thousands or a decimal": (constant("D", '"1,234"'), FIT, "rows 1, .*: write 1234 or 1.234"),
    "decimal comma": (cell(2, "L", '"3,14"'), FIT, "row 2 \\('3,14'\\): write 3.14"),
    "percent": (cell(2, "L", "3%"), FIT, "'L' is not a number in row 2 \\('3%'\\): write 0.03"),
    "true and false": (constant("N", "True"), FIT, "'N' holds bool values; expected numbers"),
    "dates": (cell(2, "D", "2024-01-01"), FIT, "'D' is not a number in row 2"),
    "a column of names": (GOOD, options(loss="name"), "'name' is not a number in rows 1, 2"),
    # columns
    "missing column": (GOOD, options(loss="val_loss"), "--loss: no column 'val_loss'.*it has N, D"),
    "missing column, nearest": (GOOD, [*FIT, "--group", "nmae"], "did you mean 'name'"),
    "other case": (GOOD, options(params="n"), "no column 'n'.*did you mean 'N'"),
    "missing FLOPs column": (GOOD, [*FIT, "--flops", "flop"], "--flops: no column 'flop'"),
    "law and columns do not match": (GOOD, options(data="tokens"), "--data: no column 'tokens'"),
    "no data and no FLOPs": (GOOD, ["--params", "N", "--loss", "L"], "--data"),
    "no loss named": (GOOD, ["--params", "N", "--data", "D"], "--loss"),
    "no parameters named": (GOOD, ["--loss", "L", "--data", "D"], "--params"),
    "a column given twice": (GOOD, options(data="N"), "--params and --data both name.*'N'"),
    "loss given as FLOPs": (GOOD, [*FIT, "--flops", "L"], "--loss and --flops both name.*'L'"),
    "header names a column twice": (
        GOOD.replace("D,L,C", "D,L,L", 1),
        FIT,
        "several columns called 'L'",
    ),
    "no header": (GOOD.split("\n", 1)[1], FIT, "--params: no column 'N'"),
    "repeats without unique data": (
        GOOD,
        [*FIT, "--law", "muennighoff"],
        "'muennighoff' reads U: give --unique COLUMN",
    ),
    "experts without a column": (
        GOOD.replace("name", "num_experts", 1),
        [*FIT, "--law", "moe_clark"],
        "reads experts: give --column experts=COLUMN .did you mean 'num_experts'",
    ),
    "a law of compute without FLOPs": (
        GOOD,
        ["--loss", "L", "--law", "power"],
        "reads C: give --flops COLUMN .did you mean 'C'",
    ),
    "no law without columns": (GOOD, ["--loss", "L", "--law", "auto"], "no law reads .*--params"),
    "a variable that has an option": (GOOD, [*FIT, "--column", "N=D"], "N is taken: use --params"),
    "a variable without a column": (GOOD, [*FIT, "--column", "experts"], "expected NAME=COLUMN"),
    "one choice": (GOOD, [*FIT, "--choices", "1"], "--choices 1: expected 2 or more"),
    "losses below zero and a positive law": (
        cell(2, "L", "-2.9"),
        [*FIT, "--objective", "l2"],
        "'chinchilla' is positive",
    ),
    # files
    "empty": ("", FIT, "the file is empty"),
    "blank lines": ("\n\n\n", FIT, "the file is empty"),
    "header only": (HEADER, FIT, "no rows"),
    "ragged": (GOOD + "1,2,3,4,5,6,7\n", FIT, "not a CSV"),
    "a field after every row": (
        GOOD.replace("a\n", "a,7\n").replace("b\n", "b,7\n"),
        FIT,
        "more fields than the header",
    ),
    "a short row": (GOOD + "1e7,1e9\n", FIT, "'L' is missing \\(NaN\\) in row 17"),
    "an open quote": (GOOD + '"1e7,1e9,3\n', FIT, "not a CSV|missing|not a number"),
    "binary": (bytes(range(256)) * 8, FIT, "not a text file"),
    "a gzip file cut short": (gzip.compress(GOOD.encode(), mtime=0)[:40], FIT, "damaged"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), FIT, "a picture; expected CSV"),
    # rows
    "where leaves nothing": (GOOD, [*FIT, "--where", "L > 99"], "no rows where L > 99"),
    "where names no column": (GOOD, [*FIT, "--where", "nme == 'a'"], "--where: no column 'nme'"),
    "where needs backticks": (
        GOOD.replace("name", "run name", 1),
        [*FIT, "--where", "run name == 'a'"],
        "--where: .*write `run name`, in backticks",
    ),
    "where is broken": (GOOD, [*FIT, "--where", "L >"], "--where: cannot evaluate"),
    "where is a number": (GOOD, [*FIT, "--where", "L * 2"], "--where: .* not true or false"),
    "where leaves too few": (GOOD, [*FIT, "--where", "D == 1e9"], "4 rows cannot fit"),
}


def refused(capsys, words: list[str], match: str) -> None:
    """The front door says `match` in one line on standard error, and nothing else."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert len(said.err) < 500
    assert re.search(match, said.err), said.err


@pytest.mark.parametrize("case", CASES)
def test_fit_refuses_in_one_line(case, tmp_path, capsys):
    content, words, match = CASES[case]
    path, out = tmp_path / "t.csv", tmp_path / "laws.json"
    path.write_text(content) if isinstance(content, str) else path.write_bytes(content)
    refused(capsys, ["fit", str(path), *words, "--out", str(out)], match)
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.csv"], "nothing is written"


ISOFLOP = {
    "one N": (constant("N", "1e8"), "every row has N 1e\\+08"),
    "constant loss": (constant("L", "2.5"), "every row has a loss of 2.5"),
    "tokens in billions": (scaled("D", 1e-9), "'D' looks to be in billions"),
    "a string": (cell(5, "L", "diverged"), "row 5 \\('diverged'\\)"),
    "empty": ("", "the file is empty"),
    "missing column": (GOOD.replace("C", "flops", 1), "--flops: no column 'C'"),
}


@pytest.mark.parametrize("case", ISOFLOP)
def test_isoflop_refuses_in_one_line(case, tmp_path, capsys):
    content, match = ISOFLOP[case]
    path, out = tmp_path / "t.csv", tmp_path / "isoflop.json"
    path.write_text(content)
    refused(capsys, ["isoflop", str(path), *WITH_FLOPS, "--out", str(out)], match)
    assert not out.exists()


def test_paths_that_cannot_be_read(tmp_path, capsys, monkeypatch):
    (tmp_path / "table.csv").write_text(GOOD)
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "")
        book.writestr("xl/sheet.xml", "")
    (tmp_path / "bad.parquet").write_text(GOOD)
    (tmp_path / "empty").mkdir()
    for name, match in {
        "tabel.csv": "no such file.*did you mean 'table.csv'",
        "table.csv/inside": "no such file|cannot read",
        "empty": "no finished trial|name the column",
        "book.xlsx": "a ZIP archive or a workbook; expected CSV",
        "bad.parquet": "not a Parquet file|pip install pyarrow",
    }.items():
        words = [] if name == "empty" else FIT
        refused(capsys, ["fit", str(tmp_path / name), *words], match)

    refused(capsys, ["isoflop", str(tmp_path / ("x" * 300)), *FIT], "cannot read")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refused(capsys, ["fit", str(tmp_path / "table.csv"), *FIT], "cannot read .*Permission denied")


def test_parquet_without_pyarrow(tmp_path, capsys, monkeypatch):
    genuine = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    refused(capsys, ["fit", str(tmp_path / "t.parquet"), *FIT], "pip install pyarrow")


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", " , ").encode(),
        GOOD.replace("D,L,C", "D,L,name", 1).encode(),
        GOOD.replace("a\n", "a,\n").replace("b\n", "b,\n").encode(),
        (GOOD + ",,,,\n,,,,\n").encode(),
        gzip.compress(GOOD.encode(), mtime=0),
    ],
    ids=[
        "byte order mark",
        "CRLF",
        "spaces",
        "a name twice that nobody asked for",
        "a comma after every row",
        "a spreadsheet's empty rows",
        "gzip",
    ],
)
def test_what_is_only_odd_is_read(content, tmp_path, capsys):
    path, out = tmp_path / "t.csv", tmp_path / "isoflop.json"
    path = path.with_suffix(".csv.gz") if content[:2] == b"\x1f\x8b" else path
    path.write_bytes(content)
    assert main(["isoflop", str(path), *FIT, "--out", str(out)]) == 0
    assert out.exists() and capsys.readouterr().err == ""


def fitted(path, capsys, *words) -> dict:
    assert main(["fit", str(path), *(words or FIT), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def test_columns_that_are_not_asked_for_do_no_harm(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(GOOD)
    plain = fitted(tmp_path / "t.csv", capsys)
    frame = pd.read_csv(tmp_path / "t.csv")
    # Names that checks read, with content they cannot.
    texts = ("learning_rate", "batch_size", "warmup_fraction", "schedule_overhang", "epochs")
    texts += ("unique_tokens", "width", "depth", "budget", "row")
    holes = ("status", "run_id", "trunk", "seed", "split", "d_model", "num_layers", "ema")
    odd = {name: [f"{name} {row}" for row in range(16)] for name in texts}
    odd |= {name: [float("nan")] * 16 for name in holes}
    frame = frame.assign(**odd, nested=[{"a": 1}, [2]] * 8, group="")
    read = from_frame(frame, params="N", data="D", loss="L")
    fit = fit_law(read, bootstrap=100)
    assert fit.parameters == plain["parameters"] or fit.rejected == plain["rejected"]
    assert fit.warnings == plain["warnings"]


def test_names_of_every_kind(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(GOOD)
    plain = fitted(tmp_path / "t.csv", capsys)
    names = {"N": "Größe (M)", "D": "Seen %", "L": "val/loss", "name": "a b"}
    frame = pd.read_csv(tmp_path / "t.csv").rename(columns=names)
    frame.to_csv(tmp_path / "odd.csv", index=False)
    words = options(params="Größe (M)", data="Seen %", loss="val/loss") + FIT[-2:]
    assert fitted(tmp_path / "odd.csv", capsys, *words)["rejected"] == plain["rejected"]
    some = fitted(tmp_path / "odd.csv", capsys, *words, "--where", "`a b` == 'a' or `Seen %` > 1e9")
    assert some["num_runs"] == 14


def test_whole_numbers_do_not_overflow_and_an_index_is_columns(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.csv").write_text(GOOD)
    plain = fitted(tmp_path / "t.csv", capsys)
    frame = pd.read_csv(tmp_path / "t.csv").astype({"N": "int64", "D": "int64"})
    assert (6 * frame["N"] * frame["D"]).min() < 0, "6 N D does not fit in 64 bits"
    frame.set_index(["N", "D"]).to_parquet(tmp_path / "t.parquet")
    found = fitted(tmp_path / "t.parquet", capsys)
    assert found["range"] == plain["range"] and found["rejected"] == plain["rejected"]


LAW = {"law": "chinchilla", "parameters": {"E": 2, "A": 400, "B": 400, "alpha": 0.3, "beta": 0.3}}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is not JSON"),
        (bytes(range(128, 256)), "not JSON: byte 0 is not UTF-8"),
        ([1], "not a fitted law"),
        ({**LAW, "law": ["a"]}, "law: expected a string, got a list"),
        ({**LAW, "parameters": [1, 2]}, "parameters: expected an object, got a list"),
        (
            {**LAW, "parameters": {**LAW["parameters"], "A": "many"}},
            'parameters.A: expected a number, got "many"',
        ),
        (
            {**LAW, "parameters": {**LAW["parameters"], "A": float("nan")}},
            "parameters.A: expected a",
        ),
        ({**LAW, "parameters": {"A": 400}}, "parameter 'E' is missing"),
        ({**LAW, "range": {"C": 5}}, "range.C: expected a list, got 5"),
        ({**LAW, "level": "x"}, 'level: expected a number, got "x"'),
    ],
)
def test_a_damaged_law_is_refused_in_one_line(content, match, tmp_path, capsys):
    path = tmp_path / "laws.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    refused(capsys, ["plan", str(path), "--flops", "1e22"], match)


def test_a_real_process_ends_with_2_and_one_line(tmp_path):
    (tmp_path / "t.csv").write_text(cell(2, "N", "70 apples"))
    words = [sys.executable, "-m", "research", "fit", str(tmp_path / "t.csv"), *FIT]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "column 'N' is not a number in row 2 ('70 apples'); expected plain" in done.stderr


def test_a_million_rows_are_read_in_seconds(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "".join(line + "\n" for line in LINES[1:]) * 62_500)
    began = perf_counter()
    assert len(read_file(path, params="N", data="D", loss="L")) == 1_000_000
    assert perf_counter() - began < 15
