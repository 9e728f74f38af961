"""Tables as people have them: every layout reads back to the same numbers, or gets one line."""

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.__main__ import main
from research.errors import UserError
from research.scaling.extrapolate.curves import from_frame as curves_from_frame
from research.scaling.table import from_frame, read_file, read_frame, read_runs
from research.scaling.table.cells import as_numbers
from tests.scaling.planted import planted_study, result, write_study

N, D = [1e7, 2e7, 4e7, 8e7], [1e9, 4e9, 1e9, 4e9]
L = [3.25, 3.125, 2.9, 2.8125]
ROWS = list(zip(N, D, L, strict=True))
CSV = "N,D,L\n" + "".join(f"{n:.0f},{d:.0f},{y}\n" for n, d, y in ROWS)
COLUMNS = {"params": "N", "data": "D", "loss": "L"}


def swapped(comma: str, point: str = ".") -> str:
    return CSV.replace(",", comma).replace(".", point)


def rows(template: str, header: str = "N,D,L\n") -> str:
    """A table whose every row is `template` of the row's n, d and y."""
    return header + "".join(template.format(n=n, d=d, y=y) + "\n" for n, d, y in ROWS)


def zipped(content: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("t.csv", content)
    return stream.getvalue()


MARKDOWN = "| N | D | *L* |\n|:---|---:|---|\n" + rows("| {n:.0f} | {d:g} | **{y}** |", "")
RECORDS = [{"N": n, "D": d, "L": y} for n, d, y in ROWS]
OFF = [{"step": k} for k in range(3)]
PIVOT = "N,1e9,4e9\n1e7,3.25,\n2e7,,3.125\n4e7,2.9,\n8e7,,2.8125\n"
SHORT = "10M,1B,3.25\n20M,4B,3.125\n40M,1B,2.9\n80M,4B,2.8125\n"
SPREAD = rows('{n:g},{d:g},"{y} ± 0.01"')
# name: (content, columns that are named otherwise, the beginning of what is said, after the file)
LAYOUTS: dict[str, tuple[str | bytes, dict[str, str], list[str]]] = {
    "commas": (CSV, {}, []),
    "semicolons": (swapped(";"), {}, ["columns separated by semicolons"]),
    "decimal commas": (swapped(";", ","), {}, ["columns separated by semicolons; decimal commas"]),
    "tabs and decimal commas": (swapped("\t", ","), {}, ["columns separated by tabs; decimal"]),
    "thousands with points": (
        "N;D;L\n10.000.000;1.000.000.000;3,25\n20.000.000;4.000.000.000;3,125\n"
        "40.000.000;1.000.000.000;2,9\n80.000.000;4.000.000.000;2,8125\n",
        {},
        ["columns separated by semicolons; decimal commas"],
    ),
    "bars": (swapped("|"), {}, ["columns separated by bars"]),
    "spaces": (swapped("   "), {}, ["columns separated by spaces"]),
    "as pandas prints it": (pd.DataFrame(RECORDS).to_string(), {}, ["columns separated by spaces"]),
    "UTF-16": (CSV.encode("utf-16"), {}, ["UTF-16 text"]),
    "UTF-16 without its mark": (CSV.encode("utf-16-le"), {}, ["UTF-16-LE text"]),
    "UTF-8 with a mark": (CSV.encode("utf-8-sig"), {}, []),
    "Latin-1": (CSV.replace("N,", "Größe,").encode("latin-1"), {"params": "Größe"}, ["Latin-1"]),
    "old line ends": (CSV.replace("\n", "\r"), {}, []),
    "comments": ("# our runs\n#\n" + CSV + "# 1,2,3\n", {}, ["3 comment lines left out"]),
    "a header in a comment": ("# one\n# " + CSV, {}, ["its names from the comment above"]),
    "no header": (
        CSV.partition("\n")[2],
        {"params": "1", "data": "2", "loss": "3"},
        ["no header: its columns are called 1 to 3"],
    ),
    "no header and names": (
        rows("run,{n},{d},{y}", ""),
        {"params": "2", "data": "3", "loss": "4"},
        ["no header: its columns are called 1 to 4"],
    ),
    "a column called #": (rows("0,{n},{d},{y}", "#,N,D,L\n"), {}, ["its names from the comment"]),
    "Markdown": (MARKDOWN, {}, ["a Markdown table"]),
    "Markdown in prose": (
        f"# Runs\n\n{MARKDOWN}\nThat was all.\n",
        {},
        ["a Markdown table; 2 oth"],
    ),
    "Markdown without edges": (
        rows("{n} | {d} | {y}", "N | D | L\n--|--|--\n"),
        {},
        ["a Markdown table"],
    ),
    "JSON lines": ("".join(json.dumps(row) + "\n" for row in RECORDS), {}, []),
    "a log in JSON lines": (
        "".join(json.dumps(row) + "\n" for row in [*OFF, *RECORDS]) + '{"N": 1e',
        {},
        ["line 8 is cut short: left out", "3 of 7 rows have no 'L': left out"],
    ),
    "a JSON array": (json.dumps(RECORDS, indent=1), {}, []),
    "JSON under a key": (json.dumps({"made": "today", "runs": RECORDS}), {}, []),
    "JSON of columns": (json.dumps({"N": N, "D": D, "L": L}), {}, []),
    "JSON by pandas": (pd.DataFrame(RECORDS).to_json(), {}, []),
    "JSON of records by name": (
        json.dumps({f"run {k}": row for k, row in enumerate(RECORDS)}),
        {},
        [],
    ),
    "nested JSON": (
        json.dumps([{"config": {"N": n, "D": d}, "val": {"loss": y}} for n, d, y in ROWS]),
        {"params": "config.N", "data": "config.D", "loss": "val.loss"},
        [],
    ),
    "suffixes": (
        "N,D,L\n" + SHORT,
        {},
        ["column 'N': read '10M' as 10000000", "column 'D': read '1B' as 1e+09"],
    ),
    "suffixes with words": (
        "N,D,L\n" + SHORT.replace("M", " million params").replace("B", "bn tokens"),
        {},
        ["column 'N': read '10 million params' as 10000000", "column 'D': read '1bn tokens'"],
    ),
    "thousands separators": (
        rows('"{n:,.0f}","{d:,.0f}",{y}'),
        {},
        ["column 'N': read '10,000,000' as 10000000", "column 'D': read '1,000,000,000'"],
    ),
    "Swiss thousands": (
        rows("{n:,.0f}|{d:,.0f}|{y}", "N|D|L\n").replace(",", "'"),
        {},
        ["columns separated by bars", "column 'N': read", "column 'D': read"],
    ),
    "powers": (
        "N,D,L\n10^7,10⁹,3.25\n2·10^7,4x10^9,3.125\n4×10⁷,1e9,2.9\n8*10**7,4E+9,2.8125\n",
        {},
        ["column 'N': read '10^7' as 10000000", "column 'D': read '10⁹' as 1e+09"],
    ),
    "plus and minus": (SPREAD, {}, ["column 'L': read '3.25 ± 0.01' as 3.25"]),
    "plus and minus in ASCII": (SPREAD.replace(" ± ", "+/-"), {}, ["column 'L': read '3.25+/-0"]),
    "percent": (
        rows("{n},{d},{y}%").replace("%", "00%").replace(".", ""),
        {},
        ["column 'L': read '32500%' as 325"],
    ),
    "log10 and ln": (
        "log10_N,log10(D),ln_loss\n"
        + "".join(f"{np.log10(n)!r},{np.log10(d)!r},{np.log(y)!r}\n" for n, d, y in ROWS)
        .replace("np.float64(", "")
        .replace(")", ""),
        {"params": "log10_N", "data": "log10(D)", "loss": "ln_loss"},
        ["column 'log10_N' holds a logarithm", "column 'log10(D)'", "column 'ln_loss'"],
    ),
    "an expression": (
        rows("{n},{d},{y}", "size/1,D,L\n").replace("00000.0", ""),
        {"params": "1e5 * `size/1`", "data": "D * 100000.0"},
        [],
    ),
    "units in names": (
        "Params (M),tokens_B,L\n" + SHORT.replace("M", "").replace("B", ""),
        {"params": "Params (M)", "data": "tokens_B"},
        ["column 'Params (M)' is in M: read as 1e6*`Params (M)`", "column 'tokens_B' is in B"],
    ),
    "a line for Excel": ("sep=;\n" + swapped(";"), {}, ["columns separated by semicolons"]),
    "thousands with commas": (
        rows("{n:,.0f};{d:,.0f};{y}", "N;D;L\n"),
        {},
        ["columns separated by semicolons; commas part thousands"],
    ),
    "Markdown with short rules": (MARKDOWN.replace(":---", "-"), {}, ["a Markdown table"]),
    "a pivot that names both": (
        PIVOT.replace("N", "N\\D", 1),
        {},
        ["a pivot: its columns 1e9 to 4e9 read as 'D'"],
    ),
    "a pivot": (PIVOT, {}, ["a pivot: its columns 1e9 to 4e9 read as 'D', their cells as 'L'; 4"]),
    "gzip": (gzip.compress(CSV.encode()), {}, []),
    "bzip2": (bz2.compress(CSV.encode()), {}, []),
    "xz": (lzma.compress(CSV.encode()), {}, []),
    "zip": (zipped(CSV), {}, []),
}


def read(tmp_path, content: str | bytes, name: str = "t.csv", **columns):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_file(path, **{**COLUMNS, **columns})


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_layout_reads_to_the_same_numbers_and_says_how(case, tmp_path):
    content, columns, said = LAYOUTS[case]
    table = read(tmp_path, content, **columns)
    exact = case not in ("log10 and ln", "an expression", "percent")
    for name, expected in (("N", N), ("D", D), ("L", L)):
        if exact:
            np.testing.assert_array_equal(table[name], expected)
        elif case != "percent":
            np.testing.assert_allclose(table[name], expected, rtol=1e-12)
    notes = [note.partition("t.csv: ")[2] for note in table.notes]
    assert len(notes) == len(said), notes
    assert all(note.startswith(start) for note, start in zip(notes, said, strict=True)), notes


def test_percentages_become_shares(tmp_path):
    table = read(tmp_path, "N,D,L\n1e7,1e9,45.2%\n2e7,2e9,44 %\n4e7,4e9,43.1%\n")
    assert table["L"].tolist() == [0.452, 0.44, 0.431]


REFUSED: dict[str, tuple[str | bytes, dict[str, str], str]] = {
    "thousand or decimal": (
        'N,D,L\n1e7,1e9,"3,142"\n2e7,2e9,"2,987"\n',
        {},
        "'L' is not a number in rows 1, 2 .'3,142'.: write 3142 or 3.142",
    ),
    "points beside decimal commas": (
        "N;D;L;hours\n1e7;1e9;45.755%;3,1\n2e7;2e9;43.125%;2,25\n",
        {},
        "'L' is not a number in rows 1, 2 .'45.755%'.: write 0.45755 or 457.55",
    ),
    "thousands or points beside decimal commas": (
        "N;D;L\n125.000;1e9;3,1\n250.000;2e9;2,25\n",
        {},
        "'N' is not a number in rows 1, 2 .'125.000'.: write 125 or 125000",
    ),
    "shares beside percent": (
        "N,D,L\n1e7,1e9,45.2%\n2e7,2e9,0.4\n",
        {},
        "row 1.*: write 0.452, or %",
    ),
    "a log of an unsaid base": (
        "N,D,log_loss\n1e7,1e9,1.1\n",
        {"loss": "log_loss"},
        "give --loss 'exp.log_loss.' or '10\\*\\*log_loss' or '\\+log_loss'",
    ),
    "log N": ("log N,D,L\n7,1e9,3\n", {"params": "log N"}, "'10\\*\\*`log N`'"),
    "billions": (
        "N,D,L\n1e9,20,3\n2e9,40,2.9\n",
        {},
        "'D' looks to be in billions.*give --data '1e9\\*D'",
    ),
    "no header": (CSV.partition("\n")[2], {}, "no column 'N'.*no header: its columns are called 1"),
    "a pivot without a name": (PIVOT.replace("N", "", 1), {}, "if it is a pivot, call its first"),
    "a blank loss": ("N,D,L\n1e7,1e9,\n1e7,2e9,3\n1,2,3\n", {}, "row 1; --where 'notna.L.'"),
    "two Markdown tables": (MARKDOWN + "\n\n" + MARKDOWN, {}, "2 Markdown tables; expected one"),
    "a title above": ("Our runs\n\n" + CSV, {}, "lines above the header a #"),
    "bytes": ("N,D,L\n1MB,1e9,3\n", {}, "'N' is not a number in row 1 .'1MB'."),
    "NUL": (CSV + "\0", {}, "control characters|not a text"),
    "a workbook": (zipped("a")[:20], {}, "damaged"),
    "a broken gzip": (gzip.compress(CSV.encode())[:-9], {}, "damaged"),
    "a deep JSON": ("[" * 100_000, {}, "nested too deep"),
    "a long number": (
        '[{"L": 3, "D": 1e9, "N": ' + "9" * 5000 + "}]",
        {},
        "'N' is infinite in row 1",
    ),
    "a key twice": ('{"N": 1, "N": 2}\n{"N": 3}\n', {}, "the key 'N' is there twice"),
    "a line that is no JSON": ('{"N": 1}\nN\n{"N": 2}\n', {}, "line 2 is not JSON"),
    "an empty array": ("[]", {}, "no rows"),
    "a list of numbers": ("[[1, 2], [3]]", {}, "no table; expected an array of objects"),
    "an unknown expression": (CSV, {"params": "1e6 * M"}, "--params: no column 'M' in .*N, D, L"),
    "a name twice in an expression": (
        "N,D,L,L\n1e7,1e9,3,3\n",
        {"loss": "2 * L"},
        "^--loss: .* has several columns called 'L'$",
    ),
    "an attack": (CSV, {"params": "N.to_pickle('pwned') * 1"}, "not allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_ambiguous_is_refused_with_what_mends_it(case, tmp_path):
    content, columns, match = REFUSED[case]
    with pytest.raises(UserError, match=match) as caught:
        read(tmp_path, content, **columns)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert os.listdir(tmp_path) == ["t.csv"]


def test_wide_and_hostile_headers_are_read_fast(tmp_path):
    for count in (3_000, 100_000):
        content = "a," * count + "N,D,L\n" + "1," * count + "1e7,1e9,3\n"
        if count < 10_000:
            assert read(tmp_path, content)["N"].tolist() == [1e7]
        else:
            with pytest.raises(UserError, match="100003 columns; at most 10000 are read"):
                read(tmp_path, content)


POSITIVE = st.floats(1e-3, 1e15).map(lambda value: float(f"{value:.6g}"))


def written(value: float, mark: str, group: str) -> str:
    whole, _, part = f"{value:.9f}".rstrip("0").partition(".")
    whole = f"{int(whole):,}".replace(",", group)
    return f"{whole}{mark}{part}" if part else whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=6),
    st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (",", " ")]),
    st.sampled_from([",", ";", "\t", "|", "Markdown"]),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "latin-1"]),
    st.booleans(),
)
def test_a_table_written_anyhow_reads_back_or_is_refused(values, marks, separator, encoding, note):
    """Never another number: an ambiguous column is refused, not guessed."""
    cells = [[f'"{written(value, *marks)}"' for value in row] for row in values]
    if separator == "Markdown":
        lines = ["| L | N |", "|---|---|"]
        lines += ["| " + " | ".join(cell.strip('"') for cell in row) + " |" for row in cells]
    else:
        lines = [separator.join(row) for row in [["L", "N"], *cells]]
    text = "# a note\n" * note + "\n".join(lines) + "\n"
    try:
        frame = read_text(text.encode(encoding))
        table = from_frame(frame, loss="L", params="N")
    except UserError as error:
        assert marks[0] == "," or marks[1] in ",.", error
        assert "\n" not in str(error)
    else:
        np.testing.assert_allclose(table["L"], [row[0] for row in values], rtol=1e-12)
        np.testing.assert_allclose(table["N"], [row[1] for row in values], rtol=1e-12)


def read_text(content: bytes) -> pd.DataFrame:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    try:
        return read_frame(f"/dev/fd/{reader}")
    finally:
        os.close(reader)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda t: t.encode("utf-8"))))
def test_any_bytes_give_a_table_or_one_line(content):
    try:
        frame = read_text(content)
        from_frame(frame, loss="L", params="N")
    except UserError as error:
        assert len(str(error).splitlines()) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("0123456789.,%±eEkMB -+'x^", max_size=10), max_size=5))
def test_any_cells_are_numbers_or_nothing(cells):
    numbers, _ = as_numbers(pd.Series(cells, dtype=object))
    assert len(numbers) == len(cells) and numbers.dtype == float


CHART = (
    "Step,run-a - val/loss,run-a - val/loss__MIN,run-a - val/loss__MAX,a - b - val/loss\n"
    + "".join(
        f"{k},{3 / k**0.3 if k % 2 else ''},,,{'' if k % 2 else 4 / k**0.3}\n" for k in range(1, 40)
    )
)


def test_a_chart_of_wandb_has_a_column_a_run(tmp_path):
    (tmp_path / "w.csv").write_text(CHART)
    frame = read_frame(tmp_path / "w.csv")
    read = functools.partial(
        curves_from_frame, frame, curve="run", x="Step", fit="Step < 20", source="w.csv"
    )
    curves = read(y="val/loss")
    assert curves.names == ("run-a", "a - b")
    np.testing.assert_array_equal(curves.x[:3], [1, 3, 5])
    np.testing.assert_allclose(curves.y[0], 3)
    (note,) = curves.notes
    assert "a column a run: 2 runs read as rows of 'run' and 'val/loss'" in note
    with pytest.raises(UserError, match="no column 'val/los'.*mean 'val/loss'.*Step, run, val/lo"):
        read(y="val/los")


def test_names_with_slashes_work_where_columns_are_named_and_in_expressions(tmp_path):
    text = CSV.replace("L", "val/bpb", 1) + "1e7,1e9,\n" * 6
    table = read(tmp_path, text, loss="val/bpb", where="`val/bpb` < 3.2")
    assert len(table) == 3
    (note,) = read(tmp_path, text, loss="val/bpb").notes
    assert note.endswith("6 of 10 rows have no 'val/bpb': left out")


def test_a_pipe_is_read_once(tmp_path):
    text = "N,D,L\n" + "".join(
        f"{n:g},{d:g},{1.7 + 400 * n**-0.34 + 400 * d**-0.28}\n"
        for n in (1e7, 3e7, 1e8, 3e8)
        for d in (1e9, 3e9, 1e10)
    )
    fit = [sys.executable, "-m", "research", "fit"]
    options = [*"--params N --data D --loss L --bootstrap 100 --json".split()]
    for source in ("/dev/stdin", "-"):
        done = subprocess.run(
            [*fit, source, *options], input=text, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["num_runs"] == 12 and done.stderr == ""


def test_a_page_of_a_pipe_wants_a_name(capsys):
    words: list[str] = ["report", "/dev/fd/0", "--params", "N", "--data", "D", "--loss", "L"]
    assert main(words) == 2
    assert "--out: name the page" in capsys.readouterr().err


def test_run_folders_take_where(tmp_path, capsys):
    folder = planted_study(tmp_path / "study", parts=("text", "image"))
    whole = read_runs(folder)
    some = read_runs(folder, "part == 'image' and N > 1e6")
    assert list(some) == ["image"]
    assert 0 < len(some["image"]) == (whole["image"]["N"] > 1e6).sum()
    with pytest.raises(UserError, match="no rows where N > 1e99"):
        read_runs(folder, "N > 1e99")
    words = ["fit", str(folder), "--bootstrap", "100", "--json", "--where"]
    assert main([*words, "part == 'text'"]) == 0
    assert json.loads(capsys.readouterr().out)["num_runs"] == len(whole["text"])
    assert main([*words, "prt == 'text'"]) == 2
    assert "did you mean 'part'" in capsys.readouterr().err


def test_where_leaves_what_may_be_fitted_together(tmp_path):
    other = {"value": 2.0, "unit": "bits/token", "kind": "exact", "split": "v"}
    trials = [result(1e6, 1e8, 3.0, 1e15), result(2e6, 1e8, 2.0, 1e15, score=other)]
    folder = write_study(tmp_path / "s", trials)
    assert read_runs(folder)["text"].mixed
    assert read_runs(folder, "loss_unit == 'bits/token'")["text"].mixed == ()
