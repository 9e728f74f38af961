"""Names of characters, spoken: Unicode's, by Debian's espeak-ng, as mu-law levels.

A sound is a name, filled up with silence or cut; the bytes of the name lie beside it.
"""

import concurrent.futures
import fnmatch
import os
import subprocess
import sys
import unicodedata
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
}
ON_REQUEST = True  # where espeak-ng is not installed
TEXT = 96  # bytes of a name; longer ones are cut
PROGRAM = "espeak-ng"


def check(data: Config) -> None:
    """Raise UserError for sounds of no length, or a speed that espeak-ng has not."""
    check_least(data, "length", "rate")
    if not 80 <= data["speed"] <= 450:
        raise UserError(f"data.speed is {data['speed']}; espeak-ng speaks 80 to 450 words a minute")


def outline(data: Config) -> source.Spec:
    """A sound an example, and its name in bytes, zeros after it."""
    return source.sound(data["length"], sound.LEVELS, text=TEXT)


def identity(data: Config) -> dict[str, Any]:
    """Return what decides the sounds: the settings, the program and the Unicode version."""
    return {
        **{key: data[key] for key in ("length", "rate", "names", "voice", "speed")},
        "program": run("--version").decode().split("Data")[0].strip(),
        "unicode": unicodedata.unidata_version,
    }


def words(identity: dict[str, Any]) -> list[str]:
    """The voice."""
    return [identity["voice"]]


def fill(writer: Writer, data: Config) -> None:
    """Write every sound and its name, in the order of the characters."""
    found = chosen(data["names"])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for name, levels in zip(found, threads.map(lambda n: speak(data, n), found), strict=True):
            text = np.frombuffer(name.encode()[:TEXT].ljust(TEXT, b"\0"), np.uint8)
            start = np.array([sound.START], np.uint8)
            split = python_stdlib.side(name)
            writer.append(split, "tokens", np.concatenate([start, levels])[None])
            writer.append(split, "text", text[None])


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
    """Return the levels [length] of a name as it is spoken, then silence."""
    options = ("-v", data["voice"], "-s", str(data["speed"]), "--stdout")
    signal, rate = sound.from_wav(run(*options, name.lower()))
    signal = sound.resample(signal, rate, data["rate"])[: data["length"]]
    return sound.encode(np.pad(signal, (0, data["length"] - len(signal))))


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
