"""Sound as tokens, the 256 levels of mu-law (ITU-T G.711), and as WAV files."""

import io
import wave

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
MU = LEVELS - 1
START = 0  # the token in front of a sound, which is only read; text before it is above LEVELS
PAUSE = 0.25  # seconds between sounds of one file


def encode(signal: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Levels of a signal from -1 to 1; what is outside is cut (van den Oord 2016c, section 2.2).

    Levels lie evenly on sign(x) log(1 + mu |x|) / log(1 + mu); silence is the one at 128.
    """
    signal = np.clip(signal, -1, 1)
    companded = np.sign(signal) * np.log1p(MU * np.abs(signal)) / np.log1p(MU)
    # Rounded first: what two machines tell apart in the last digit is one level on both.
    return np.floor(np.round((companded + 1) / 2 * MU, 6) + 0.5).astype(np.uint8)


def decode(levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The signal in the middle of each level, from -1 to 1."""
    companded = 2 * levels.astype(np.float64) / MU - 1
    return np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU


def to_wav(tokens: NDArray[np.integer], rate: int) -> bytes:
    """One WAV file, 16-bit, of sounds [num, length], with pauses between them.

    What is before a sound, its START and perhaps a text, is left out.

    Args:
        rate: samples a second.
    """
    pause = np.zeros(round(PAUSE * rate))
    sounds = [row[row < LEVELS][1:] for row in tokens]
    parts = [part for levels in sounds for part in (pause, decode(levels))][1:]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.concatenate(parts) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def from_wav(content: bytes) -> tuple[NDArray[np.float64], int]:
    """The signal, -1 to 1, of a 16-bit WAV file of one channel, and its rate.

    A stream's header may promise more than there is.
    """
    with wave.open(io.BytesIO(content)) as file:
        frames = file.readframes(len(content))
        return np.frombuffer(frames[: len(frames) // 2 * 2], "<i2") / 32768, file.getframerate()


def resample(signal: NDArray[np.float64], rate: int, new: int) -> NDArray[np.float64]:
    """The signal at `new` samples a second, without what lies above half of them."""
    from scipy.signal import resample_poly

    common = np.gcd(rate, new)
    return resample_poly(signal, new // common, rate // common)
