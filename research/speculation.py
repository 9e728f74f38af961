"""`python -m research speculation`: what smaller runs of a sweep gain larger ones as guessers."""

import argparse
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from research import cost, data, families, numbers, run_tokenizer, trained
from research.errors import UserError, nearest
from research.run import files, storage
from research.sampling import drawing as drawings
from research.sampling import options, speedup
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.terminal import live

EXAMPLE = """examples:
  python -m research speculation runs/emergence --out speculation.csv
  python -m research speculation runs/emergence --guesses 1,2,3 --temperature 0.5 --json
  python -m research power speculation.csv --loss "1 - alpha" --over small_params \\
      --over large_params --where "guesses == 1"

Of each size the run with the most FLOPs, and each of them with every smaller one. alpha is the
share of guesses that hold, after prompts of the validation split; c is what a step of the small
network costs of one of the large, by FLOPs and by the clock; the expected speed-up is (1 -
alpha^(g+1)) / ((1 - alpha)(g c + 1)) at g guesses (Leviathan et al. 2023, theorem 3.8), beside
what was measured, one prompt at a time, against the large network alone. --out has every g.
"""


class Guesser(NamedTuple):
    """A run of the sweep, ready to draw one row.

    Attributes:
        flops: of a position, forward.
    """

    id: str
    params: int
    loss: float
    flops: float
    engine: Engine


class Pair(NamedTuple):
    """Two runs of a part, and what the small one's guesses are worth to the large one."""

    part: str
    large: Guesser
    small: Guesser
    gain: speedup.Gain

    @property
    def cost(self) -> float:
        """FLOPs of a position of the small network over those of the large one."""
        return self.small.flops / self.large.flops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add = parser.add_argument
    add("folder", help="the folder of a sweep that has run, runs/NAME")
    add("--part", default="", help="one of its parts (default: all that draw tokens in order)")
    add("--prompts", type=int, default=16, help="of the validation split (default: 16)")
    add("--tokens", type=int, default=64, help="drawn after each (default: 64)")
    add("--guesses", default="1,2,4,8", metavar="G,...", help="tried in turn (default: 1,2,4,8)")
    add("--seed", type=int, default=0)
    options.add_cuts(parser)
    add_answer_options(parser, "write a row for each pair and number of guesses, a .csv")


def run(args: argparse.Namespace) -> int:
    """Measure every pair, print them, and write what was asked for.

    Raises:
        UserError: a folder, a number or networks that cannot be used.
    """
    drawing = Drawing(args.temperature, args.top_k, args.top_p, args.min_p)
    drawings.check(drawing)
    guesses = _guesses(args.guesses)
    for name, least in (("prompts", 2), ("tokens", 1)):  # one prompt has no interval
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)} must be at least {least}")
    if args.out and Path(args.out).suffix != ".csv":
        raise UserError(f"--out {args.out}: expected a name ending in .csv")
    folder, pairs = storage.path(args.folder), []
    for part, trials in _chosen(folder, args.part).items():
        prompts, length = _prompts(folder, trials, args.prompts, args.tokens, max(guesses))
        runs = [_open(folder, trial, length) for trial in trials]
        couples = list(itertools.combinations(runs[::-1], 2))
        for number, (large, small) in enumerate(couples, start=1):
            sizes = f"{numbers.count(large.params)} by {numbers.count(small.params)}"
            live(f"{part}, pair {number} of {len(couples)}: {sizes} parameters")
            each = large.engine, small.engine, prompts, args.tokens, guesses, drawing
            pairs.append(Pair(part, large, small, speedup.measure(*each, seed=args.seed)))
        live("")
    rows = [row for pair in pairs for row in _rows(pair)]
    text = pd.DataFrame(rows).to_csv(index=False, float_format="%.5g") if args.out else None
    answer(args, {"pairs": rows}, _lines(pairs, guesses), text)
    return 0


def _guesses(said: str) -> tuple[int, ...]:
    """The numbers of --guesses, each once, in order."""
    words = [word.strip() for word in said.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise UserError(f"--guesses {said}: expected whole numbers from 1 up, such as 1,2,4")
    return tuple(sorted({int(word) for word in words}))


def _chosen(folder: Path, part: str) -> dict[str, list[files.Trial]]:
    """Of each part and size the trial with the most FLOPs and the first seed, smallest first."""
    files.read_description(folder)
    found: dict[str, dict[int, files.Trial]] = {}
    trials = [trial for trial in files.read_runs(folder).trials if trial["status"] == "finished"]
    for trial in sorted(trials, key=lambda trial: (trial["flops"], -trial["seed"])):
        if hasattr(families.load(trial["family"]), "drawn_from"):
            found.setdefault(trial["part"], {})[files.counted(trial)[1]] = trial
    if part and part not in found:
        raise UserError(
            f"--part {part}: no part of {folder} with that name draws tokens in order"
            f"{nearest(part, found)}"
        )
    several = {
        name: [sizes[params] for params in sorted(sizes)]
        for name, sizes in found.items()
        if len(sizes) > 1 and name == (part or name)
    }
    if not several:
        raise UserError(
            f"{folder} has no two finished runs of different sizes in one part that draw tokens "
            "in order; run the sweep first"
        )
    return several


def _prompts(
    folder: Path, trials: list[files.Trial], most: int, count: int, guesses: int
) -> tuple[list[list[int]], int]:
    """Beginnings of validation examples that leave room for `count` tokens, and positions in all.

    Raises:
        UserError: for runs whose tokens differ, or that leave no room for a prompt.
    """
    configs = [trained.settings(folder / trial["id"]) for trial in trials]
    last, large = trials[-1]["id"], configs[-1]
    own = [run_tokenizer.load(folder / trial["id"]) for trial in trials]
    for trial, tokenizer in zip(trials, own, strict=True):
        if (tokenizer and tokenizer.sha256) != (own[-1] and own[-1].sha256):
            raise UserError(f"{folder / trial['id']} has another tokenizer than {last}")
    if "vocab_size" not in data.outline(large.data):
        raise UserError(f"{folder / last} has no tokens to go on from: its data are images")
    length = min(config.data.length for config in configs)
    if (room := length - count - guesses) < 1:
        raise UserError(
            f"--tokens {count} and {guesses} guesses leave no room for a prompt in the {length} "
            f"positions of the runs; at most {length - guesses - 1}"
        )
    source = data.load(large.data, "validation")
    (batch,) = data.eval_batches(source, min(most, len(source)), most)
    return np.asarray(batch["tokens"])[:, :room].tolist(), length


def _open(folder: Path, trial: files.Trial, length: int) -> Guesser:
    """Load a run to draw rows of `length` positions."""
    config, params = trained.load(folder / trial["id"])
    network = families.load(config.family).drawn_from(config, params)
    ledger = cost.ledger(config)
    about = trial["id"], files.counted(trial)[1], files.loss(trial), ledger.flops / ledger.tokens
    return Guesser(*about, Engine(network, 1, length))


def _rows(pair: Pair) -> list[dict[str, Any]]:
    """What --json and --out say of a pair, for each number of guesses."""
    alpha = pair.gain.alpha
    same: dict[str, Any] = {"part": pair.part}
    for name in ("large", "small"):
        run: Guesser = getattr(pair, name)
        same |= {name: run.id, f"{name}_params": run.params, f"{name}_loss": run.loss}
    same |= {"alpha": alpha.value, "alpha_low": alpha.interval[0], "alpha_high": alpha.interval[1]}
    same |= {"judged": pair.gain.judged, "c_flops": pair.cost, "c_seconds": pair.gain.cost}
    return [
        {
            **same,
            "guesses": look.guesses,
            "tokens_a_look": look.tokens,
            "expected_tokens": speedup.tokens_a_look(alpha.value, look.guesses),
            "expected_by_flops": speedup.improvement(alpha.value, look.guesses, pair.cost),
            "expected_by_seconds": speedup.improvement(alpha.value, look.guesses, pair.gain.cost),
            "measured": look.speedup,
            "tokens_a_second": look.speed,
            "alone_a_second": pair.gain.speed,
        }
        for look in pair.gain.looks
    ]


def _lines(pairs: list[Pair], guesses: tuple[int, ...]) -> list[str]:
    """One line a pair, with each speed-up at the number of guesses that is best for it."""
    head = ["large", "small", "alpha", "95%", *(f"g={each}" for each in guesses)]
    head += ["c flops", "best g", "expected", "c seconds", "best g", "expected", "best g"]
    head += ["measured", "alone/s"]
    shown = []
    for pair in pairs:
        rows, (low, high) = _rows(pair), pair.gain.alpha.interval
        cells = [numbers.count(pair.large.params), numbers.count(pair.small.params)]
        cells += [f"{pair.gain.alpha.value:.3f}", f"[{low:.3f}, {high:.3f}]"]
        cells += [f"{look.tokens:.2f}" for look in pair.gain.looks]
        for of, name in (
            (f"{pair.cost:.3f}", "expected_by_flops"),
            (f"{pair.gain.cost:.2f}", "expected_by_seconds"),
            (None, "measured"),
        ):
            best = max(rows, key=lambda row, name=name: row[name])
            cells += [of] * (of is not None) + [str(best["guesses"]), f"{best[name]:.2f}x"]
        shown.append([*cells, numbers.count(pair.gain.speed)])
    said = "parameters; tokens a look of the large network at g guesses; c of a step of the small"
    return [said, *aligned(head, shown)]
