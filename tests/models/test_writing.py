"""What `sample --prompt` and `chat` write: the text of a run's tokens, ended where it is to end."""

import io
import json
from typing import Any

import numpy as np
import pytest

from research import sample
from research.__main__ import main
from research.errors import UserError
from research.families import autoregressive
from research.sampling import continuing, image_options
from research.sampling.continuing import Settings
from research.sampling.drawing import Drawing
from tests import shapes
from tests.models.test_decoder import perturbed


class Letters:
    """Two letters, one of which has two bytes, a line's end, and a document's."""

    spelled, sha256 = b"\0a\xc3\xa9\n", "letters"

    def encode(self, text):
        return np.array([max(self.spelled.find(byte), 1) for byte in text])

    def decode(self, tokens):
        return bytes(self.spelled[token] for token in tokens)


@pytest.fixture(scope="module")
def writer():
    config = shapes.autoregressive(vocab=5, length=32, depth=1)
    network = autoregressive.drawn_from(config, perturbed(config, seed=3))  # ends no text at once
    letters: Any = Letters()
    return continuing.Writer(config, network, letters, 2)


PLAIN = Settings(tokens=20, seed=4)


def test_text_is_told_as_it_comes(writer):
    """Whole characters, and what is returned in the end; two bytes of a letter may come apart."""
    told = ["", ""]

    def tell(number, text):
        told[number] += text

    found = continuing.write(writer, ["é", "aa"], PLAIN, tell)
    for number, each in enumerate(found):
        assert Letters().decode(each.tokens).decode(errors="replace").split("\0")[0] == each.text
        assert told[number].rstrip("\ufffd") == each.text.rstrip("\ufffd")
        assert len(each.log_probabilities) == len(each.tokens) <= 20
        assert each.ended == (0 in each.tokens)
    assert found == continuing.write(writer, ["é", "aa"], PLAIN)
    assert found[0].tokens == continuing.write(writer, ["é"], PLAIN)[0].tokens


def test_a_stop_ends_a_text_before_it(writer):
    """Within the tokens that spell it, and also where it spans several."""
    settings = PLAIN._replace(drawing=Drawing(3.0))
    (free,) = continuing.write(writer, ["a"], settings)
    assert len(free.text) > 6
    for stop in (free.text[3], free.text[4:6]):
        (found,) = continuing.write(writer, ["a"], settings._replace(stop=(stop,)))
        assert found.ended and len(found.tokens) < len(free.tokens)
        assert found.text == free.text.split(stop)[0]
        assert Letters().decode(found.tokens).decode(errors="replace") == found.text + stop


@pytest.mark.slow
def test_beams_and_guesses_write_too(writer, monkeypatch):
    """A run that guesses for itself, greedily, writes what it would; a narrow cache nearly so."""
    greedy = PLAIN._replace(drawing=Drawing(0), tokens=8)
    (expected,) = continuing.write(writer, ["aé"], greedy)
    monkeypatch.setattr(continuing, "open_run", lambda folder, prompts=1, ema=None: writer)
    (guessed,) = continuing.write(writer, ["aé"], greedy._replace(guess_by="itself"))
    assert guessed.text == expected.text
    (best,) = continuing.write(writer, ["aé"], greedy._replace(beam=3))
    assert best.text
    (narrow,) = continuing.write(writer, ["aé"], greedy._replace(cache="int8"))
    assert len(narrow.tokens) == len(expected.tokens)


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(tokens=32), "do not fit into a context of 32"),
        (dict(stop=("",)), "--stop is empty"),
        (dict(beam=300), "--beam 300 must be from 1 to the 5 tokens"),
        (dict(cache="int4"), "--cache 'int4' is not one of int8"),
        (dict(drawing=Drawing(top_p=2.0)), "--top_p 2.0 must be above 0"),
    ],
)
def test_what_cannot_be_written_is_one_line(writer, change, said):
    with pytest.raises(UserError, match=said):
        continuing.write(writer, ["a"], PLAIN._replace(**change))
    with pytest.raises(UserError, match="prompt 2 is empty"):
        continuing.write(writer, ["a", ""], PLAIN)


def test_the_verb_says_what_was_given_and_what_was_drawn(writer, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(continuing, "open_run", lambda folder, prompts=1, ema=None: writer)
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("aa\né\n")
    words = ["sample", "--run", "r", "--prompts", str(prompts), "--tokens", "5"]
    assert main([*words, "--out", str(out), "--seed", "1"]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["aa", "é"]
    said = capsys.readouterr().out
    for number, line in enumerate(lines, start=1):
        assert f"given {number}: {line['prompt']}\ndrawn {number}: {line['text']}" in said
    for more, message in (
        (["--prompts", str(tmp_path / "none")], "No such file"),
        (["--prompt", "a", "--class", "b"], "prompts are of text, which has no classes"),
        (["--prompt", "a", "--text", "b"], "a prompt is the text already"),
        (["--prompt", "a", "--out", "a.txt"], "need a name ending in .jsonl"),
        (["--prompt", "a", "--num", "0"], "--num 0 must be at least 1"),
        (["--tokens", "3"], "--tokens says how text goes on: give --prompt"),
        (["--top_k", "3"], "--top_k says how text goes on"),
        (["--prompt", "a", "--prompts", "b"], "not allowed with argument"),
    ):
        assert main(["sample", "--run", "r", *more]) == 2
        assert message in capsys.readouterr().err


def test_a_chat_goes_on_from_all_that_was_said(writer, monkeypatch, capsys):
    """And forgets it after an empty line; what is too long loses its beginning."""
    asked = []
    original = continuing.write

    def write(writer, prompts, *rest):
        asked.extend(prompts)
        return original(writer, prompts, *rest)

    monkeypatch.setattr(continuing, "open_run", lambda folder, prompts=1, ema=None: writer)
    monkeypatch.setattr(continuing, "write", write)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\né\n\naé\n" + 50 * "a" + "\n"))
    assert main(["chat", "--run", "r", "--tokens", "6", "--temperature", "0.5"]) == 0
    assert asked[0] == "a\n" and asked[1].startswith("a\n") and asked[1].endswith("é\n")
    assert asked[2] == "aé\n" and len(asked[3].encode()) <= 25 and asked[3].endswith("aa\n")
    assert capsys.readouterr().out.count("\n") >= 4
    assert main(["chat", "--run", "r", "--tokens", "60"]) == 2
    assert "--tokens 60 leaves no room for a prompt in 32" in capsys.readouterr().err


def test_a_class_is_named(monkeypatch, tmp_path):
    """By the data's own names; the nearest is named where it is none."""
    config = shapes.diffusion(num_classes=3)
    monkeypatch.setattr(
        image_options.data, "outline", lambda data: {"class_names": ["cat", "dog", "owl"]}
    )
    assert image_options.label(config, "owl", 2).tolist() == [2, 2]
    with pytest.raises(UserError, match="'dgo' is not one of cat, dog, owl \\(did you mean 'dog'"):
        image_options.label(config, "dgo", 2)
    with pytest.raises(UserError, match="this run is given no class"):
        image_options.label(shapes.diffusion(), "cat", 2)
    with pytest.raises(UserError, match="--text 'cat': this run's examples begin with no text"):
        sample._told(config, "cat", 2)
