"""From which batch size on do more examples a step hardly save steps?

Question: how many steps does a decoder 32 wide need to one loss on Python source, at batches of 16
to 256 windows of 32 bytes and a constant rate, and is it S_min (1 + B_crit / B) (McCandlish et al.
2018, eq. 2.11)? Beside it each run measures its gradient-noise scale. Two rates are tried, times
the square root of the batch; runs are scored with an average of their weights, as those of Zhang
et al. (2024).
Cost: 1.8e12 FLOPs in 10 trials, about five minutes on two cores.
Expected (not yet run): a critical batch that grows as the loss falls and depends little on the size
(Zhang et al. 2024), near the noise scale at that loss.

    python -m research sweep --config experiments/critical_batch.py --workdir runs
    python -m experiments.critical_batch runs/critical_batch 3.5
"""

import itertools
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments import quickstart
from research import config as configs
from research.errors import UserError
from research.run.rows import read_rows

PARTS = {"text": quickstart.PARTS["text"]}
BATCHES = (16, 32, 64, 128, 256)
RATES = (0.01, 0.02)  # at a batch of 32
SCORES = 25  # along each run


def get_config(part: str) -> ConfigDict:
    """The quickstart's config at one size and without a cooldown."""
    config = quickstart.get_config(part)
    config.size, config.budget, config.sampling.num = 32, None, 0
    config.train.update(schedule="constant", decay_steps=0, ema_decay=0.95, noise_scale=2)
    config.data.length, config.evaluation.examples = 32, 1024
    return config


def get_trials(part: str) -> list[dict]:
    """Every batch at both rates, for as many steps as a critical batch of 64 asks for."""
    del part
    found = []
    for batch, rate in itertools.product(BATCHES, RATES):
        steps = round(150 * (1 + 64 / batch))
        found.append({
            "train.batch_size": batch,
            "train.learning_rate": float(f"{rate * math.sqrt(batch / 32):.2g}"),
            "train.steps": steps,
            "evaluation.every_steps": steps // SCORES,
            "log_steps": steps // SCORES,
        })  # fmt: skip
    return found


def steps_to(rows: Iterable[Mapping[str, float]], loss: float) -> float:
    """Steps to a score of `loss`, between two of them linear in its log; infinity without any."""
    before = None
    for row in (row for row in rows if "score" in row):
        if row["score"] <= loss:
            if before is None:
                return row["step"]
            falls = [math.log(before["score"] / x) for x in (loss, row["score"])]
            return before["step"] + (row["step"] - before["step"]) * falls[0] / falls[1]
        before = row
    return math.inf


def least_steps(steps: Mapping[int, float]) -> tuple[float, float]:
    """S_min and B_crit of S = S_min (1 + B_crit / B), at least relative squares.

    Args:
        steps: S by batch size B; three at least must be finite.
    """
    pairs = [(1 / batch, found) for batch, found in steps.items() if math.isfinite(found)]
    if len(pairs) < 3:
        raise UserError(
            f"only {len(pairs)} batch sizes reach that loss, three are needed: raise it"
        )
    inverse, found = np.array(pairs).T
    slope, least = np.polyfit(inverse, found, 1, w=1 / found)
    return float(least), float(slope / least)


def main(folder: str, loss: str) -> None:
    """Print the best steps of each batch, the two constants, and the noise scale of the runs."""
    steps: dict[int, float] = dict.fromkeys(BATCHES, math.inf)
    noise = square = 0.0
    for path in sorted(Path(folder).glob("*/metrics.jsonl")):
        rows, batch = read_rows(path), configs.read(path.parent)["train"]["batch_size"]
        needed = steps_to(rows, float(loss))
        steps[batch] = min(steps[batch], needed)
        near = [row for row in rows if needed / 2 <= row["step"] <= needed]
        noise += sum(row["gradient_noise"] for row in near)
        square += sum(row["gradient_square"] for row in near)
    for batch, needed in steps.items():
        print(f"batch {batch:3d}: {needed:8.1f} steps, {batch * needed:10.0f} examples")
    least, critical = least_steps(steps)
    print(f"S_min {least:.1f}, B_crit {critical:.1f}, noise scale {noise / square:.1f} examples")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
