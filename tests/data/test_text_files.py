"""Text in local files: what is read, on which side it is, and what is refused in one line."""

import gzip
import json
import os
import random

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from research import data
from research.data import SPLITS, corpus, sides
from research.data.sources import cpp_headers, english, hf_datasets
from research.errors import UserError

RNG = random.Random(0)
TEXTS = [" ".join(RNG.choice("abcdefgh") * 3 + str(i) for i in range(60)) for _ in range(120)]


def zstd(content):
    return pyarrow.compress(content, codec="zstd", asbytes=True)


def lines(texts):
    return "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts).encode()


@pytest.fixture
def folder(tmp_path):
    """120 documents in five kinds of files, and what is not to be read."""
    home = tmp_path / "corpus"
    files = {
        "plain/a.txt": TEXTS[0].encode(),
        "plain/b.txt.gz": gzip.compress(TEXTS[1].encode()),
        "c.jsonl": lines(TEXTS[2:40]) + b"\n",
        "d.jsonl.gz": gzip.compress(lines(TEXTS[40:50])) + gzip.compress(lines(TEXTS[50:60])),
        "e.jsonl.zst": zstd(lines(TEXTS[60:90])),
        ".hidden/no.txt": b"hidden",
        "blank.txt": b" \n",
    }
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    parquet.write_table(pyarrow.table({"text": TEXTS[90:], "n": [1] * 30}), home / "f.parquet")
    return home


def config(tmp_path, name="files", **keys):
    found = data.default(name)
    found.update(folder=str(tmp_path / "data"), length=16, **keys)
    return found


def stored(about):
    """The documents of each split, as they are in the pack."""
    found = {}
    for split in SPLITS:
        documents = data.load(about, split).arrays["tokens"].tobytes().split(b"\0")
        assert documents.pop() == b""
        found[split] = [text.decode() for text in documents]
    return found


def test_every_kind_of_file_is_read_in_order_and_each_document_has_one_side(folder, tmp_path):
    found = stored(config(tmp_path, path=str(folder)))
    assert sorted(sum(found.values(), [])) == sorted(TEXTS)
    order = [*TEXTS[2:], *TEXTS[:2]]  # c, d, e, f, plain
    for texts in found.values():
        assert texts == sorted(texts, key=order.index)
    assert found["train"][0] == TEXTS[2] and len(found["train"]) > 95
    place = dict(zip(TEXTS[60:90], range(1, 31), strict=True))
    for split, texts in found.items():
        for text in set(texts) & set(place):
            assert sides.side(f"e.jsonl.zst line {place[text]}") == split


def test_a_changed_file_is_another_data_set(folder, tmp_path):
    about = config(tmp_path, path=str(folder), files=("plain/*", "c.jsonl"))
    first = data.fingerprint(about)
    (folder / "plain" / "a.txt").write_text("changed" + TEXTS[0][7:])  # of the same size
    os.utime(folder / "plain" / "a.txt", ns=(1, 1))
    assert data.fingerprint(about) != first


def test_near_duplicates_are_on_one_side_or_left_out(tmp_path):
    edited = [text + " end" for text in TEXTS]
    (tmp_path / "a.jsonl").write_bytes(lines(TEXTS + edited))
    about = config(tmp_path, path=str(tmp_path / "a.jsonl"))
    found = stored(about)
    side = {text: split for split, texts in found.items() for text in texts}
    assert all(side[text] == side[text + " end"] for text in TEXTS) and len(side) == 240
    about.together = False
    apart = {text: split for split, texts in stored(about).items() for text in texts}
    assert any(apart[text] != apart[text + " end"] for text in TEXTS)
    about.filters = ("near_duplicates",)
    assert sorted(sum(stored(about).values(), [])) == sorted(TEXTS)
    assert data.describe(about)["dropped"] == {"near_duplicates": 120}


def test_sides_by_file_and_by_folder(tmp_path):
    for split in SPLITS:
        (tmp_path / "c" / split).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "c" / split / f"{name}.jsonl").write_bytes(lines([f"{split} {name} 1"] * 9))
    path = str(tmp_path / "c")
    found = stored(config(tmp_path, path=path, split="folder"))
    assert {s: {t.split()[0] for t in texts} for s, texts in found.items()} == {
        split: {split} for split in SPLITS
    }
    about = config(tmp_path, path=path, split="file", together=False)
    for split, text in data.sources.load("files").documents(dict(about)):
        assert split == sides.side("/".join(text.decode().split()[:2]) + ".jsonl")


@pytest.mark.parametrize(
    "line, said",
    [
        (b'{"text": "a"', "is no JSON"),
        (b"[1]", "is no JSON object but list"),
        (b'{"txt": "a"}', r"has no field 'text'; it has txt \(did you mean 'txt'\?\)"),
        (b'{"text": 3}', "has no text in 'text' but int"),
        (b'{"text": null}', "but NoneType"),
        (b'{"text": "caf\xe9"}', "is no UTF-8 .byte 0xe9 at column 14."),
        (b'{"text": "\\ud800"}', "is no JSON|is no text"),
        (b'{"text": "a\\u0000b"}', "zero byte"),
        (b"\xff\xfe", "is no UTF-8 .byte 0xff at column 1."),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_a_bad_line_is_named_or_counted(tmp_path, line, said, suffix):
    content = lines(TEXTS[:30]) + line + b"\n" + lines(TEXTS[30:])
    file = tmp_path / f"a{suffix}"
    file.write_bytes(zstd(content) if suffix.endswith("zst") else content)
    about = config(tmp_path, path=str(file), together=False)
    with pytest.raises(UserError, match=rf"a{suffix} line 31 .*({said})"):
        data.load(about, "train")
    assert not list((tmp_path / "data").rglob("meta.json"))
    about.bad_lines = "skip"
    assert sorted(sum(stored(about).values(), [])) == sorted(TEXTS)
    assert data.describe(about)["dropped"] == {"bad_lines": 1}
    about.files = ("*.jsonl*",)  # a file of bad lines only is no corpus
    file.write_bytes(zstd(line) if suffix.endswith("zst") else line)
    with pytest.raises(UserError, match="has no document at all: .* line 1 "):
        data.load(about, "train")


def test_what_is_no_corpus_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jsonl.zst").write_bytes(zstd(lines(TEXTS))[:200])
    (tmp_path / "bad" / "a.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "bad" / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "way_out").symlink_to(folder)
    (tmp_path / "linked" / "a.txt").write_text("a")
    cases = [
        (dict(path=""), "data.path is empty"),
        (dict(path=str(tmp_path / "gone")), "expected a folder or a file .it is not here."),
        (dict(path=str(folder / "*.jsonl")), "patterns go to data.files"),
        (dict(path=str(tmp_path / "empty")), "none of the 0 files"),
        (dict(path=str(folder), files=("*.md",)), r"none of the 7 files of .* matches \*.md"),
        (dict(path=str(folder), field="txt", files=("f*",)), "no column data.field 'txt'.*mean 't"),
        (dict(path=str(folder), field="n", files=("f*",)), "f.parquet row 1 has no text in 'n'"),
        (dict(path=str(folder), split="documents"), "did you mean 'document'"),
        (dict(path=str(folder), split="folder"), "blank.txt is in no folder train, validation"),
        (dict(path=str(folder), bad_lines="skp"), "did you mean 'skip'"),
        (dict(path=str(folder), filters=("shrt",)), "did you mean 'short'"),
        (dict(path=str(folder), filters=("long",) * 2), "names 'long' twice"),
        (
            dict(path=str(folder), filters=("short", "long_lines")),
            "is left .dropped: short 0, lo.* 120",
        ),
        (dict(path=str(tmp_path / "linked")), "way_out is a link that leads out"),
        (dict(path=str(tmp_path / "bad"), files=("*zst",)), "cannot read .*zst: Truncated"),
        (dict(path=str(tmp_path / "bad"), files=("*gz",)), "cannot read .*gz"),
        (dict(path=str(tmp_path / "bad"), files=("*.parquet",)), "is no Parquet file"),
        (dict(path=str(tmp_path / "bad"), files=("*.png",)), "a.png holds a zero byte"),
    ]
    for keys, said in cases:
        with pytest.raises(UserError, match=said) as refused:
            data.load(config(tmp_path, **keys), "train")
        assert "\n" not in str(refused.value)


def test_links_inside_and_files_out_of_reach(folder, tmp_path):
    (folder / "again").symlink_to(folder / "plain")
    assert [file.name for file in corpus.listing(str(folder), ("*.txt*",))] == [
        "blank.txt", "a.txt", "b.txt.gz"
    ]  # fmt: skip


def test_data_sets_of_hugging_face(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": TEXTS, "n": [1] * 120})
    whole.save_to_disk(str(tmp_path / "whole"))
    about = config(tmp_path, "hf_datasets", path=str(tmp_path / "whole"))
    found = stored(about)
    assert sorted(sum(found.values(), [])) == sorted(TEXTS)
    assert all(sides.side(f"train {TEXTS.index(t)}") == s for s, ts in found.items() for t in ts)
    parts = {"train": whole.select(range(100)), "validation": whole.select(range(100, 120))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    about.path = str(tmp_path / "parts")
    found = stored(about)
    assert found["validation"] == TEXTS[100:]
    assert sorted(found["train"] + found["test"]) == sorted(TEXTS[:100]) and found["test"]
    (tmp_path / "local").mkdir()
    (folder / "f.parquet").rename(tmp_path / "local" / "train.parquet")
    read = list(hf_datasets.documents({**about, "path": str(tmp_path / "local")}))
    assert sorted(text.decode() for _, text in read) == sorted(TEXTS[90:])
    for keys, said in (
        (dict(path=str(tmp_path / "whole"), field="txt"), "no column data.field 'txt'.*'text'"),
        (dict(path=str(tmp_path / "whole"), field="n"), "train row 1 has no text in 'n' but int"),
        (dict(path=str(tmp_path / "gone")), "a folder"),
    ):
        with pytest.raises(UserError, match=said):
            data.load(config(tmp_path, "hf_datasets", **keys), "train")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match="pip install datasets"):
        data.load(config(tmp_path, "hf_datasets", path=str(tmp_path)), "train")


def test_headers_come_without_their_licence(tmp_path):
    licence = b"// Licensed to the ASF\n// under one\n\n"
    code = b"// What it is.\n#pragma once\n// Copyright rules\n"
    for head in (licence, b"/* Copyright */\n" + licence, b"\n/*\n * A license\n */\n"):
        assert cpp_headers.without_licence(head + code) == code
    assert cpp_headers.without_licence(code) == code
    assert cpp_headers.without_licence(licence) == b""
    about = config(tmp_path, "cpp_headers", packages=("pyarrow",), files=("pyarrow/arrow/io/*",))
    found = list(cpp_headers.documents(dict(about)))
    assert len(found) > 5 and not any(b"Licensed to the Apache" in text for _, text in found)
    assert np.mean([text.count(b"#include") > 0 for _, text in found]) > 0.5
    for keys, said in (
        (dict(packages=("pyarow",)), "did you mean 'pyarrow'"),
        (dict(files=("none/*",)), "no header of .* matches none"),
    ):
        with pytest.raises(UserError, match=said):
            data.load(config(tmp_path, "cpp_headers", **keys), "train")


def test_docstrings_are_english_and_on_the_side_of_their_file(monkeypatch):
    code = b'"""Of the module."""\ndef f():\n    "Of f."\n    x = "no"\nclass C:\n    """Of C."""\n'
    assert english.docstrings(code) == b"Of the module.\n\nOf f.\n\nOf C."
    assert english.docstrings(b"x = 1") == english.docstrings(b"no python") == b""
    library = {"train": [("a", code)], "validation": [("b", b"x = 1")], "test": [("c", code)]}
    monkeypatch.setattr(english.python_stdlib, "sides", lambda *_: library)
    found = list(english.documents({"topics": False, "docstrings": True}))
    assert [split for split, _ in found] == ["train", "test"]
    topics = list(english.documents({"topics": True, "docstrings": False}))
    assert len(topics) > 50 and {split for split, _ in topics} == set(SPLITS)
    with pytest.raises(UserError, match="both False"):
        english.check({"topics": False, "docstrings": False})
