"""Whatever stands in a file that is read back: one line, a row that says why, nothing deleted.

A flipped bit is never silent where the file carries a checksum; a file of the wrong shape, whoever
wrote it, is no traceback in any verb that reads it.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch import follow
from research import terminal
from research.__main__ import main
from research.errors import UserError
from research.report.load import read_study
from research.run import files, heartbeat, lease, record, storage, watch
from research.scaling.table import read_runs
from tests.report import synthetic
from tests.scaling import planted

FILES = ("study.json", "result.json", "progress.json", "provenance.json", "config.json")
DEEP = json.loads("[" * 300 + "]" * 300)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([10**400, 2**64, "\x1b[31m[/b]\u202e\r", "../../x", "\ud800", DEEP]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of one part whose every file ends with its checksum; one trial goes on."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    ids = synthetic.write_study(folder, parts=synthetic.PARTS[:1], samples=False)
    for kept in list(folder.iterdir()):
        if kept.is_dir() and kept.name not in ids[:5]:
            shutil.rmtree(kept)
    (folder / ids[4] / "result.json").unlink()
    beat = {"state": "training", "step": 3, "steps": 9, "loss": 1.5, "unit": "tokens"}
    beat |= {"clock": {"began": 1.0, "at": 2.0, "spent": {"useful": 1.0}}}
    record.write_json(folder / ids[4] / "progress.json", beat)
    for path in folder.rglob("*.json"):
        record.write_json(path, json.loads(path.read_text()) | {"trials": ids[:5]}
                          if path.name == "study.json" else record.read_json(path))  # fmt: skip
    return folder


def one_of(folder: Path, name: str) -> Path:
    return sorted(folder.rglob(name))[0]


def readers(folder: Path) -> list[str]:
    """What each verb says that reads the folder: its own words, or its one line of refusal."""
    watch._ended.cache_clear()
    said = []
    for read in (
        lambda: "\n".join(map(watch.line, watch.read(folder))),
        lambda: "\n".join(map(watch.line, follow.states(folder))),
        lambda: str([table.notes for table in read_runs(folder).values()]),
        lambda: "\n".join(read_study(folder).unread),
    ):
        try:
            said.append(read())
        except UserError as error:
            said.append(f"error: {terminal.one_line(str(error))}")
    for line in "\n".join(said).splitlines():
        assert line == terminal.plain(line)
    return said


def left(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_said(whole, name):
    """In every tenth byte: of what the file holds, of its checksum, of the names of keys."""
    path = one_of(whole, name)
    content, before = path.read_bytes(), left(whole)
    for at in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            same = record.read_json(path) == record.parse_json(content, path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            same = False
        assert not same or damaged.lower() == content.lower(), (at, bytes(damaged[at - 9 : at + 9]))
    path.write_bytes(damaged)
    if name != "config.json":  # read by who trains or samples
        assert any(path.name in words for words in readers(whole))
    path.write_bytes(content)
    assert left(whole) == before


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), odd=ODD, name=st.sampled_from(FILES))
def test_a_subtree_of_anything(whole, data, odd, name):
    path = one_of(whole, name)
    kept = path.read_bytes()
    content = record.read_json(path)
    node, steps = content, data.draw(st.integers(1, 4))
    for step in range(steps):
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else [0]))
        inner = node[key]
        if step == steps - 1 or not inner or not isinstance(inner, dict | list):
            node[key] = odd
            break
        node = inner
    path.write_text(json.dumps(content))
    before = left(whole)
    try:
        readers(whole)
        assert left(whole) == before
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("name", FILES[:-1])
@pytest.mark.parametrize(
    "content",
    ["", "5", "[]", "{}", "null", "[" * 100_000, '{"a": ' * 100_000, '{"a":' + "9" * 5000 + "}",
     '{"a": 1, "a": 2}', b"\xff\xfe{", "folder"],
)  # fmt: skip
def test_what_is_no_such_file(whole, tmp_path, capsys, name, content):
    """Every verb says it in a line; the others of 4 trials are there as before."""
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    path = one_of(folder, name)
    path.unlink()
    if content == "folder":
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = readers(folder)
    if (name, content) != ("study.json", "{}"):
        assert any(name in words for words in said)
    if name == "result.json":
        assert sum("finished" in line for line in said[0].splitlines()) == 3
        assert "1 trial could not be read" in said[2] and path.parent.name in said[3]
    for words in (["watch"], ["sweep", "status"], ["fit", "--bootstrap", "100"]):
        code = main([*words, str(folder)])
        out = capsys.readouterr()
        assert code in (0, 2) and "Traceback" not in out.out + out.err
        *notes, last = out.err.splitlines() or [""]
        assert all(note.startswith("note: ") for note in notes[: -1 if code == 0 else None])
        assert code == 0 or last.startswith("error: ")


def test_trials_without_a_result_are_named(whole):
    (table,) = read_runs(whole).values()
    unfinished = one_of(whole, "progress.json").parent.name
    assert table.notes == (f"part 'text': 1 planned trials have no result: {unfinished}",)


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "", "a\x1b[31m", "a\nb", "x" * 300])
def test_names_lead_nowhere(whole, tmp_path, name):
    with pytest.raises(UserError, match="expected"):
        files.check_name(name, "part")
    rows = [planted.result(1e6 * k, 1e8, 3.0 / k, 1e15) for k in (1, 2, 3)]
    folder = planted.write_study(tmp_path / "study", rows)
    if name:
        record.write_json(folder / rows[0]["id"] / "result.json", rows[0] | {"part": name})
        (table,) = read_runs(folder).values()
        assert len(table) == 2 and "part:" in table.notes[0]
        record.write_json(folder / "study.json", {"parts": {name: {}}, "trials": []})
        with pytest.raises(UserError, match=r"study\.json: parts:"):
            files.read_description(folder)


def test_a_part_that_is_a_path_is_refused_before_anything_runs(tmp_path, capsys):
    experiment = tmp_path / "bad.py"
    experiment.write_text("PARTS = {'../../x': {}}\n\ndef get_config(part): ...\n")
    assert main(["sweep", "--config", str(experiment), "--workdir", str(tmp_path / "runs")]) == 2
    assert "PARTS: '../../x': expected a name" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_links_that_lead_out_are_not_shown(whole, tmp_path):
    """A run folder may be a link itself, and links that stay inside are files as others."""
    folder = tmp_path / "disk" / "study"
    shutil.copytree(whole, folder)
    ids = [trial["id"] for trial in files.read_runs(folder).trials]
    for id in ids:
        (folder / id / "samples.txt").write_text(f"drawn by {id}")
    linked = tmp_path / "study"
    linked.symlink_to(folder)
    shown = read_study(linked).parts[0].samples
    assert len(shown) == 1 and not read_study(linked).unread
    secret = tmp_path / "secret"
    secret.write_text("what only I may read")
    largest = max(shown, key=lambda sample: sample.params).id
    (folder / largest / "samples.txt").unlink()
    (folder / largest / "samples.txt").symlink_to(secret)
    study = read_study(linked)
    assert not any(sample.text == secret.read_text() for sample in study.parts[0].samples)
    assert any("leads out of" in reason for reason in study.unread)
    inside = folder / ids[0] / "kept.txt"
    inside.write_text("inside")
    assert files.within(linked, linked / ids[0] / "kept.txt")
    (folder / "figures").symlink_to(tmp_path)
    assert main(["report", str(linked)]) == 2
    assert not list(tmp_path.glob("*.png"))


def test_only_our_unfinished_files_are_removed(tmp_path):
    ours = tmp_path / f".result.json.a1b2{storage.TEMPORARY}"
    theirs = [tmp_path / name for name in (".notes.md.swp", ".result.json.swp", ".a.b.c")]
    for path in (ours, *theirs):
        path.write_text("")
    storage.discard_unfinished(tmp_path)
    assert not ours.exists() and all(path.exists() for path in theirs)


def test_a_heartbeat_that_cannot_be_read_does_not_stop_a_run(tmp_path, capsys):
    (tmp_path / heartbeat.FILE).write_text('{"state": "training", "clock": []}')
    assert heartbeat.seen(tmp_path) is None
    assert "clock: expected an object" in capsys.readouterr().err
    assert heartbeat.seen(tmp_path / "none") is None


def test_a_terminal_obeys_nothing_that_files_say(whole, tmp_path, capsys):
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    path = one_of(folder, "result.json")
    score = {"value": 1.5, "unit": "[bold]\x1b[31mbits\r\u202e", "kind": "exact", "split": "v"}
    record.write_json(path, record.read_json(path) | {"score": score, "status": "fin\x07ished"})
    watch._ended.cache_clear()
    for words in (["watch"], ["sweep", "status"]):
        assert main([*words, str(folder)]) == 0
        out = capsys.readouterr().out
        assert out == terminal.plain(out) and ("[bold][31mbits" in out or "sweep" in words)
    assert terminal.one_line("a\x1b]0;b\x07\nc\u202e") == "a]0;b c"


@pytest.mark.parametrize("verb", [["watch"], ["sweep", "status"]])
def test_a_reader_that_has_gone(whole, verb, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(os.dup(write), "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert terminal.until_closed(main, [*verb, str(whole)]) == terminal.CLOSED
    os.close(write)


def test_a_checksum_is_verified_and_may_be_taken_away(tmp_path):
    path = tmp_path / "a.json"
    record.write_json(path, {"a": {"b": (1, 2.5)}, "c": float("nan")})
    content = json.loads(path.read_text())
    assert list(content)[-1] == record.CHECKSUM
    assert record.read_json(path, dict[str, object])["a"] == {"b": [1, 2.5]}
    path.write_text(json.dumps(content | {"a": 1}))
    with pytest.raises(UserError, match="was changed since it was written"):
        record.read_json(path)
    path.write_text(json.dumps({"a": 1}))
    assert record.read_json(path) == {"a": 1}
    with pytest.raises(UserError, match="a: expected a string, got 1"):
        record.read_json(path, dict[str, str])
    path.write_text(r'{"a": "\ud800"}')
    for kind in (record.Number, files.Text):
        with pytest.raises(UserError, match="a"):
            record.read_json(path, dict[str, kind])


@pytest.mark.parametrize("content", [{"pid": []}, {"pid": "x\0y"}, {"born": 5}, [1], {"pid": 1}])
def test_a_lease_of_another_shape_expires(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.0)
    if isinstance(content, dict):
        content = {"space": lease._space(), **content}
    record.write_json(lease._file(tmp_path, 1), content)
    lease.take(tmp_path).release()


def test_where_a_run_came_from_is_read_as_it_was_written(tmp_path, monkeypatch):
    """Also where neither git nor the launcher told the code's revision, as in a container."""
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setattr(record, "_environment", record._environment.__wrapped__)
    for variable in ("ISOFLOP_DIRTY", "ISOFLOP_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    about = record.provenance("data")
    assert (about["git_revision"], about["dirty"]) == ("", None)
    record.write_json(tmp_path / "provenance.json", about)
    assert files.read_provenance(tmp_path).items() <= about.items()
