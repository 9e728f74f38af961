"""Trials on this machine: workers, each pinned to its cores, that share the trials of a study.

A worker goes through the groups, a trunk and its branches each, the costliest first, and trains
what nobody holds: whoever trains a run has a lease on its folder. So a killed worker's run is
simply taken up again, and two sweeps on one folder share the work, on one machine or on several.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch import processes
from research import runtime, study, trunks
from research.errors import Interrupted, UserError
from research.processes import from_first
from research.run import files, lease, storage, watch
from research.trunks import finished

POLL_SECONDS = 0.5


def sweep(
    loaded: study.Study,
    spec: str,
    flags: Sequence[str],
    folder: Path,
    workers: int,
    count: int = 1,
    devices: int | None = None,
) -> int:
    """Run what is not finished of `loaded` in `folder`; return 0 when all of it is.

    Args:
        workers: how many runs are trained at a time.
        count: processes that train one run together.
        devices: CPU devices a process makes; None leaves that to JAX.

    Raises:
        UserError: when the folder holds other configs or cannot be written.
        Interrupted: after one of `stop.SIGNALS`, once every worker has saved its state, or when
            workers were killed and none was left for their trials.
    """
    study.check_folder(loaded, folder)
    study.say_former(loaded, folder)
    study.write_description(loaded, folder)
    waiting = [trial for trial in loaded.trials if not finished(folder, trial)]
    print(f"{loaded.name}: {len(loaded.trials)} trials, {len(waiting)} to run", flush=True)
    if all(_done(folder, group) for group in loaded.groups):
        return 0
    _prepare_data(loaded)
    every = processes.cores()
    own = [every[index % len(every) :][:1] if every else [] for index in range(workers * count)]
    cores = [own[index : index + count] for index in range(0, len(own), count)]
    command = ["launch.run", "--config", spec, "--workdir", str(folder.parent), *flags]
    with watch.screen(folder) as output:
        teams, ends, heard = processes.attend(command, cores, devices, output)
    if heard:
        raise Interrupted(f"{folder}: stopped, every run saved", heard[-1])
    left = [trial.id for trial in loaded.trials if not finished(folder, trial)]
    if not left:
        return 0
    for first, *_ in teams:
        if message := first.line.recv(65536).decode():
            raise UserError(message)
    line = f"{folder}: {len(left)} trials did not finish, {left[0]} first"
    if signals := [signal.Signals(-code).name for _, code in ends if code < 0]:
        raise Interrupted(f"{line}: a worker was ended by {signals[0]}", signal.SIGTERM)
    print(line, file=sys.stderr)
    return 1


def _done(folder: Path, group: study.Group) -> bool:
    return not _left(folder, group) and not from_first(bool(_unsampled(folder, group)))


def _left(folder: Path, group: study.Group) -> study.Group:
    """What is to run of `group`, the same in every process of a run."""
    return trunks.left(group, {t.id for t in group if from_first(finished(folder, t))})


def _unsampled(folder: Path, group: study.Group) -> study.Trial | None:
    """The longest run of a finished group, when its samples are wanted and not there yet."""
    longest = max((t for t in group if not t.branches), key=lambda t: t.config.train.steps)
    home = folder / longest.id
    if longest.config.sampling.num < 1 or any(
        name.startswith("samples.") for name in storage.names(home)
    ):
        return None
    return longest if files.read_result(home).get("status") == "finished" else None


def _prepare_data(loaded: study.Study) -> None:
    """Prepare each data set once, before the workers ask for it together."""
    from research import data

    for config in {str(t.config.data): t.config.data for t in loaded.trials}.values():
        data.load(config, "train")


def work(loaded: study.Study, folder: Path) -> None:
    """Train what nobody else does until every trial is finished, the costliest groups first."""
    runtime.prepare(folder.parent)
    finish(loaded.name, sorted(loaded.groups, key=_cost, reverse=True), folder)


def finish(name: str, groups: Sequence[study.Group], folder: Path) -> None:
    """Return when `groups` are finished, by this worker or, where others hold runs, by them.

    The processes of one run go through this together; the first one says what is next.
    """
    while True:
        for group in groups:
            if not _done(folder, group):
                run_group(name, group, folder)
        if all([_done(folder, group) for group in groups]):
            return
        time.sleep(POLL_SECONDS)  # another worker has the rest: wait for it, or inherit it


def run_group(name: str, group: study.Group, folder: Path) -> None:
    """Train a trunk and its branches, or one lone trial, then sample the longest of them.

    What another worker holds is left to it.
    """
    from research import growth, sample
    from research.beginning import Branch
    from research.train import train

    left = _left(folder, group)
    for trial in left:
        trunk, step = folder / trial.trunk if trial.trunk else None, trial.branch_step
        if trunk and not from_first(growth.over(trunk, step) and not growth.lacking(trunk, [step])):
            return
        with _left_to_others():
            train(
                trial.config,
                folder / trial.id,
                branch=Branch(trunk, step) if trunk else None,
                branches=trial.branches,
                labels=study.labels(trial.config, trial.id, name),
            )
            if trial.branches:
                steps = [each.branch_step for each in left if each.trunk]
                growth.replay(trial.config, folder / trial.id, steps)
    if _left(folder, group):
        return
    if trial := _unsampled(folder, group):
        home = folder / trial.id
        with _left_to_others(), lease.holding(home):
            sample.write(home, trial.config.sampling.num)


@contextlib.contextmanager
def _left_to_others() -> Iterator[None]:
    """Go on where another worker holds a run.

    Of several processes that train one run only the first knows that it lost it: they start again.
    """
    import jax

    try:
        yield
    except lease.Held as error:
        if isinstance(error, lease.Lost) and jax.process_count() > 1:
            raise


def _cost(group: study.Group) -> float:
    from research import cost

    return sum(cost.ledger(t.config).step_flops * t.steps_to_run for t in group)
