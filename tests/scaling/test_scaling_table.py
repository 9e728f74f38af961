"""Reading tables and run folders: what is read, and one clear line for each thing that is wrong."""

import builtins
import json

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling.table import from_frame, read_file, read_runs
from tests.scaling.planted import planted_study, result, write_study

GOOD = "N,D,L,C,name\n1e6,1e8,3.0,6e14,a\n2e6,1e8,2.9,1.2e15,a\n1e6,2e8,2.8,1.2e15,b\n"


def read(tmp_path, text=GOOD, name="table.csv", **columns):
    path = tmp_path / name
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return read_file(path, **{"params": "N", "data": "D", "loss": "L", **columns})


def test_a_csv_is_read(tmp_path):
    runs = read(tmp_path, flops="C", group="name")
    np.testing.assert_array_equal(runs["N"], [1e6, 2e6, 1e6])
    np.testing.assert_array_equal(runs["L"], [3.0, 2.9, 2.8])
    assert list(runs["group"]) == ["a", "a", "b"]
    assert "column 'C'" in runs.convention and len(runs) == 3


def test_without_flops_or_data_6nd_fills_in_and_says_so(tmp_path):
    runs = read(tmp_path)
    np.testing.assert_array_equal(runs["C"], 6 * runs["N"] * runs["D"])
    assert "6ND" in runs.convention
    runs = read(tmp_path, data=None, flops="C")
    np.testing.assert_allclose(runs["D"], [1e8, 1e8, 2e8])
    assert runs.notes == ("D computed as C / 6N",)


def test_tsv_spaces_and_parquet_read_the_same(tmp_path):
    expected = read(tmp_path).frame
    pd.testing.assert_frame_equal(read(tmp_path, GOOD.replace(",", "\t"), "t.tsv").frame, expected)
    pd.testing.assert_frame_equal(read(tmp_path, GOOD.replace(",", ", ")).frame, expected)
    pytest.importorskip("pyarrow")
    pd.read_csv(tmp_path / "table.csv", skipinitialspace=True).to_parquet(tmp_path / "t.parquet")
    columns = {"params": "N", "data": "D", "loss": "L"}
    pd.testing.assert_frame_equal(read_file(tmp_path / "t.parquet", **columns).frame, expected)


def test_where_picks_rows(tmp_path):
    assert list(read(tmp_path, where="name == 'a' and L < 2.95")["L"]) == [2.9]


BAD = {
    "missing column, nearest named": (GOOD, {"loss": "Loss"}, "no column 'Loss'.*it has N, D, L"),
    "misspelt column": (GOOD, {"group": "nam"}, "--group: .*did you mean 'name'"),
    "missing flops column": (GOOD, {"flops": "FLOP"}, "--flops: no column 'FLOP'"),
    "NaN rows are numbered": (GOOD.replace("2.9,", ","), {}, "'L' is missing \\(NaN\\) in row 2"),
    "several NaN rows": (GOOD.replace("1e8", "nan"), {}, "'D' is missing .* in rows 1, 2"),
    "negative loss": (
        GOOD.replace("2.9,", "-2.9,"),
        {},
        "'L' is not positive in row 2 \\('-2.9'\\)",
    ),
    "zero loss": (GOOD.replace("2.8,", "0,"), {}, "'L' is not positive in row 3"),
    "zero parameters": (GOOD.replace("\n2e6", "\n0"), {}, "'N' is not positive in row 2"),
    "infinite": (GOOD.replace("2.9,", "inf,"), {}, "'L' is infinite in row 2"),
    "a string": (GOOD.replace("2.9,", "n/k,"), {}, "'L' is not a number in row 2 \\('n/k'\\)"),
    "a unit": (GOOD.replace("2e6", "2M"), {}, "'N' is not a number in row 2 \\('2M'\\)"),
    "thousands": (GOOD.replace("2e6", '"2,000"'), {}, "'N' is not a number in row 2"),
    "a column of names": (GOOD, {"loss": "name"}, "'name' is not a number in rows 1, 2, 3"),
    "semicolons": (GOOD.replace(",", ";"), {}, "separated by ';'; expected ','"),
    "tabs in a csv": (GOOD.replace(",", "\t"), {}, "separated by '\\\\t'"),
    "bars": (GOOD.replace(",", "|"), {}, "separated by '\\|'"),
    "empty file": ("", {}, "the file is empty"),
    "header only": ("N,D,L\n", {}, "no rows"),
    "ragged": (GOOD + "1,2,3,4,5,6,7\n", {}, "not a CSV"),
    "binary": (b"\xff\xfe\x00\x81N,D", {}, "not a text file"),
    "where leaves nothing": (GOOD, {"where": "L > 9"}, "no rows where L > 9"),
    "where names no column": (GOOD, {"where": "nme == 'a'"}, "--where: no column 'nme'.*'name'"),
    "where is not an expression": (GOOD, {"where": "L >"}, "--where: cannot evaluate"),
    "where is a number": (GOOD, {"where": "L * 2"}, "--where: .* not true or false"),
    "two columns of a name": ("N,D,L,L\n1,2,3,4\n", {"loss": "L.2"}, "no column 'L.2'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_get_one_clear_line(tmp_path, case):
    text, columns, match = BAD[case]
    with pytest.raises(UserError, match=match) as caught:
        read(tmp_path, text, **columns)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_rows_are_numbered_as_in_the_file_whatever_where_leaves(tmp_path):
    text = GOOD.replace("2.8,", "bad,")
    with pytest.raises(UserError, match="row 3"):
        read(tmp_path, text, where="name == 'b'")


def test_files_that_are_not_there(tmp_path):
    read(tmp_path)
    columns = {"params": "N", "data": "D", "loss": "L"}
    with pytest.raises(UserError, match="no such file.*did you mean 'table.csv'"):
        read_file(tmp_path / "tabel.csv", **columns)
    with pytest.raises(UserError, match="a folder"):
        read_file(tmp_path, **columns)
    (tmp_path / "bad.parquet").write_text(GOOD)
    with pytest.raises(UserError, match="not a Parquet file|pip install pyarrow"):
        read_file(tmp_path / "bad.parquet", **columns)


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    read(tmp_path)
    monkeypatch.setattr(pd, "read_csv", refuse)
    with pytest.raises(UserError, match="cannot read .*Permission denied"):
        read_file(tmp_path / "table.csv", params="N", data="D", loss="L")


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    genuine = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("pyarrow", "fastparquet"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install pyarrow"):
        read_file(tmp_path / "t.parquet", params="N", data="D", loss="L")


def test_duplicate_names_in_a_frame():
    frame = pd.DataFrame([[1.0, 2.0, 3.0, 4.0]], columns=["N", "D", "L", "L"])
    with pytest.raises(UserError, match="several columns called 'L'"):
        from_frame(frame, params="N", data="D", loss="L")


def test_a_run_folder_gives_a_table_a_part(tmp_path):
    folder = planted_study(tmp_path / "study", parts=("text", "image"))
    tables = read_runs(folder)
    assert list(tables) == ["text", "image"] and len(tables["text"]) == 35
    runs = tables["text"]
    np.testing.assert_allclose(runs["C"], 6 * runs["N"] * runs["D"])
    assert runs.title == "Text" and runs.loss_unit == "bits/byte" and runs.data_unit == "tokens"
    assert runs.convention.startswith("params: total; flops: ledger")
    assert runs.mixed == () and list(runs["group"]) == list(runs["id"])


def test_trunks_unfinished_and_diverged_trials_are_not_fitted(tmp_path):
    rows = [result(1e6 * k, 1e8, 3.0 / k, 1e15, floor={"value": 0.5}) for k in (1, 2, 3)]
    rows.append(result(4e6, 1e8, None, 1e15, status="diverged"))
    rows.append(result(5e6, 1e8, 1.0, 1e15, role="trunk"))
    folder = write_study(tmp_path / "study", rows)
    (folder / "unfinished").mkdir()
    runs = read_runs(folder)["text"]
    assert len(runs) == 3 and runs.floor == 0.5
    assert len(runs.notes) == 1 and "1 of 4 trials diverged" in runs.notes[0]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"convention": {"params": "non_embedding", "flops": "ledger"}}, "convention"),
        (
            {"score": {"value": 2.0, "unit": "bits/token", "kind": "exact", "split": "v"}},
            "loss_unit",
        ),
        (
            {"score": {"value": 2.0, "unit": "bits/byte", "kind": "upper bound", "split": "v"}},
            "score_kind",
        ),
    ],
)
def test_mixed_results_are_noticed(tmp_path, changes, name):
    rows = [result(1e6, 1e8, 3.0, 1e15), result(2e6, 1e8, 2.0, 1e15, **changes)]
    (mixed, *_) = [
        m for m in read_runs(write_study(tmp_path / "s", rows))["text"].mixed if name in m
    ]
    assert "takes 2 values" in mixed


def test_run_folders_that_are_wrong(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        read_runs(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished trial"):
        read_runs(tmp_path / "empty")
    row = result(1e6, 1e8, 3.0, 1e15)
    del row["flops"]
    with pytest.raises(UserError, match="can be read: .*result.json: key 'flops' is missing"):
        read_runs(write_study(tmp_path / "lacking", [row]))
    folder = write_study(tmp_path / "broken", [result(1e6, 1e8, 3.0, 1e15)])
    next(folder.glob("*/result.json")).write_text('{"id": ')
    with pytest.raises(UserError, match="not JSON"):
        read_runs(folder)
    row = result(1e6, 1e8, None, 1e15, status="diverged")
    with pytest.raises(UserError, match="every trial diverged"):
        read_runs(write_study(tmp_path / "diverged", [row]))
    json.dumps(row)


def test_a_part_in_which_every_trial_diverged_is_left_out_and_named(tmp_path):
    rows = [result(1e6 * k, 1e8, 3.0 / k, 1e15, part="text") for k in (1, 2, 3)]
    rows.append(result(4e6, 1e8, None, 1e15, part="image", status="diverged"))
    tables = read_runs(write_study(tmp_path / "study", rows))
    assert list(tables) == ["text"] and len(tables["text"]) == 3
    (note,) = tables["text"].notes
    assert "part 'image' left out: every trial diverged" in note


def test_what_a_law_does_not_read_may_be_left_out(tmp_path):
    runs = read(tmp_path, params=None, data=None, extra={"size": "N"})
    assert runs.known(("N", "D", "C", "L", "size")) == ["L", "size"]
    assert runs.span(("N", "size")) == {"size": (1e6, 2e6)}
    assert "params: not stated" in runs.convention
    assert read(tmp_path, params=None).known("NDC") == ["D"]
    assert read(tmp_path, data=None).known("NDC") == ["N"]


def test_rows_keep_the_files_numbers(tmp_path):
    runs = read(tmp_path, where="L < 2.95")
    assert [runs.row_number(row) for row in range(2)] == [2, 3]
    assert runs.select(np.array([False, True])).row_number(0) == 3


def test_unique_data_and_further_variables_are_columns_of_their_own_names(tmp_path):
    text = "N,D,L,tokens,r\n1e6,1e8,3.0,1e7,0\n2e6,1e8,2.9,2e7,-0.5\n1e6,2e8,2.8,3e7,1\n"
    runs = read(tmp_path, text, unique="tokens", extra={"share": "r"})
    np.testing.assert_array_equal(runs["U"], [1e7, 2e7, 3e7])
    np.testing.assert_array_equal(runs["share"], [0, -0.5, 1])
    assert runs.columns["unique"] == "tokens" and runs.columns["column share"] == "r"
    once = read(tmp_path, text, unique="D")
    np.testing.assert_array_equal(once["U"], once["D"])
    with pytest.raises(UserError, match="--unique: no column 'uniq'"):
        read(tmp_path, text, unique="uniq")
    with pytest.raises(UserError, match="--column N=r: expected the name"):
        read(tmp_path, text, extra={"N": "r"})
    with pytest.raises(UserError, match="--params and --unique both name the column 'N'"):
        read(tmp_path, text, unique="N")
    with pytest.raises(UserError, match="--column share: no column 'q'"):
        read(tmp_path, text, extra={"share": "q"})


def test_a_row_longer_than_the_header_does_not_shift_the_others(tmp_path):
    with pytest.raises(UserError, match="more fields than the header"):
        read(tmp_path, "N,D,L\n1e6,1e8,3.0,7\n2e6,1e8,2.9,7\n")


@pytest.mark.parametrize("patches", [1, 64, 1024])
def test_images_count_their_patches_and_are_no_mistaken_unit(tmp_path, patches):
    runs = read(tmp_path)
    frame = runs.frame.assign(C=6 * patches * runs["N"] * runs["D"])
    assert len(from_frame(frame, params="N", data="D", loss="L", flops="C")) == 3


def test_a_grid_of_many_decades_is_no_mixture_of_units():
    params, data = np.meshgrid(np.logspace(3, 11, 9), np.logspace(5, 13, 9))
    loss = 2 + params.ravel() ** -0.3 + data.ravel() ** -0.3
    frame = pd.DataFrame({"N": params.ravel(), "D": data.ravel(), "L": loss})
    assert len(from_frame(frame, params="N", data="D", loss="L")) == 81
