"""The standard library as text: which files, on which side, and near-duplicates together."""

import random

import numpy as np
import pytest

from research import data
from research.data import duplicates
from research.data.sources import python_stdlib as stdlib
from research.errors import UserError

WORDS = [f"word{i}" for i in range(500)]


def written(rng, count=300):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def edited(rng, text, share):
    words = text.split()
    for position in rng.sample(range(len(words)), int(share * len(words))):
        words[position] = "changed"
    return " ".join(words)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A made-up library: 60 unrelated modules, each with a slightly edited copy elsewhere."""
    rng = random.Random(0)
    for i in range(60):
        text = written(rng)
        for name, content in ((f"a{i}.py", text), (f"pkg/b{i}.py", edited(rng, text, 0.03))):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
    for skipped in ("__pycache__/c.py", "site-packages/d.py", "pkg/test/e.py", "pkg/notes.txt"):
        (tmp_path / skipped).parent.mkdir(exist_ok=True)
        (tmp_path / skipped).write_text(written(rng))
    (tmp_path / "empty.py").write_text("\n")
    monkeypatch.setattr(stdlib, "root", lambda: tmp_path)
    return tmp_path


def test_the_resemblance_of_texts_is_found_exactly():
    a = b"one two three four five six seven eight"
    b = b"one two three four five six seven nine"
    first, second = set(duplicates.shingles(a).tolist()), set(duplicates.shingles(b).tolist())
    assert (len(first), len(first & second), len(first | second)) == (4, 3, 5)
    assert duplicates.groups([a, b, b"other"], threshold=0.6).tolist() == [0, 0, 2]
    assert duplicates.groups([a, b, b"other"], threshold=0.61).tolist() == [0, 1, 2]


def test_groups_are_transitive_and_empty_input_is_fine():
    base = list(range(40))
    texts = [" ".join(f"w{n}" for n in range(s, s + 40)).encode() for s in (0, 5, 10, 15, 500)]
    assert len(base) == 40
    assert duplicates.groups(texts, threshold=0.6).tolist() == [0, 0, 0, 0, 4]
    assert duplicates.groups([]).tolist() == []


def test_near_duplicates_are_on_one_side_and_every_file_on_exactly_one(library):
    sides = stdlib.sides(False, ("*",))
    side = {path: split for split, files in sides.items() for path, _ in files}
    assert sum(len(files) for files in sides.values()) == len(side) == 120
    assert all(side[f"a{i}.py"] == side[f"pkg/b{i}.py"] for i in range(60))
    # The test is worth something only if the paths alone would have parted some pairs.
    assert any(stdlib.side(f"a{i}.py") != stdlib.side(f"pkg/b{i}.py") for i in range(60))
    assert all(len(files) > 0 for files in sides.values())


def test_the_listing_takes_sources_only(library):
    paths = [path for path, _ in stdlib.listing(False, ("*",))]
    assert paths == sorted(paths) and len(paths) == 121
    assert not any("pycache" in p or "site-packages" in p or "test" in p for p in paths)
    tests = {path for path, _ in stdlib.listing(True, ("*",))} - set(paths)
    assert tests == {"pkg/test/e.py"}
    assert len(stdlib.listing(False, ("pkg/*",))) == 60
    with pytest.raises(UserError, match=r"data.files: no source file of .* matches nothing/\*"):
        stdlib.listing(False, ("nothing/*",))


def test_a_changed_library_is_another_data_set(library):
    before = stdlib.identity(data.default("python_stdlib"))
    assert stdlib.identity(data.default("python_stdlib")) == before
    (library / "a0.py").write_text("x = 1\n")
    assert stdlib.identity(data.default("python_stdlib")) != before


def test_sides_have_their_shares():
    sides = [stdlib.side(f"file {i}") for i in range(20_000)]
    shares = [sides.count(split) / 20_000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.006)


def test_one_copy_of_the_files_serves_every_tokenizer(tmp_path):
    chosen = data.default("python_stdlib")
    chosen.update(folder=str(tmp_path), files=("json/*",))
    expected = data.load(chosen, "train").arrays["tokens"].tobytes()
    copies = sorted((tmp_path / "tfds").rglob("*"))
    chosen.update(tokenizer="bpe", vocab=300)
    tokens = data.load(chosen, "train").arrays["tokens"]
    assert data.tokenizer(chosen).decode(tokens) == expected
    assert sorted((tmp_path / "tfds").rglob("*")) == copies


def test_the_packed_bytes_are_the_files(small_text):
    expected = stdlib.sides(False, tuple(small_text.files))
    for split in data.SPLITS:
        source = data.load(small_text, split)
        documents = source.arrays["tokens"].tobytes().split(b"\0")
        assert documents.pop() == b""  # every document ends with a zero byte
        assert sorted(documents) == sorted(text for _, text in expected[split])
        assert source.spec["bytes_per_token"] == 1 and source.spec["vocab_size"] == 256
        assert source.floor is None and np.issubdtype(source[0]["tokens"].dtype, np.int32)
