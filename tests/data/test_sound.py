"""Sound: mu-law, WAV files, tones of known entropy, and names spoken by espeak-ng."""

import itertools
import shutil

import jax
import numpy as np
import pytest

from research import data, sample
from research.data import sound
from research.data.sources import speech, tones
from research.errors import UserError
from research.families import autoregressive
from tests import shapes

LEVELS = np.arange(256, dtype=np.uint8)


def test_mu_law_is_a_round_trip_and_silence_is_in_the_middle():
    np.testing.assert_array_equal(sound.encode(sound.decode(LEVELS)), LEVELS)
    assert list(sound.encode(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))) == [0, 0, 128, 255, 255]
    # Half of the levels are for the 6% of the range that are nearest to silence.
    assert np.mean(np.abs(sound.decode(LEVELS)) < 1 / 17) == pytest.approx(0.5, abs=0.01)


def test_a_file_holds_every_sound_with_a_pause_between():
    tokens = np.stack([np.roll(LEVELS, shift) for shift in (0, 1)])
    signal, rate = sound.from_wav(sound.to_wav(tokens, 8000))
    assert rate == 8000 and len(signal) == 2 * 255 + 2000
    np.testing.assert_array_equal(sound.encode(signal[:255] * 32768 / 32767), tokens[0, 1:])
    assert not signal[255:-255].any()
    np.testing.assert_array_equal(sound.encode(signal[-255:] * 32768 / 32767), tokens[1, 1:])


def test_samples_are_a_file_of_their_kind():
    """The sound of one level of silence is not the text of its tokens."""
    tokens = np.full((2, 9), 128, np.int32)
    suffix, content = sample._file(tokens, 8000)
    assert suffix == ".wav" and len(sound.from_wav(content)[0]) == 2 * 8 + 2000
    assert sample._file(tokens, None)[0] == ".txt"
    assert sample._file(np.zeros((2, 4, 4, 1), np.uint8), None)[0] == ".png"


def test_what_the_new_rate_cannot_carry_is_left_out():
    time = np.arange(22050) / 22050
    low, high = (np.sin(2 * np.pi * pitch * time) for pitch in (440, 5000))
    found = sound.resample(low + high, 22050, 8000)
    assert len(found) == 8000
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    np.testing.assert_allclose(found[100:-100], expected[100:-100], atol=0.01)


def small_tones(folder="", **values):
    config = data.default("tones")
    config.update(dict(folder=str(folder), length=64, note=16, tokens=6400, validation_tokens=6400))
    config.update(values)
    return config


def test_the_floor_of_tones_is_the_entropy_of_every_sound():
    """A sample a note: sin of 0, 1/4, 1/2 and 3/4 of a turn, two alike, is 1.5 bits."""
    config = small_tones(length=2, note=1, pitches=1, phases=4, loudnesses=1, noise=0.2)
    levels = sorted({*tones.notes(config).flat})
    assert len(levels) == 3
    each = [level + bit for level in levels for bit in (0, 1)]
    every = np.array([(0, *pair) for pair in itertools.product(each, repeat=2)], np.uint8)
    bits = tones.log2_probability(config, every)
    assert np.exp2(bits).sum() == pytest.approx(1, abs=1e-12)
    floor = tones.floor(config, every)["value"]
    coin = -0.2 * np.log2(0.2) - 0.8 * np.log2(0.8)
    assert floor == pytest.approx(1.5 + coin, abs=1e-12)
    assert floor == pytest.approx(-(np.exp2(bits) * bits).sum() / 2, abs=1e-12)


def test_tones_score_what_their_floor_says(tmp_path):
    config = small_tones(tmp_path)
    source, known = data.load(config, "validation"), data.describe(config)["floor"]
    assert len(source) == 100 and known["unit"] == "bits/sample"
    assert abs(known["sample_value"] - known["value"]) < 4 * known["standard_error"]
    batch = source.gather(np.arange(100))["tokens"]
    assert not batch[:, 0].any() and batch.shape == (100, 65)
    other = data.load(config, "train").gather(np.arange(100))["tokens"]
    assert not np.array_equal(batch, other)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(length=60), r"length is 60; it must hold whole notes .* 16 \(nearest: 64\)"),
        (dict(noise=1.5), "noise is 1.5; it must be from 0 to 1"),
        (dict(pitches=40), "highest is 47359 hertz, which data.rate 8000 cannot carry"),
        (dict(tokens=32), "length is 64, longer than data.tokens 32"),
        (dict(phases=0), "phases is 0; it must be at least 1"),
    ],
)
def test_tones_that_cannot_be(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        data.load(small_tones(tmp_path, **values), "train")
    assert not list(tmp_path.iterdir())


def spoken(folder, **values):
    config = data.default("speech")
    config.update(dict(folder=str(folder), length=2000, rate=4000, names=("LATIN *TH STROKE",)))
    config.update(values)
    return config


@pytest.fixture
def narrator(tmp_path, monkeypatch):
    """A stand-in for espeak-ng, which says every name as one beep."""
    wave = tmp_path / "beep.wav"
    beep = np.where(np.arange(4000) // 40 % 2, 250, 5).astype(np.uint8)
    wave.write_bytes(sound.to_wav(beep[None], 8000))
    program = tmp_path / "espeak-ng"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*) echo "beeps: 1 Data at: here";; *bad*) echo no voice >&2;'
        f" exit 1;; *) cat {wave};; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(speech, "PROGRAM", str(program))
    return beep


def test_a_name_is_spoken_and_lies_beside_its_sound(tmp_path, narrator):
    config = spoken(tmp_path, rate=8000, length=4500)
    splits = [data.load(config, split) for split in data.describe(config)["splits"]]
    assert sum(map(len, splits)) == len(speech.chosen(config.names)) > 10
    batch = splits[0].gather([0])
    assert {key: value.shape for key, value in batch.items()} == dict(
        tokens=(1, 4501), text=(1, 96)
    )
    assert bytes(batch["text"][0]).rstrip(b"\0").decode() in speech.chosen(config.names)
    np.testing.assert_array_equal(batch["tokens"][0, :4000], [0, *narrator[1:]])
    assert np.all(batch["tokens"][0, 4000:] == 128)


def test_a_text_may_stand_before_its_sound(tmp_path, narrator):
    """As tokens beyond the levels, which a file of samples leaves out."""
    config = spoken(tmp_path, rate=8000, length=4096, text_first=True)
    batch = data.load(config, "train").gather([0])
    assert batch["tokens"].shape == (1, 4097) and data.vocab_size(config) == 384
    np.testing.assert_array_equal(batch["tokens"][0, :96], 256 + batch["text"][0].astype(int))
    np.testing.assert_array_equal(batch["tokens"][0, 96:4096], [0, *narrator[1:]])
    name = bytes(batch["text"][0]).rstrip(b"\0").decode()
    np.testing.assert_array_equal(data.beginnings(config, [name]), batch["tokens"][:, :97])
    every = data.beginnings(config)
    assert every is not None and len(every) == len(speech.chosen(config.names))
    signal, _ = sound.from_wav(sound.to_wav(batch["tokens"], 8000))
    np.testing.assert_array_equal(sound.encode(signal * 32768 / 32767), batch["tokens"][0, 97:])
    assert data.beginnings(spoken(tmp_path)) is None and data.beginnings(small_tones()) is None
    with pytest.raises(UserError, match="length is 96; with data.text_first it must be above"):
        data.outline(spoken(tmp_path, length=96, text_first=True))


@pytest.mark.slow
def test_a_network_speaks_the_text_that_it_is_given():
    """Its text first, by choice or drawn among the names; then the sound, of the window's rest."""
    config = shapes.autoregressive(384, objective="prefix", prefix_length=97)
    config.data = data.default("speech")
    config.data.update(length=104, text_first=True, names=("LATIN *TH STROKE",))
    params, key = autoregressive.init(config, jax.random.key(0)), jax.random.key(1)
    every = data.beginnings(config.data)
    drawn = autoregressive.sample(config, params, key, 4)
    assert drawn.shape == (4, 104) and drawn.dtype == np.int32
    assert all((row[:97] == every).all(1).any() for row in drawn)
    text = data.beginnings(config.data, ["stroke"]).repeat(4, 0)
    said = autoregressive.sample(config, params, key, 4, beginning=text)
    np.testing.assert_array_equal(said[:, :97], text)


def test_what_cannot_be_spoken_is_one_line(tmp_path, narrator, monkeypatch):
    for values, message in (
        (dict(voice="bad"), "espeak-ng -v bad .*: no voice"),
        (dict(names=("greek *",)), "no character's name matches greek .*; names are in capitals"),
        (dict(speed=20), "speed is 20; espeak-ng speaks 80 to 450"),
    ):
        with pytest.raises(UserError, match=message):
            data.load(spoken(tmp_path / "data", **values), "train")
    monkeypatch.setattr(speech, "PROGRAM", str(tmp_path / "none"))
    with pytest.raises(UserError, match="install the Debian package espeak-ng, or .* tones"):
        data.load(spoken(tmp_path / "data"), "train")
    assert not [*(tmp_path / "data").rglob("meta.json")]


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="no espeak-ng here: nothing was spoken")
def test_espeak_speaks(tmp_path):
    """For real: sound, not silence, and to the bit the same again."""
    config = spoken(tmp_path, names=("LATIN SMALL LETTER [A-H]",))
    source = data.load(config, "train")
    levels = source.gather(np.arange(len(source)))["tokens"][:, 1:]
    assert len(levels) >= 5 and np.all(sound.decode(levels).std(1) > 0.01)
    name = bytes(source.arrays["text"][0]).rstrip(b"\0").decode()
    np.testing.assert_array_equal(levels[0], speech.speak(config, name))
