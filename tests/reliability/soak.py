"""Kill workers of a sweep at random moments; what is left must be what an undisturbed one leaves.

    python -m tests.reliability.soak --kills 100 --seed 0

Some workers pretend to be on machines of their own, a new one each life, so that what they held
is taken over only when its lease expires; the others' is free as soon as they are gone.
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

TRIALS = [
    {"size": size, "train.steps": steps} for size in (8, 12, 16, 20, 24) for steps in tiny.STEPS
]
TRIALS += [{"size": size, "train.steps": 60} for size in (8, 12, 16, 20, 24)]
WORKERS = 3
EXPIRY_SECONDS = 3.0

# For the end of the experiment file, which every worker reads.
ELSEWHERE = f"""
import os, uuid

from research.run import lease

lease.EXPIRY_SECONDS = {EXPIRY_SECONDS}
if os.getpid() % {WORKERS} == 0:
    machine = str(uuid.uuid4())
    lease._space = lambda: machine
"""


def run(spec: str, folder: Path, kills: int, mean: float, seed: int) -> dict[str, int]:
    """Run the sweep of `spec` to its end in `folder`, killing a worker at random `kills` times.

    Args:
        mean: seconds between two kills, exponentially distributed.

    Returns:
        The kills, and how often each run was said to be finished.
    """
    draw, killed, said = random.Random(seed), 0, collections.Counter()
    workers = [tiny.Started(tiny.one_worker, spec, str(folder)) for _ in range(WORKERS)]
    due = time.monotonic() + draw.expovariate(1 / mean)
    while workers:
        time.sleep(0.02)
        if killed < kills and time.monotonic() >= due:
            draw.choice(workers).process.kill()
            killed += 1
            due = time.monotonic() + draw.expovariate(1 / mean)
        for worker in [each for each in workers if not each.process.is_alive()]:
            workers.remove(worker)
            code, out, err = worker.end()
            said.update(line.split()[0] for line in out if " params " in line)
            if code == -signal.SIGKILL:
                workers.append(tiny.Started(tiny.one_worker, spec, str(folder)))
            elif code:
                raise AssertionError((code, err))
    return {"kills": killed, **said}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mean", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        spec = tiny.write(base, TRIALS)
        run(spec, base / "tiny", kills=0, mean=1.0, seed=0)
        undisturbed = tiny.left(base / "tiny")
        began = time.monotonic()
        spec = tiny.write(base, TRIALS, poison=ELSEWHERE)
        counts = run(spec, base / "disturbed", args.kills, args.mean, args.seed)
        seconds, kills = time.monotonic() - began, counts.pop("kills")
        left = tiny.left(base / "disturbed")
        leases = [len(list((base / "disturbed" / run / ".lease").iterdir())) for run in undisturbed]
    lost = undisturbed.keys() - left.keys()
    changed = [run for run in left if left[run] != undisturbed[run]]
    doubled = [run for run, count in counts.items() if count > 1]
    print(
        f"{len(undisturbed)} runs ({len(TRIALS)} trials), {WORKERS} workers, {kills} kills in "
        f"{seconds:.0f} s (seed {args.seed}), runs taken up {sum(leases)} times: {len(lost)} lost, "
        f"{len(doubled)} doubled, {len(changed)} not bit-identical"
    )
    return int(bool(lost or changed or doubled or kills < args.kills))


if __name__ == "__main__":
    sys.exit(main())
