"""Tones of known entropy: a sound that no model can predict better than the floor.

Notes follow one another, each of a pitch, a phase and a loudness drawn evenly from finite sets, as
mu-law levels whose last bit is a coin of its own. From the sound one can tell the coins and the
even levels apart, so that its entropy is the sum of theirs, in bits a sample, exactly.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import sound, source
from research.data.pack import Writer
from research.data.settings import SPLITS, Config, check_least, check_seed
from research.data.sources.markov import entropy
from research.errors import UserError

# note: samples of one. noise: how often the last bit of a level is set.
DEFAULTS = {
    "length": 1024,
    "rate": 8000,
    "note": 256,
    "pitches": 8,
    "phases": 4,
    "loudnesses": 2,
    "noise": 0.1,
    "seed": 0,
    "tokens": 2_000_000,
    "validation_tokens": 200_000,
}
LOWEST = 220.0  # hertz, of the first pitch; the others are those of a scale of five tones above it
SCALE = (0, 2, 4, 7, 9)  # semitones


def check(data: Config) -> None:
    """Raise UserError for notes that cannot be."""
    keys = ("length", "rate", "note", "pitches", "phases", "loudnesses")
    check_least(data, *keys, "tokens", "validation_tokens")
    check_seed(data)
    length, note = data["length"], data["note"]
    if length % note:
        nearest = max(1, round(length / note)) * note
        raise UserError(
            f"data.length is {length}; it must hold whole notes of data.note {note}"
            f" (nearest: {nearest})"
        )
    if not 0 <= data["noise"] <= 1:
        raise UserError(f"data.noise is {data['noise']}; it must be from 0 to 1")
    highest = pitches(data)[-1]
    if highest >= data["rate"] / 2:
        raise UserError(
            f"data.pitches is {data['pitches']}: the highest is {highest:.0f} hertz, which"
            f" data.rate {data['rate']} cannot carry"
        )
    for key in ("tokens", "validation_tokens"):
        if data[key] < length:
            raise UserError(f"data.length is {length}, longer than data.{key} {data[key]}")


def outline(data: Config) -> source.Spec:
    """Windows that are independent draws, each with a start in front, so that they share none."""
    return source.text(data["length"], sound.LEVELS, stride=data["length"] + 1)


def fill(writer: Writer, data: Config) -> None:
    """Write the windows of each split, one after another."""
    drawn = splits(data)
    writer.facts["floor"] = floor(data, drawn["validation"])
    for split, windows in drawn.items():
        writer.append(split, "tokens", windows.ravel())


def pitches(data: Config) -> NDArray[np.float64]:
    """Frequencies in hertz, from the lowest."""
    octave, step = np.divmod(np.arange(data["pitches"]), len(SCALE))
    return LOWEST * 2.0 ** (octave + np.array(SCALE)[step] / 12)


def notes(data: Config) -> NDArray[np.uint8]:
    """Each equally likely note before its noise, even levels [notes, samples]."""
    time = np.arange(data["note"]) / data["rate"]
    phases = np.arange(data["phases"]) / data["phases"]
    loudnesses = 0.8 / 2.0 ** np.arange(data["loudnesses"])
    signals = [
        loudness * np.sin(2 * np.pi * (pitch * time + phase))
        for pitch, phase, loudness in itertools.product(pitches(data), phases, loudnesses)
    ]
    return sound.encode(np.array(signals)) & np.uint8(254)


def splits(data: Config) -> dict[str, NDArray[np.uint8]]:
    """Return the windows of each split, uint8 [windows, length + 1], START first."""
    table, each, drawn = notes(data), data["length"] // data["note"], {}
    for number, split in enumerate(SPLITS, start=1):
        rng = np.random.default_rng(np.random.SeedSequence(data["seed"], spawn_key=(number,)))
        count = data["tokens" if split == "train" else "validation_tokens"] // data["length"]
        clean = table[rng.integers(len(table), size=(count, each))].reshape(count, -1)
        bits = rng.random(clean.shape) < data["noise"]
        start = np.full((count, 1), sound.START, np.uint8)
        drawn[split] = np.concatenate([start, clean + bits.astype(np.uint8)], 1)
    return drawn


def log2_probability(data: Config, windows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return log2 P of sounds [windows, length + 1] given their start, float64 [windows].

    Notes that sound alike are one, as likely as both.
    """
    table, first = notes(data), windows[:, 1:]
    distinct, counts = np.unique(table, axis=0, return_counts=True)
    found = {
        note.tobytes(): np.log2(count / len(table))
        for note, count in zip(distinct, counts, strict=True)
    }
    played = (first & 254).reshape(len(first), -1, data["note"])
    of_notes = [[found[note.tobytes()] for note in row] for row in played]
    bits = first & 1
    with np.errstate(divide="ignore"):
        of_bit = np.log2([1 - data["noise"], data["noise"]])
    return np.sum(of_notes, 1) + of_bit[bits].sum(1)


def floor(data: Config, validation: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the exact floor in bits a sample.

    "value" is the expectation; "sample_value" is the score of the source itself on the windows of
    the validation split, whose standard error is "standard_error".
    """
    table, noise = notes(data), data["noise"]
    _, counts = np.unique(table, axis=0, return_counts=True)
    of_note, of_bit = entropy(counts / len(table)), entropy(np.array([noise, 1 - noise]))
    each = -log2_probability(data, validation) / data["length"]
    return {
        "value": of_note / data["note"] + of_bit,
        "unit": "bits/sample",
        "kind": "exact",
        "source": f"entropy of a note over its {data['note']} samples, and of a last bit",
        "sample_value": float(each.mean()),
        "standard_error": float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else 0.0,
    }
