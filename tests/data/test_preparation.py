"""Preparation is all or nothing: two processes at once, kill -9 in the middle, damaged files."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from research import data
from research.data import pack
from research.errors import UserError

ROOT = Path(__file__).parents[2]

# Prepares a small source and prints its fingerprint; `point` kills or delays it on the way.
SCRIPT = """
import os, signal, sys, time
from research import data
from research.data import pack

name, folder, point = sys.argv[1:]
config = data.default(name)
config.folder = folder
if name == "glyphs":
    config.fonts = ("DejaVuSansDisplay", "STIXGeneralItalic")
else:
    config.update(length=8, tokens=800, validation_tokens=80)

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def after(count, function):
    calls = []
    def counted(*args, **kwargs):
        calls.append(0)
        if len(calls) > count:
            die()
        return function(*args, **kwargs)
    return counted

if point == "tfds":  # in the middle of writing records
    from research.data import builders
    original = builders.prepared
    def some(examples):
        for number, example in enumerate(examples):
            if number == 200:
                die()
            yield example
    def prepared(data, features, splits):
        return original(data, features, lambda _: {s: some(e) for s, e in splits(_).items()})
    builders.prepared = prepared
elif point == "packing":
    pack.Writer.append = after(2, pack.Writer.append)
elif point == "meta":
    pack.record.write_json = die
elif point == "rename":
    pack.os.replace = after(1, os.replace)  # the first one is meta.json's
elif point == "slow":
    from research.data.sources import markov
    fill = markov.fill
    def slow(*args):
        print("prepared", flush=True)
        time.sleep(1)
        fill(*args)
    markov.fill = slow
print(data.fingerprint(config), flush=True)
"""


def start(name, folder, point="none"):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name, str(folder), point],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


def test_two_processes_at_once_prepare_once(tmp_path):
    both = [start("markov", tmp_path, "slow"), start("markov", tmp_path, "slow")]
    lines = [finish(process) for process in both]
    assert sum(line.count("prepared") for line in lines) == 1
    assert lines[0][-1] == lines[1][-1]
    assert len(list((tmp_path / "packed").iterdir())) == 1


@pytest.mark.parametrize(
    "name, points",
    [("markov", ["packing", "meta", "rename"]), ("glyphs", ["tfds", "packing"])],
)
def test_a_killed_preparation_leaves_nothing_that_looks_finished(tmp_path, name, points):
    undisturbed = start(name, tmp_path / "undisturbed")
    victims = {point: start(name, tmp_path / point, point) for point in points}
    (fingerprint,) = finish(undisturbed)
    for point, victim in victims.items():
        out, err = victim.communicate(timeout=120)
        assert victim.returncode == -signal.SIGKILL, (point, out, err)
        packed = tmp_path / point / "packed"
        assert not [f for f in packed.glob("*") if not f.name.startswith(".")]
    again = {point: start(name, tmp_path / point) for point in points}
    for point, process in again.items():
        assert finish(process) == [fingerprint]
        left = [f.name for f in (tmp_path / point / "packed").iterdir()]
        assert len(left) == 1 and not left[0].startswith("."), point
        assert not list((tmp_path / point).rglob("incomplete*")), point
        assert (tmp_path / point / "packed" / left[0] / "meta.json").exists()


def test_a_failed_preparation_removes_what_it_wrote(small_chain, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack.os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        data.load(small_chain, "train")
    assert not list(Path(small_chain.folder, "packed").iterdir())
    monkeypatch.undo()
    assert len(data.load(small_chain, "train")) == 100


def test_the_fingerprint_is_of_the_content(small_chain, tmp_path):
    first = data.fingerprint(small_chain)
    assert len(first) == 64 and int(first, 16)
    assert data.load(small_chain, "test").fingerprint == first
    shutil.rmtree(small_chain.folder)
    assert data.fingerprint(small_chain) == first  # made again, the same
    small_chain.seed = 1
    assert data.fingerprint(small_chain) != first
    small_chain.seed, small_chain.folder = 0, str(tmp_path / "elsewhere")
    assert data.fingerprint(small_chain) == first


def test_text_of_another_length_is_the_same_data(small_text):
    longer = small_text.copy_and_resolve_references()
    longer.length = 200
    before = set(Path(small_text.folder, "packed").iterdir())
    assert data.fingerprint(longer) == data.fingerprint(small_text)
    assert set(Path(small_text.folder, "packed").iterdir()) == before
    (home,) = before
    assert sys.version.split()[0] in home.name  # another interpreter has another library


def test_the_environment_replaces_the_default_folder_only(small_chain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path / "shared"))
    data.load(small_chain, "train")
    assert not (tmp_path / "shared").exists()
    small_chain.folder = "data"
    shutil.rmtree(tmp_path / "data")
    data.load(small_chain, "train")
    assert (tmp_path / "shared" / "packed").is_dir() and not (tmp_path / "data").exists()


def test_reading_prepared_data_imports_nothing_heavy(small_glyphs):
    script = (
        "import json, sys\n"
        "from research import data\n"
        f"data.load(json.loads({json.dumps(dict(small_glyphs))!r}), 'train')\n"
        "print([m for m in ('jax', 'tensorflow_datasets', 'matplotlib', 'PIL', 'scipy')"
        " if m in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def damaged(path, how):
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize(
    "name, how, message",
    [
        ("train.tokens", "removed", r"train.tokens is missing; delete .*markov-v1"),
        ("train.tokens", "truncated", r"train.tokens has 899 bytes of 900; delete .*markov-v1"),
        ("train.tokens", "changed", r"train.tokens was changed \(sha256\); delete .*markov-v1"),
        ("meta.json", "removed", r"meta.json is missing; delete .*markov-v1"),
        ("meta.json", "truncated", None),  # only the last newline
        ("meta.json", "changed", r"meta.json is not JSON.*; delete .*markov-v1"),
    ],
)
def test_damaged_files_are_named(small_chain, name, how, message):
    data.load(small_chain, "train")
    (file,) = Path(small_chain.folder).rglob(name)
    damaged(file, how)
    if message is None:
        assert len(data.load(small_chain, "train")) == 100
        return
    with pytest.raises(UserError, match=message) as caught:
        data.load(small_chain, "train")
    assert "\n" not in str(caught.value)


def test_no_digit_of_the_description_can_change(small_chain):
    """The floor, the fingerprint, the name: with its checksum, and the fingerprint without."""
    fingerprint = data.load(small_chain, "train").fingerprint
    (file,) = Path(small_chain.folder).rglob("meta.json")
    content = json.loads(file.read_text())
    floor = content["floor"] | {"value": content["floor"]["value"] + 1e-9}
    for change in ({"floor": floor}, {"fingerprint": fingerprint[::-1]}, {"name": "chain"}):
        file.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match="meta.json was changed since it was written.*; delete"):
            data.load(small_chain, "train")
    old = {key: value for key, value in content.items() if key != "checksum"}
    file.write_text(json.dumps(old))
    assert data.load(small_chain, "train").fingerprint == fingerprint
    for change, said in {
        "splits": ({"splits": 5}, "splits: expected an object, got 5"),
        "fingerprint": ({"fingerprint": fingerprint[::-1]}, "another fingerprint"),
        "floor": ({"floor": {"value": "low"}}, 'floor.value: expected a number, got "low"'),
    }.values():
        file.write_text(json.dumps(old | change))
        with pytest.raises(UserError, match=said):
            data.load(small_chain, "train")


def test_a_large_file_is_hashed_on_request(small_chain, monkeypatch):
    monkeypatch.setattr(pack, "VERIFIED_BYTES", 10)
    data.load(small_chain, "train")
    (file,) = Path(small_chain.folder).rglob("train.tokens")
    damaged(file, "changed")
    data.load(small_chain, "train")
    with pytest.raises(UserError, match="was changed"):
        data.describe(small_chain)
