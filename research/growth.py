"""A trunk that has ended goes on when its study grows, and gives the states it did not keep."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from research import data, optim, processes, programs
from research.errors import Interrupted, UserError
from research.run import checkpoint, lease, record, storage
from research.run.rows import FILE, Rows, read_rows, tally
from research.run.stop import Stop


def over(folder: Path, steps: int = 0) -> bool:
    """Whether the run in `folder` has ended and went through `steps`, or diverged before.

    Raises:
        UserError: when its result.json is not one.
    """
    path = folder / "result.json"
    if not path.exists():
        return False
    if not steps:
        return True
    result = record.read_json(path)
    if not (isinstance(result, dict) and isinstance(result.get("steps"), int)):
        raise UserError(f"{path} is not the result of a run; delete it, and the run ends again")
    return result["steps"] >= steps or result.get("status") == "diverged"


def lacking(folder: Path, steps: Sequence[int]) -> list[int]:
    """Those of `steps`, but 0, of which the finished trunk in `folder` has no checkpoint."""
    kept = storage.names(folder / "checkpoints")
    missing = sorted({step for step in steps if step and str(step) not in kept})
    diverged = missing and record.read_json(folder / "result.json").get("status") == "diverged"
    return [] if diverged else missing


def reopen(folder: Path, steps: int, held: lease.Hold) -> None:
    """Let the trunk in `folder`, held as `held`, go on to `steps` as if it never had ended.

    A run's last row is written at its end, whatever `log_steps`; a longer one has none there. The
    result goes last: a process that is killed here leaves what the next one opens again.
    """
    path = folder / "config.json"
    if not path.exists():
        return
    before = record.read_json(path)
    end, rows = before["train"]["steps"], read_rows(folder / FILE)
    if end < steps and end % before["log_steps"] and rows and rows[-1]["step"] == end:
        Rows(folder / FILE, end - 1, lease=held.number)
    held.check()
    (folder / "result.json").unlink(missing_ok=True)


def replay(config: ConfigDict, folder: Path, steps: Sequence[int]) -> None:
    """Train the finished trunk in `folder` again to those of `steps` that it did not keep.

    Each begins with the checkpoint before it. The states are bit for bit those it went through;
    nothing but the checkpoints changes.

    Raises:
        lease.Held: when another process works in the folder.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    absent = lacking(folder, steps)
    if not processes.from_first(len(absent)):
        return
    settings, seed = config.train, jax.random.key(config.seed)
    kept = [int(name) for name in storage.names(folder / "checkpoints") if name.isdigit()]
    everything = tuple(range(max([*kept, *steps]) + 1))
    home, keep, rows = folder / "checkpoints", config.checkpoint.keep, folder / FILE
    with (
        lease.holding(folder) as held,
        Stop() as stop,
        checkpoint.writer(home, everything, keep, held) as checkpoints,
    ):
        source, program = data.load(config.data, "train"), programs.build(config)
        own, largest = processes.rows(program.batch, settings.batch_size), processes.Largest()
        for end in steps:
            if not processes.from_first(end in absent):
                continue
            found = checkpoint.restore_newest(checkpoints, program.state, last=end)
            start, state, meta = found or (0, program.init(seed), {"status": "finished"})
            batches = data.batches(
                source, settings.batch_size, config.seed, start_step=start, rows=own
            )
            for done in range(start + 1, end + 1):
                batch = next(batches)
                batch = processes.place(program.batch, batch, settings.batch_size, own[0])
                rate = np.float32(optim.learning_rate(settings, done - 1))
                state, _ = program.step(state, batch, seed, np.int32(done - 1), rate)
                asked = largest(stop.asked or 0)
                if done == end or asked:
                    held.check()
                    extra = meta | {"rows": tally(read_rows(rows), config.log_steps, done)}
                    checkpoint.save(checkpoints, done, state, extra, held)
                if asked:
                    checkpoint.wait(checkpoints, held)
                    raise Interrupted(f"{folder}: stopped at step {done} of {end}, saved", asked)
