"""Names of characters, spoken: Unicode's, by Debian's espeak-ng, as mu-law levels.

A sound is a name, filled up with silence or cut; the bytes of the name lie beside it. With
`text_first` they also stand before it, as tokens after the levels, so that a network speaks what it
reads: of a window of `length` predicted tokens the first `TEXT` are the name.
"""

import concurrent.futures
import fnmatch
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import sound, source
from research.data.pack import Writer
from research.data.settings import Config, check_least
from research.data.sources import python_stdlib
from research.errors import UserError

# names: shell patterns of the names of characters; speed: words a minute, as espeak-ng counts.
DEFAULTS = {
    "length": 8192,
    "rate": 8000,
    "names": ("LATIN *",),
    "voice": "en",
    "speed": 300,
    "text_first": False,
}
ON_REQUEST = True  # where espeak-ng is not installed
TEXT = 96  # bytes of a name; longer ones are cut
LETTERS = 128  # that a name is written with: ASCII
PROGRAM = "espeak-ng"


def check(data: Config) -> None:
    """Raise UserError for sounds of no length, or a speed that espeak-ng has not."""
    check_least(data, "length", "rate")
    if data["text_first"] and data["length"] <= TEXT:
        raise UserError(
            f"data.length is {data['length']}; with data.text_first it must be above the {TEXT} "
            "bytes of a name"
        )
    if not 80 <= data["speed"] <= 450:
        raise UserError(f"data.speed is {data['speed']}; espeak-ng speaks 80 to 450 words a minute")


def outline(data: Config) -> source.Spec:
    """A sound an example, and its name in bytes, zeros after it."""
    symbols = sound.LEVELS + LETTERS * data["text_first"]
    return source.sound(data["length"], symbols, text=TEXT)


def identity(data: Config) -> dict[str, Any]:
    """Return what decides the sounds: the settings, the program and the Unicode version."""
    return {
        **{key: data[key] for key in ("length", "rate", "names", "voice", "speed")},
        **({"text_first": True} if data["text_first"] else {}),  # else as before there was a choice
        "program": run("--version").decode().split("Data")[0].strip(),
        "unicode": unicodedata.unidata_version,
    }


def words(identity: dict[str, Any]) -> list[str]:
    """The voice."""
    return [identity["voice"]]


def fill(writer: Writer, data: Config) -> None:
    """Write every sound and its name, in the order of the characters."""
    found = chosen(data["names"])
    texts = spelled(found)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        spoken = threads.map(lambda name: speak(data, name), found)
        for name, text, levels in zip(found, texts, spoken, strict=True):
            first = opened(data, text[None])
            tokens = np.concatenate([first, levels[None]], 1, dtype=first.dtype)
            split = python_stdlib.side(name)
            writer.append(split, "tokens", tokens)
            writer.append(split, "text", text[None])


def beginnings(data: Config, texts: Sequence[str] = ()) -> NDArray[np.integer] | None:
    """The tokens before the sounds of `texts`, by default of all names, [N, 1 + TEXT].

    None where sounds have no text before them.
    """
    return opened(data, spelled(texts or chosen(data["names"]))) if data["text_first"] else None


def spelled(texts: Sequence[str]) -> NDArray[np.uint8]:
    """The bytes of each text, zeros after them, [N, TEXT]."""
    joined = b"".join(text.encode("ascii", "replace")[:TEXT].ljust(TEXT, b"\0") for text in texts)
    return np.frombuffer(joined, np.uint8).reshape(-1, TEXT)


def opened(data: Config, text_NxT: NDArray[np.uint8]) -> NDArray[np.integer]:
    """What stands before each sound: START, after the letters if the text comes first."""
    start_Nx1 = np.full((len(text_NxT), 1), sound.START, np.uint8)
    if not data["text_first"]:
        return start_Nx1
    return np.concatenate([np.uint16(sound.LEVELS) + text_NxT, start_Nx1], 1, dtype=np.uint16)


def chosen(patterns: tuple[str, ...]) -> list[str]:
    """Return the names that match one of `patterns`, in the order of their characters.

    Raises:
        UserError: when none does.
    """
    every = (unicodedata.name(chr(code), "") for code in range(sys.maxunicode + 1))
    found = [n for n in every if n and any(fnmatch.fnmatchcase(n, each) for each in patterns)]
    if not found:
        raise UserError(
            f"data.names: no character's name matches {', '.join(patterns)}; names are in capitals,"
            " such as 'GREEK SMALL LETTER *'"
        )
    return found


def speak(data: Config, name: str) -> NDArray[np.uint8]:
    """Return the levels of a name as it is spoken, then silence, as many as fill a window."""
    options = ("-v", data["voice"], "-s", str(data["speed"]), "--stdout")
    signal, rate = sound.from_wav(run(*options, name.lower()))
    length = data["length"] - TEXT * data["text_first"]
    signal = sound.resample(signal, rate, data["rate"])[:length]
    return sound.encode(np.pad(signal, (0, length - len(signal))))


def run(*words: str) -> bytes:
    """Return what espeak-ng writes.

    Raises:
        UserError: when it is not installed, or refuses.
    """
    try:
        return subprocess.run([PROGRAM, *words], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise UserError(
            "data.name speech is spoken by espeak-ng, which is not installed: install the Debian"
            " package espeak-ng, or use data.name tones"
        ) from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or [str(error)]
        raise UserError(f"espeak-ng {' '.join(words)}: {said[-1]}") from error
