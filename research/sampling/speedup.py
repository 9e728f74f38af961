"""What speculative decoding gains: by the share of guesses that hold and by the clock.

With a share alpha of guesses that hold, each of them whatever the others do, a look of the large
network at g guesses gives 1 + alpha + ... + alpha^g = (1 - alpha^(g+1)) / (1 - alpha) tokens
(Leviathan et al. 2023, equation 1). When a step of the small network costs c of a look, and a look
at several tokens costs what a look at one does, that is (1 - alpha^(g+1)) / ((1 - alpha)(g c + 1))
times as fast as the large network alone (theorem 3.8), and some g gains only if alpha > c
(corollary 3.9).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.evaluation import intervals
from research.sampling import speculative
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.sampling.generate import PLAIN, generate


class Look(NamedTuple):
    """What guessing `guesses` at once did.

    Attributes:
        tokens: drawn a look of the large network.
        speed: tokens a second, the reading of prompts included.
        speedup: the seconds of the large network alone over those of both, the median of prompts.
    """

    guesses: int
    tokens: float
    speed: float
    speedup: float


class Gain(NamedTuple):
    """What a small network's guesses are worth to a large one.

    Attributes:
        alpha: the share of the guesses judged that held, with its 95% interval over prompts.
        judged: guesses that were judged.
        cost: seconds of the small network alone over those of the large one, the median of prompts.
        speed: of the large network alone, tokens a second.
        looks: one for each number of guesses.
    """

    alpha: intervals.Estimate
    judged: int
    cost: float
    speed: float
    looks: tuple[Look, ...]


def tokens_a_look(alpha: float, guesses: int) -> float:
    """Tokens that a look of the large network is expected to give (equation 1)."""
    return float((alpha ** np.arange(guesses + 1)).sum())


def improvement(alpha: float, guesses: int, cost: float) -> float:
    """How many times as fast as the large network alone (theorem 3.8)."""
    return tokens_a_look(alpha, guesses) / (guesses * cost + 1)


def measure(
    large: Engine,
    small: Engine,
    prompts: Sequence[Sequence[int]],
    count: int,
    guesses: Sequence[int],
    drawing: Drawing = PLAIN,
    *,
    seed: int = 0,
) -> Gain:
    """Continue each prompt by `count` tokens in every way, in turn, so that they share the hour.

    Raises:
        UserError: as `speculate` does, before anything is compiled.
    """
    speculative.check(large, small, min(guesses))
    alone, guessed, seconds = [], [], []
    for number, prompt in enumerate([prompts[0], *prompts]):  # the first time compiles
        own = seed + number
        alone = [
            _timed(generate, engine, [prompt], count, drawing, seed=own)[1]
            for engine in (large, small)
        ]
        both = [
            _timed(
                speculative.speculate, large, small, prompt, count, drawing, guesses=each, seed=own
            )
            for each in guesses
        ]
        guessed.append([found for found, _ in both])
        seconds.append([*alone, *(taken for _, taken in both)])
    seconds_PxW = np.array(seconds[1:])
    return _gain(guessed[1:], seconds_PxW, count, guesses)


def _timed(act: Callable, *words: Any, **keys: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return act(*words, **keys), time.perf_counter() - began


def _gain(
    guessed: list[list[speculative.Speculated]],
    seconds_PxW: NDArray[np.floating],
    count: int,
    guesses: Sequence[int],
) -> Gain:
    """Sum up prompts, whose seconds are of the large, the small network, and of each `guesses`."""
    held_PxG, judged_PxG, passes_PxG = (
        np.array([[getattr(each, name) for each in row] for row in guessed])
        for name in ("held", "judged", "passes")
    )
    # Guesses after one prompt are alike, so that prompts are what is drawn again.
    counts_Px2 = np.stack([held_PxG.sum(1), judged_PxG.sum(1)], 1)
    alpha = intervals.bootstrap(counts_Px2, lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1))
    large_Px1 = seconds_PxW[:, :1]
    ratio_W = np.median(large_Px1 / seconds_PxW, 0)
    speed_W = count / np.median(seconds_PxW, 0)
    tokens_G = 1 + held_PxG.sum(0) / passes_PxG.sum(0)
    looks = zip(guesses, tokens_G.tolist(), speed_W[2:].tolist(), ratio_W[2:].tolist(), strict=True)
    return Gain(
        alpha,
        int(judged_PxG.sum()),
        float(np.median(seconds_PxW[:, 1:2] / large_Px1)),
        float(speed_W[0]),
        tuple(Look(*each) for each in looks),
    )
