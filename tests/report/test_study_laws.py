"""laws.json of a run folder: fitted once, read back to the last digit, refitted when damaged."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from research.__main__ import main
from research.run import record
from research.scaling import study_laws
from research.scaling.summary import PartSummary, summarise
from tests.report.synthetic import PARTS, write_study

DRAWS = 100
PLANTED = (PARTS[0], *PARTS[2:])  # text, and the two sources whose entropy is known


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run folder with its laws.json."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    write_study(folder, parts=PLANTED)
    study_laws.study_laws(folder, DRAWS)
    return folder


@pytest.fixture
def no_fit(monkeypatch):
    """Fails whoever fits."""

    def refuse(*_, **__):
        raise AssertionError("fitted again")

    monkeypatch.setattr(study_laws, "summarise", refuse)


def same(one, other) -> bool:
    """Whether two results hold the same, floats to their last digit."""
    return json.dumps(study_laws._plain(one)) == json.dumps(study_laws._plain(other))


@pytest.mark.slow
def test_what_is_read_is_what_was_fitted(study, no_fit):
    read = study_laws.study_laws(study, DRAWS)
    assert list(read) == [part.name for part in PLANTED]
    for part, laws in read.items():
        assert isinstance(laws, PartSummary)
        found = summarise(laws.table, bootstrap=DRAWS)
        for name in ("chinchilla", *study_laws.BESIDE):
            assert same(getattr(laws, name), getattr(found, name)), (part, name)
        if found.chinchilla is not None and found.chinchilla.parameters is not None:
            assert laws.chinchilla is not None
            size, amount = 3e4, 1e6
            ends = [
                fit.predict_interval(N=size, D=amount)
                for fit in (laws.chinchilla, found.chinchilla)
            ]
            assert np.array_equal(ends[0], ends[1])
            assert laws.chinchilla.optimal(1e12) == found.chinchilla.optimal(1e12)


def test_a_program_reads_the_laws_of_every_part(study, capsys):
    content = json.loads((study / study_laws.FILE).read_text())
    assert content["law"] == "chinchilla" and set(content["parameters"]) > {"alpha", "beta"}
    part = content["parts"]["text"]
    assert part["noise"] > 0 and part["intervals"]["alpha"] and part["warnings"] is not None
    beside = part["beside"]
    assert all(p["measured"] > 0 for p in beside["held_out"]["predictions"])
    errors = [
        abs(math.log(p["predicted"] / p["measured"])) for p in beside["held_out"]["predictions"]
    ]
    assert part["held_out"]["mean_error"] == pytest.approx(sum(errors) / len(errors), rel=1e-12)
    assert 0 <= part["held_out"]["inside"] <= part["held_out"]["runs"] == len(errors)
    assert part["isoflop"]["params_exponent"] == beside["isoflop"]["params_exponent"]
    assert beside["isoflop"]["params_exponent"] and beside["frontier"]["law"] == "frontier"
    assert main(["predict", str(study / study_laws.FILE), "--params", "5e4", "--data", "2e6"]) == 0
    assert "chinchilla" in capsys.readouterr().out


def test_a_part_that_cannot_be_fitted_has_its_refusal_as_answer(tmp_path, study, monkeypatch):
    folder = tmp_path / "refused"
    shutil.copytree(study, folder)

    def refuse(table, **_):
        raise study_laws.UserError(f"{table.part}: nothing can be told")

    monkeypatch.setattr(study_laws, "summarise", refuse)
    monkeypatch.setattr(study_laws, "DRAWS", DRAWS + 1)  # so that the file is another's
    study_laws.after_sweep(folder)
    laws = study_laws.study_laws(folder)
    assert laws["text"] == "text: nothing can be told"
    content = json.loads((folder / study_laws.FILE).read_text())
    assert content["parts"]["text"]["refused"] == laws["text"] and content["parameters"] is None


def test_a_folder_without_trials_fails_no_sweep(tmp_path, capsys):
    study_laws.after_sweep(tmp_path)
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / study_laws.FILE).exists()


@pytest.mark.slow
def test_runs_that_changed_are_fitted_again_without_a_word(tmp_path, study, capsys):
    folder = tmp_path / "changed"
    shutil.copytree(study, folder)
    paths = folder.glob("markov-*/result.json")
    contents = ((path, record.read_json(path)) for path in paths)
    result, content = next(pair for pair in contents if pair[1]["role"] == "trial")
    content["score"]["value"] *= 1.0000001
    record.write_json(result, content)
    before = (folder / study_laws.FILE).read_text()
    study_laws.study_laws(folder, DRAWS)
    assert (folder / study_laws.FILE).read_text() != before
    assert capsys.readouterr().err == ""


def _same(damaged, content):
    """Whether it reads as what it was."""
    try:
        return json.loads(damaged) == content
    except ValueError:
        return False


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_is_never_read_as_laws(study, data, capsys):
    path = study / study_laws.FILE
    whole = path.read_bytes()
    content = json.loads(whole)
    inputs = content["stamp"]["inputs"]
    assert study_laws._read(path, inputs) == content["parts"]
    kind = data.draw(st.sampled_from(["bytes", "cut", "key", "number"]))
    if kind == "bytes":
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assume(not _same(damaged, content))  # a digit beyond those that a float has
    elif kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 3))]
    else:  # a change that was meant: without the checksum of the file
        content.pop(record.CHECKSUM)
        if kind == "key":
            name = data.draw(st.sampled_from(["parts", "stamp"]))
            content[name] = data.draw(st.none() | st.integers() | st.just({}) | st.just([1]))
        else:
            content["parts"]["text"]["parameters"]["alpha"] += 1e-9
        damaged = json.dumps(content).encode()
    try:
        path.write_bytes(damaged)
        capsys.readouterr()
        assert study_laws._read(path, inputs) is None
        said = capsys.readouterr().err
        assert said.count("\n") == 1 or (said == "" and kind == "key")
    finally:
        path.write_bytes(whole)
