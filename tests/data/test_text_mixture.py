"""A mixture of sources of text: one pack, one tokenizer, and what cannot be mixed."""

import json
import random

import numpy as np
import pytest

from research import data
from research.__main__ import main
from research.data import prepare
from research.data.sources import mixture
from research.errors import UserError

WORDS = {"low": "abcdefgh", "high": "stuvwxyz"}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two folders of lines, of the letters of WORDS; the second is smaller."""
    home, draw = tmp_path_factory.mktemp("corpora"), random.Random(0)
    for name, letters in WORDS.items():
        count = 200 if name == "low" else 90
        words = ["".join(draw.choices(letters, k=3)) for _ in range(40 * count)]
        texts = [" ".join(words[40 * i : 40 * i + 40]) for i in range(count)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (home / f"{name}.jsonl").write_text(lines)
    return home


@pytest.fixture
def mixed(corpora, tmp_path):
    found = data.default("mixture")
    found.update(folder=str(tmp_path / "data"), length=8, sources=("low", "high"))
    found.own = {
        name: {"name": "files", "path": str(corpora / f"{name}.jsonl"), "together": False}
        for name in WORDS
    }
    return found


def letters(about, windows):
    """Which of WORDS each window is of, by what it spells."""
    spelled = data.tokenizer(about)
    texts = [spelled.decode(row[row > 0]).decode() for row in np.asarray(windows)]
    return [
        sum(bool(set(text) & set(WORDS[name])) << i for i, name in enumerate(WORDS))
        for text in texts
    ]


def test_each_source_is_cut_to_its_own_unique_tokens(mixed):
    mixed.own["high"]["unique"], mixed.weights = 80, (0.5, 0.5)
    source = data.load(mixed, "train")
    found = data.tally(source, 8, 0, 20)["sources"]
    assert found["low"]["unique"] > found["high"]["unique"] == 80 and found["high"]["epochs"] > 7
    drawn = [next(data.batches(source, 64, 0, start_step=k)) for k in range(4)]
    rows = np.concatenate([batch["tokens"][batch["source"] == 1] for batch in drawn])
    assert len(np.unique(rows, axis=0)) == 10
    mixed.unique = 160  # of each that does not say
    found = data.tally(data.load(mixed, "train"), 8, 0, 20)["sources"]
    assert [each["unique"] for each in found.values()] == [160, 80]


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_an_example_is_of_the_source_that_the_batch_says(mixed, tokenizer):
    mixed.tokenizer, mixed.vocab = tokenizer, 300
    source = data.load(mixed, "train")
    assert data.batch_shapes(source.spec, 16) == {
        name: (value.shape, value.dtype)
        for name, value in next(data.batches(source, 16, 0)).items()
    }
    assert source.spec["source_names"] == ("low", "high")
    for batch, _ in zip(data.batches(source, 20, 1), range(12), strict=False):
        assert batch["source"].sum() == 6  # 0.3 of 20
        assert letters(mixed, batch["tokens"]) == (batch["source"] + 1).tolist()
        if tokenizer == "bpe":
            ends = batch["tokens"][:, 1:] == 0
            assert (batch["bytes"][ends] == 1).all() and batch["bytes"].max() > 1
    held = data.load(mixed, "validation")
    marks = np.concatenate([b["source"][b["mask"] == 1] for b in data.eval_batches(held, 16)])
    assert len(marks) == len(held) and marks.mean() == pytest.approx(0.3, abs=1 / len(held))


def test_weights_prepare_nothing_but_a_tokenizer(mixed):
    made = {}
    for tokenizer in ("byte", "bpe"):
        for weights in ((0.5, 0.5), (0.9, 0.1)):
            mixed.update(tokenizer=tokenizer, weights=weights)
            made[tokenizer, weights] = prepare.identity(data.check(mixed))
    assert made["byte", (0.5, 0.5)] == made["byte", (0.9, 0.1)]
    assert made["bpe", (0.5, 0.5)] != made["bpe", (0.9, 0.1)]
    mixed.weights = (0.5, 0.5)
    texts = list(mixture._training(data.check(mixed)))
    size = {n: sum(len(t) for t in texts if set(t.decode()) <= {*w, " "}) for n, w in WORDS.items()}
    assert size["low"] == pytest.approx(size["high"], abs=100) and size["high"] > 5_000
    mixed.weights = (1.0, 0.0)
    assert not any(set(text.decode()) & set(WORDS["high"]) for text in mixture._training(mixed))


def test_filters_of_a_mixture_are_counted_by_source(mixed):
    mixed.filters = ("stop_words",)
    mixed.own.low.filters = ("few_letters",)
    with pytest.raises(UserError, match="source 'high' of the mixture: .*longer than the train"):
        data.load(mixed, "train")
    mixed.own.high.filters = ()
    mixed.own.low.filters = ("near_duplicates", "long")
    assert data.describe(mixed)["dropped"] == {"low: near_duplicates": 0, "low: long": 0}


def test_a_config_of_a_mixture_is_the_same_from_json(mixed):
    again = json.loads(json.dumps(mixed.to_dict()))
    assert data.fingerprint(again) == data.fingerprint(mixed)


def test_the_verb_says_what_was_left_out_and_what_is_contaminated(tmp_path, capsys):
    texts = [" ".join(f"{i} {n}" for n in range(20)) for i in range(200)]
    lines = "".join(json.dumps({"body": text}) + "\n" for text in [*texts, *texts[:50]])
    (tmp_path / "a.jsonl").write_text(lines)
    words = ["data", "files", "--folder", str(tmp_path / "data"), "--set", "length=16"]
    words += ["--set", f"path={tmp_path}/a.jsonl", "--set", "field=body"]
    filters = "filters=('stop_words', 'near_duplicates')"
    assert main([*words, "--set", "together=False", "--contamination"]) == 0
    shown = capsys.readouterr().out
    assert "left out" not in shown and "documents share 13 words in a row with train" in shown
    touched = float(shown.partition("files: ")[2].partition("files: ")[2].partition("%")[0])
    assert 0 < touched < 100
    assert main([*words, "--set", filters.replace("stop_words", "few_words")]) == 2
    assert "no document of files is left (dropped: few_words 250" in capsys.readouterr().err
    assert main([*words, "--set", "filters=('near_duplicates',)", "--contamination"]) == 0
    shown = capsys.readouterr().out
    assert "files: documents left out: near_duplicates" in shown
    for wrong, said in (
        ([*words, "--set", "feild=body"], "did you mean 'field'"),
        ([*words, "--set", "field"], "expected KEY=VALUE"),
        (["data", "markov", "--contamination", "--folder", words[3], "--set", "tokens=2000",
          "--set", "validation_tokens=2000"], "which is no source of text"),
    ):  # fmt: skip
        assert main(wrong) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "keys, said",
    [
        (dict(sources=("low", "high", "low")), "names 'low' twice"),
        (dict(sources=("low", "english"), own={}), "source 'low' .* neither .* nor a TFDS name"),
        (dict(sources=("low",), weights=(1.0,)), "data.own: 'high' is not one of data.sources"),
        (dict(weights=(1.0,)), "data.weights is .1.0,.; expected 2 numbers"),
        (dict(weights=(0.0, 0.0)), "one is above"),
        (dict(weights=("a", "b")), "data.weights is .* expected a tuple of numbers"),
        (dict(weights_end=(1.0,)), "data.weights_end is"),
        (dict(weights_end=("a", "b")), "data.weights_end is .* expected 2 numbers"),
        (dict(validation_weights=(-1.0, 2.0)), "data.validation_weights .* at least 0"),
        (dict(curriculum=(5, 2)), "data.curriculum is .5, 2.; expected two steps"),
        (dict(curriculum=(5,)), "data.curriculum"),
        (dict(own={"low": {"name": "markov"}}), "source 'low' .* 'markov' is no source of text"),
        (dict(own={"low": {"name": "mixture"}}), "'mixture' is no source of text"),
        (dict(own={"low": {"name": "files", "fild": "a"}}), "data.fild is not a key .*'field'"),
        (dict(own={"low": {"name": "files", "vocab": 9}}), "data.vocab is that of the whole"),
        (dict(own={"low": {"name": "files", "split": 3}}), "data.split is 3; expected str"),
        (dict(own={"low": 3}), "data.own: 'low' is 3; expected the keys of a source"),
    ],
)
def test_what_cannot_be_mixed(mixed, keys, said):
    plain = {**mixed.to_dict(), **keys}
    if "own" in keys:
        plain["own"] = {
            **({"high": mixed.own.high.to_dict()} if keys["own"] else {}),
            **keys["own"],
        }
    with pytest.raises(UserError, match=said) as refused:
        data.check(plain)
    assert "\n" not in str(refused.value)
