"""Trials on this machine: workers, each pinned to its cores, that share the trials of a study.

A worker goes through the groups, a trunk and its branches each, the costliest first, and trains
what nobody holds: whoever trains a run has a lease on its folder. So a killed worker's run is
simply taken up again, and two sweeps on one folder share the work, on one machine or on several.
"""

import contextlib
import itertools
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from launch import processes
from research import counts, rivals, runtime, study, trunks
from research.config import load_experiment
from research.errors import Interrupted, UserError
from research.processes import from_first
from research.run import files, lease, storage, watch
from research.trunks import finished

POLL_SECONDS = 0.5
Rivals = Mapping[str, tuple[rivals.Rival, ...]]  # of each run, by its id
NO_RIVALS: Rivals = {}


def sweep(
    loaded: study.Study,
    spec: str,
    flags: Sequence[str],
    folder: Path,
    workers: int,
    count: int = 1,
    devices: int | None = None,
    batch: int = 1,
    stop_hopeless: bool = False,
) -> int:
    """Run what is not finished of `loaded` in `folder`; return 0 when all of it is.

    Args:
        workers: how many runs are trained at a time.
        count: processes that train one run together.
        devices: CPU devices a process makes; None leaves that to JAX.
        batch: runs of one shape that a worker trains as one program, at most.
        stop_hopeless: whether a run that is far behind another of its cell stops (`rivals`).

    Raises:
        UserError: when the folder holds other configs or cannot be written.
        Interrupted: after one of `stop.SIGNALS`, once every worker has saved its state, or when
            workers were killed and none was left for their trials.
    """
    study.check_folder(loaded, folder)
    study.say_former(loaded, folder)
    study.write_description(loaded, folder)
    counts.write(folder.parent)
    waiting = [trial for trial in loaded.trials if not finished(folder, trial)]
    print(f"{loaded.name}: {len(loaded.trials)} trials, {len(waiting)} to run", flush=True)
    if all(_done(folder, group) for group in loaded.groups):
        return 0
    _prepare_data(loaded)
    every = processes.cores()
    own = [every[index % len(every) :][:1] if every else [] for index in range(workers * count)]
    cores = [own[index : index + count] for index in range(0, len(own), count)]
    command = ["launch.run", "--config", spec, "--workdir", str(folder.parent), *flags]
    command += ["--batch", str(batch), *["--stop_hopeless"] * stop_hopeless]
    with contextlib.ExitStack() as inside:
        if count == 1 and not devices:  # else a worker has other devices, for which it checks
            command += ["--loaded", inside.enter_context(_handed_over(loaded))]
        output = inside.enter_context(watch.screen(folder))
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


@contextlib.contextmanager
def _handed_over(loaded: study.Study) -> Iterator[str]:
    """The path of a file, there while inside, from which a worker has `loaded` (`taken_over`)."""
    with tempfile.NamedTemporaryFile(prefix="isoflop-") as file:  # nobody else may read or write it
        pickle.dump((loaded, counts.COUNTED), file)
        file.flush()
        yield file.name


def taken_over(path: str, spec: str) -> study.Study:
    """The study that the sweep loaded, whose FLOPs are counted: a worker need trace no step for it.

    The experiment's file is imported all the same, as it may register what its trials name.
    """
    load_experiment(spec)
    with open(path, "rb") as file:
        loaded, counted = pickle.load(file)
    counts.COUNTED.update(counted)
    return loaded


def work(loaded: study.Study, folder: Path, batch: int = 1, stop_hopeless: bool = False) -> None:
    """Train what nobody else does until every trial is finished, the costliest groups first."""
    runtime.prepare(folder.parent)
    groups = sorted(loaded.groups, key=_cost, reverse=True)
    beside = rivals.of(loaded.trials, folder) if stop_hopeless else {}
    finish(loaded.name, groups, folder, batch, beside)


def finish(
    name: str,
    groups: Sequence[study.Group],
    folder: Path,
    batch: int = 1,
    beside: Rivals = NO_RIVALS,
) -> None:
    """Return when `groups` are finished, by this worker or, where others hold runs, by them.

    The processes of one run go through this together; the first one says what is next.
    """
    bundles = _abreast(groups, batch)
    while True:
        for bundle in bundles:
            if not all([_done(folder, group) for group in bundle]):
                run_groups(name, bundle, folder, beside)
        if all([_done(folder, group) for group in groups]):
            return
        time.sleep(POLL_SECONDS)  # another worker has the rest: wait for it, or inherit it


def _abreast(groups: Sequence[study.Group], most: int) -> list[tuple[study.Group, ...]]:
    """Bundles of at most `most` groups whose runs have, one by one, the same programs."""
    from research import programs

    found: dict[object, list[study.Group]] = {}
    for number, group in enumerate(groups):
        alone = most == 1 or any(trial.config.hardware.offload_optimizer for trial in group)
        key = number if alone else tuple(programs.shape(trial.config) for trial in group)
        found.setdefault(key, []).append(group)
    starts = ((same, start) for same in found.values() for start in range(0, len(same), most))
    return [tuple(same[start : start + most]) for same, start in starts]


def run_groups(
    name: str, groups: Sequence[study.Group], folder: Path, beside: Rivals = NO_RIVALS
) -> None:
    """Train each trunk and its branches, or lone trial, then sample the longest of each group.

    Several groups are trained side by side, run by run (`together`). What another worker holds is
    left to it.

    Args:
        beside: by the id of a run, those beside which it stops when it is hopeless.
    """
    from research import growth, sample

    lefts = [_left(folder, group) for group in groups]
    for row in itertools.zip_longest(*lefts):
        trials = [trial for trial in row if trial and _may_begin(folder, trial)]
        _train(name, trials, folder, beside)
        for trial, left in zip(row, lefts, strict=True):
            end = trial.config.train.steps if trial and trial.branches else 0
            if trial and end and from_first(growth.over(folder / trial.id, end)):
                steps = [each.branch_step for each in left if each.trunk]
                with _left_to_others():
                    growth.replay(trial.config, folder / trial.id, steps)
    for group in groups:
        if not _left(folder, group) and (trial := _unsampled(folder, group)):
            home = folder / trial.id
            with _left_to_others(), lease.holding(home):
                sample.write(home, trial.config.sampling.num)


def _may_begin(folder: Path, trial: study.Trial) -> bool:
    """Whether the trunk of a trial, if it has one, went through the step where the trial leaves."""
    from research import growth

    if not trial.trunk:
        return True
    trunk, step = folder / trial.trunk, trial.branch_step
    return bool(from_first(growth.over(trunk, step) and not growth.lacking(trunk, [step])))


def _train(name: str, trials: Sequence[study.Trial], folder: Path, beside: Rivals) -> None:
    """Train `trials`, which are ready to begin: one by itself, several of them as one program."""
    from research import together
    from research.beginning import Branch
    from research.run.stop import Stop
    from research.train import course

    def begun(trial: study.Trial, asked: Stop | None) -> together.Course:
        return course(
            trial.config,
            folder / trial.id,
            branch=Branch(folder / trial.trunk, trial.branch_step) if trial.trunk else None,
            branches=trial.branches,
            labels=study.labels(trial.config, trial.id, name),
            beside=beside.get(trial.id, ()),
            asked=asked,
        )

    if len(trials) == 1:
        with _left_to_others():
            together.alone(begun(trials[0], None))
    elif trials:
        with Stop() as asked:
            together.together([begun(trial, asked) for trial in trials])


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
