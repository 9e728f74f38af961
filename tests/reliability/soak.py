"""Kill workers of a sweep again and again; what is left must be what an undisturbed one leaves.

    python -m tests.reliability.soak --kills 100 --seed 0

Workers are killed from outside at random, and most would die by themselves soon, while they delete
an old checkpoint or give a new one its name. Some pretend to be on machines of their own,
a new one each life, so that what they held is taken over only when its lease expires.
"""

import argparse
import collections
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests import tiny
from tests.reliability import dying

SIZES, STEPS = (8, 12, 16, 20, 24, 28), (*tiny.STEPS, 60, 100, 150, 225, 300, 400, 500)
TRIALS = [{"size": size, "train.steps": steps} for size in SIZES for steps in STEPS]
WORKERS = 3
MEAN = 0.8  # seconds between two kills from outside


def run(
    spec: str, folder: Path, kills: int, seed: int = 0, mean: float = MEAN
) -> tuple[collections.Counter, collections.Counter]:
    """Run the sweep of `spec` to its end in `folder`, while `kills` of its workers die.

    Args:
        mean: seconds between two kills from outside, exponentially distributed.

    Returns:
        How many died at each moment, and how often each run was said to be finished.
    """
    draw, died, said = random.Random(seed), collections.Counter(), collections.Counter()
    workers: dict[tiny.Started, str] = {}  # and what each would die of

    def start() -> None:
        where = "elsewhere" if draw.random() < 1 / WORKERS else "here"
        moment = draw.choice([*dying.MOMENTS, ""])
        if died.total() + len(workers) >= kills:  # each that lives may still die
            where, moment = "here", ""
        words = (spec, str(folder), where, moment, str(draw.randint(1, 6)))
        workers[tiny.Started(dying.worker, *words)] = moment

    try:
        for _ in range(WORKERS):
            start()
        due = time.monotonic() + draw.expovariate(1 / mean)
        while workers:
            time.sleep(0.02)
            if died.total() < kills and time.monotonic() >= due:
                worker = draw.choice(list(workers))
                worker.process.kill()
                workers[worker] = "killed from outside"
                due = time.monotonic() + draw.expovariate(1 / mean)
            for worker in [each for each in workers if not each.process.is_alive()]:
                moment = workers.pop(worker)
                code, out, err = worker.end()
                said.update(line.split()[0] for line in out if " params " in line)
                if code == -signal.SIGKILL:
                    died[moment] += 1
                    start()
                elif code:
                    raise AssertionError((code, err))
    finally:
        for worker in workers:  # of a soak that failed
            worker.process.kill()
    return died, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mean", type=float, default=MEAN, help="seconds between kills outside")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        spec = tiny.write(base, TRIALS)
        run(spec, base / "tiny", kills=0)
        undisturbed = tiny.left(base / "tiny")
        began = time.monotonic()
        died, said = run(spec, base / "disturbed", args.kills, args.seed, args.mean)
        seconds = time.monotonic() - began
        left = tiny.left(base / "disturbed")
        leases = [len(list((base / "disturbed" / run / ".lease").iterdir())) for run in undisturbed]
    lost = undisturbed.keys() - left.keys()
    changed = [run for run in left if left[run] != undisturbed.get(run)]
    doubled = [run for run, count in said.items() if count > 1]
    print(
        f"{len(undisturbed)} runs ({len(TRIALS)} trials), {WORKERS} workers, {died.total()} kills "
        f"in {seconds:.0f} s (seed {args.seed}), runs taken up {sum(leases)} times: "
        f"{len(lost)} lost, {len(doubled)} doubled, {len(changed)} not bit-identical"
    )
    for each in changed:
        kept = undisturbed.get(each, {})
        differ = [part for part in left[each] if left[each][part] != kept.get(part)]
        print(f"  {each}: {', '.join(differ)} differ")
    print("\n".join(f"{count:5} died: {moment}" for moment, count in died.most_common()))
    return int(bool(lost or changed or doubled or died.total() < args.kills))


if __name__ == "__main__":
    sys.exit(main())
