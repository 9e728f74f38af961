"""Tokens of every kind spell every string of bytes, and bits a byte are of those bytes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import data, defaults, recipes, run_tokenizer, sample
from research.__main__ import main
from research.data import pack, prepare, tokenizers
from research.data.tokenizers import byte_level, unigram
from research.errors import UserError
from research.families import autoregressive
from research.models import common, decoder
from research.run import record
from tests.toys import verses

KINDS = tuple(tokenizers.KINDS)
VOCAB = 300
SEPARATOR = byte_level.SEPARATOR.encode()
# Pieces of text that a tokenizer could mistake for something else.
TRAPS = (SEPARATOR, b"##", b"the", b" ", b"\n", b"\0", b"\r", "θ".encode(), b"\xce", b"\xff")


def wanted(folder, kind, vocab=VOCAB, **changes):
    config = data.default("tests.toys.verses")
    config.update(folder=str(folder), length=16, tokenizer=kind, vocab=vocab, **changes)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("verses")


@pytest.fixture(scope="module")
def every(folder):
    """{kind: its tokenizer}, trained on the verses, and bytes."""
    return {kind: data.tokenizer(wanted(folder, kind)) for kind in ("byte", *KINDS)}


def held(found, text):
    """That `text` comes back from its tokens, none of which is a separator but a byte 0."""
    tokens = found.encode(text)
    assert tokens.dtype == np.int32 and found.decode(tokens) == text
    assert found.lengths[tokens].sum(dtype=int) == len(text)
    assert isinstance(found, tokenizers.Bytes) or not (tokens == 0).any()
    return tokens


@given(st.binary(max_size=40), st.lists(st.sampled_from(TRAPS), max_size=12), st.text(max_size=20))
def test_every_string_of_bytes_comes_back(every, noise, traps, text):
    for each in (noise, b"".join(traps), text.encode(errors="surrogatepass") + noise):
        for found in every.values():
            held(found, each)


@pytest.mark.parametrize("kind", ("byte", *KINDS))
def test_long_and_odd_texts_come_back(every, kind, monkeypatch):
    odd = ("é" * 3000, "語\u2028\x85" * 500, " " * 5000, "9" * 999)
    for text in odd:
        held(every[kind], text.encode())
    short = byte_level.PIECES.pattern.replace("1048576", "5")  # a long text is cut
    monkeypatch.setattr(byte_level, "PIECES", re.compile(short))
    held(every[kind], b"rosenight\xff\xff fallise")
    assert len(held(every[kind], b"")) == 0
    assert every[kind].decode([0]) == b"\0" and every[kind].lengths[0] == 1
    together = [b"the \xff rose", b"", b"\x80"]
    if kind != "byte":
        found = every[kind].encode_all(together)
        assert [every[kind].decode(tokens) for tokens in found] == together
        assert len(every[kind].encode(b" rosenight fallise")) < 13  # it has learned something


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_makes_the_same_tokenizer(folder, every, kind):
    module = tokenizers.parts.load("kind", kind, tokenizers.KINDS)
    texts = [text for split, text in verses.documents(wanted(folder, kind)) if split == "train"]
    again = module.train(texts, VOCAB).to_str(pretty=True).encode()
    assert again == every[kind].content


def test_scores_of_unigram_do_not_hang_on_hash_tables():
    """Bytes that no text has are equals, whatever their order was."""
    pieces = json.loads(unigram.train([b"abab ab ab"] * 9, 262).to_str())["model"]["vocab"]
    scores = dict(map(tuple, pieces[1:]))
    absent = {score for piece, score in scores.items() if piece not in "Ġab" and len(piece) == 1}
    assert absent == {min(scores.values())} and pieces[0][0] == byte_level.SEPARATOR
    assert pieces[1:] == sorted(pieces[1:], key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_spells_the_bytes_that_its_documents_have(folder, every, kind):
    """Split for split, under every tokenizer: the text with a separator behind each document."""
    for split in data.SPLITS:
        plain = data.load(wanted(folder, "byte"), split).arrays["tokens"]
        found = data.load(wanted(folder, kind), split)
        tokens, spelled = found.arrays["tokens"], found.arrays["bytes"]
        assert every[kind].decode(tokens) == plain.tobytes()
        assert spelled.sum(dtype=int) == len(plain) and len(tokens) < len(plain)
        assert (spelled == every[kind].lengths[tokens]).all()
        assert (tokens == 0).sum() == verses.DEFAULTS["verses"] + 1  # the byte 0 of a text is none
        batch = found.gather(np.arange(2))
        assert (batch["bytes"] == every[kind].lengths[batch["tokens"][:, 1:]]).all()
        assert tokens.dtype == np.uint16 and batch["bytes"].dtype == np.uint8
        shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
        assert shapes == data.batch_shapes(data.outline(wanted(folder, kind)), 2)


def test_the_tokenizer_is_named_in_the_pack_and_trained_once(folder, every, monkeypatch):
    config = wanted(folder, "bpe")
    about = data.load(config, "train").tokenizer
    assert about["sha256"] == every["bpe"].sha256 and about["vocab"] == VOCAB
    assert tokenizers.home(folder, about["key"]).read_bytes() == every["bpe"].content
    made = prepare.identity(data.check(config))
    assert made["tokenizer"] == {"kind": "bpe", "vocab": VOCAB, "version": 1}
    assert prepare.key(data.check(config), made).startswith("tests.toys.verses-bpe300-v1-")
    # Text of another length is another pack nowhere, and a pack made again trains nothing.
    monkeypatch.setattr(byte_level, "fit", None)
    config.length = 8
    assert data.load(config, "train").fingerprint
    other = wanted(folder, "bpe", seed=1)
    with pytest.raises(TypeError):
        data.load(other, "train")


def test_bytes_are_the_packs_that_they_were(folder):
    """Neither the identity nor the name of a pack of bytes knows of tokenizers."""
    config = wanted(folder, "byte")
    assert prepare.identity(data.check(config)) == {"version": 1, "verses": 40, "seed": 0}
    assert prepare.identity(data.check(wanted(folder, "byte", vocab=7))) == prepare.identity(config)
    assert data.load(config, "train").tokenizer is None
    assert list(data.load(config, "train").arrays) == ["tokens"]


def test_a_file_made_for_one_source_serves_another(folder, every, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(every["unigram"].content)
    found = data.load(wanted(folder, str(path), seed=1), "train")
    assert (
        found.tokenizer["kind"] == "file" and found.tokenizer["sha256"] == every["unigram"].sha256
    )
    before = found.fingerprint
    path.write_bytes(every["bpe"].content)
    assert data.load(wanted(folder, str(path), seed=1), "train").fingerprint != before


def measured(folder, kind, monkeypatch, batch, weights=None):
    """Score and loss of a network whose every token costs 3 nats."""
    config = defaults.config("autoregressive", "tests.toys.verses")
    config.data = wanted(folder, kind)
    nats = np.full(batch["tokens"][:, 1:].shape, 3.0, np.float32)
    monkeypatch.setattr(common, "apply", lambda *_: (None, {}, None))
    monkeypatch.setattr(decoder, "nats", lambda *_: nats)
    given = batch if weights is None else batch | {"weights": weights}
    scored = given | {"mask": np.array([1, 0], np.float32)}
    unread: Any = None  # parameters, keys and steps
    found = autoregressive.score(config, unread, scored, unread)["likelihood"]
    loss, metrics = autoregressive.loss(config, unread, given, unread, unread)
    return found["total"] / found["count"], loss, metrics["bits_per_byte"], config


@pytest.mark.parametrize("kind", ("byte", "wordpiece"))
def test_bits_are_of_the_bytes_that_tokens_spell(folder, every, kind, monkeypatch):
    batch = data.load(wanted(folder, kind), "validation").gather(np.arange(2))
    spelled = every[kind].lengths[batch["tokens"][:, 1:]].astype(float)
    weights = np.tile(np.array([0, 2], np.float32), 16).reshape(2, 16)
    for each in (np.ones((2, 16), np.float32), weights):
        given = None if each is not weights else weights
        score, loss, metric, config = measured(folder, kind, monkeypatch, batch, given)
        bits = 3 * each / np.log(2)
        np.testing.assert_allclose(score, bits[0].sum() / (spelled * each)[0].sum(), rtol=1e-6)
        np.testing.assert_allclose(metric, bits.sum() / (spelled * each).sum(), rtol=1e-6)
        assert loss == 3
    assert autoregressive.score_kinds(config)["likelihood"]["unit"] == "bits/byte"


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(tokenizer="bpe", vocab=4096), 4096),
        (dict(tokenizer="unigram", vocab=VOCAB), 512),
        (dict(tokenizer="byte", vocab=4096), 256),
    ],
)
def test_a_network_has_the_vocabulary_of_its_data_padded(changes, expected):
    config = defaults.config("autoregressive", "python_stdlib")
    config.data.update(changes)
    config.size, config.train.steps = 16, 1
    assert recipes.apply(config).model.vocab_size == expected
    config.model.vocab_size = 5000
    assert recipes.apply(config).model.vocab_size == 5000


def run_folder(folder, tmp_path, kind):
    """A run of `kind`, as far as its tokenizer goes."""
    config = defaults.config("autoregressive", "tests.toys.verses")
    config.data = wanted(folder, kind)
    source = data.load(config.data, "train")
    about = run_tokenizer.keep(tmp_path, config, source)
    record.write_json(tmp_path / "config.json", json.loads(config.to_json()))
    record.write_json(tmp_path / "provenance.json", record.provenance("0", about))
    return config, source


def test_a_run_is_decoded_by_the_tokenizer_in_its_folder(folder, every, tmp_path):
    config, source = run_folder(folder, tmp_path, "bpe")
    found = run_tokenizer.load(tmp_path)
    assert found.sha256 == every["bpe"].sha256
    tokens = np.concatenate([[0], every["bpe"].encode(b"the \xff rose")])
    assert sample.to_text(tokens[None], found) == "the \ufffd rose\n"
    with pytest.raises(
        UserError, match="token 300 is outside the vocabulary of 300: the tokenizer"
    ):
        sample.to_text(np.array([[0, 300]]), found)
    run_tokenizer.keep(tmp_path, config, source)  # as when it goes on
    config.data.tokenizer = "wordpiece"
    with pytest.raises(
        UserError, match=r"is another tokenizer \(.*choose another --workdir or del"
    ):
        run_tokenizer.keep(tmp_path, config, data.load(config.data, "train"))
    (tmp_path / "tokenizer.json").write_bytes(every["wordpiece"].content)
    with pytest.raises(UserError, match="is not the tokenizer that the run was trained with"):
        run_tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*tokenizer.json: No such"):
        run_tokenizer.load(tmp_path)


def test_a_run_of_bytes_keeps_no_file(folder, tmp_path):
    run_folder(folder, tmp_path, "byte")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "provenance.json"]
    assert isinstance(run_tokenizer.load(tmp_path), tokenizers.Bytes)
    assert "tokenizer" not in record.read_json(tmp_path / "provenance.json")


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(tokenizer="bep"), r"data.tokenizer is 'bep'; .*\(did you mean 'bpe'\?\)"),
        (dict(tokenizer="bpe", vocab=256), "data.vocab is 256; 'bpe' has at least 257 tokens"),
        (dict(tokenizer="bpe", vocab=2**24), "and fewer than 16777216"),
        (dict(tokenizer="bpe", vocab=4000), r"enough for \d+ tokens of 'bpe': set it to \d+"),
        (dict(tokenizer="no.such.kind"), "data.tokenizer='no.such.kind': No module named"),
        (dict(tokenizer="research.errors"), "data.tokenizer='research.errors' lacks train"),
        (dict(tokenizer="absent.json"), "cannot read the tokenizer absent.json: No such file"),
        (dict(tokenizer="TMP/text.json"), "text.json is not a tokenizer.json: "),
        (dict(tokenizer="TMP/good.json"), "data.vocab is 299; .* has 300 tokens: set it to 300"),
        (dict(tokenizer="TMP/plain.json"), "plain.json: token 0 is no special token"),
        (dict(tokenizer="TMP/poor.json"), "poor.json is not byte-level: byte 200 has no token"),
        (dict(tokenizer="TMP/spaced.json"), "spaced.json is not byte-level: some texts do not"),
    ],
)
def test_what_is_no_tokenizer_is_refused_in_one_line(folder, every, tmp_path, changes, said):
    content = json.loads(every["bpe"].content)
    (tmp_path / "text.json").write_text("{}")
    (tmp_path / "good.json").write_bytes(every["bpe"].content)
    spaced = content | {"normalizer": {"type": "Lowercase"}}
    (tmp_path / "spaced.json").write_text(json.dumps(spaced))
    plain = content | {"added_tokens": []}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    names = {byte: name for name, byte in byte_level.alphabet().items()}
    content["model"]["vocab"]["xx"] = content["model"]["vocab"].pop(names[200])
    content["model"]["merges"] = []
    (tmp_path / "poor.json").write_text(json.dumps(content))
    kind = changes["tokenizer"].replace("TMP", str(tmp_path))
    config = wanted(folder, kind, changes.get("vocab", 299))
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=said) as caught:
        data.load(config, "train")
    assert "\n" not in str(caught.value)
    # What was trained is kept for whoever asks for what the text is enough for.
    new = [path for path in folder.rglob("*") if path not in before]
    assert not [path for path in new if "packed" in path.parts]


def test_a_tokenizer_that_was_changed_under_its_pack(folder, every):
    about = data.load(wanted(folder, "bpe"), "train").tokenizer
    path = tokenizers.home(folder, about["key"])
    path.write_bytes(every["wordpiece"].content)
    try:
        with pytest.raises(UserError, match="is not the tokenizer of the data prepared with it"):
            data.tokenizer(wanted(folder, "bpe"))
    finally:
        path.write_bytes(every["bpe"].content)


def test_the_verb_trains_and_says_what_a_token_spells(folder, tmp_path, capsys):
    out = tmp_path / "made.json"
    words = ["data", "tokenizer", "tests.toys.verses", "--kind", "bpe", "--folder", str(folder)]
    config = wanted(folder, "bpe")
    config.length = 128
    assert main([*words, "--vocab", str(VOCAB), "--out", str(out)]) == 0
    mean = data.load(config, "validation").arrays["bytes"].mean()
    shown = capsys.readouterr().out
    assert f"300 tokens of bpe, {mean:.4f} bytes a token on validation" in shown
    assert out.read_bytes() == data.tokenizer(config).content and str(out) in shown
    for wrong, said in (
        (words, "needs one source, --kind and --vocab"),
        ([*words[:4], "byte", "--vocab", "300"], "--kind byte is not trained; expected bpe"),
        (["data", "tokenizer", "markov", *words[3:], "--vocab", "300"], "markov is no text"),
        (["data", "markov", "--vocab", "300"], "--vocab is of a tokenizer"),
    ):
        assert main(wrong) == 2
        assert said in capsys.readouterr().err


def test_a_pack_says_its_tokenizer_by_type(folder):
    path = Path(prepare.prepare(data.check(wanted(folder, "bpe"))).folder) / "meta.json"
    content = record.read_json(path)
    assert record.held_to(pack.Meta, content, path)["tokenizer"]["kind"] == "bpe"
    content["tokenizer"]["key"] = "../elsewhere"
    with pytest.raises(UserError, match="tokenizer.key: "):
        record.held_to(pack.Meta, content, path)
