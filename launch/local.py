"""Trials on this machine: worker processes, each pinned to a core, that claim groups of trials.

A group is a trunk and its branches, so one worker compiles a shape once and hands checkpoints
from run to run. A claim is a lock on a file that the system drops when its holder dies: a killed
worker's group is simply taken up again, and two sweeps on one folder share the work.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import filelock

from research import progress, record, study, watch
from research.errors import Interrupted, UserError

POLL_SECONDS = 0.5
THREADS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def sweep(loaded: study.Study, spec: str, flags: Sequence[str], folder: Path, workers: int) -> int:
    """Run what is not finished of `loaded` in `folder`; return 0 when all of it is.

    Raises:
        UserError: when the folder holds other configs or cannot be written.
        Interrupted: after SIGINT or SIGTERM, once every worker has saved its state.
    """
    study.check_folder(loaded, folder)
    study.write_description(loaded, folder)
    waiting = [trial for trial in loaded.trials if not finished(folder, trial)]
    print(f"{loaded.name}: {len(loaded.trials)} trials, {len(waiting)} to run", flush=True)
    if all(_done(folder, group) for group in loaded.groups):
        return 0
    _prepare_data(loaded)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    started = []
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with watch.screen(folder) as output:
            for index in range(workers):
                started.append(_start(spec, flags, folder, cores[index % len(cores)], output))
            for process, _ in started:
                process.wait()
    except KeyboardInterrupt:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.wait()
        raise Interrupted(f"{folder}: stopped, every run saved") from None
    finally:
        signal.signal(signal.SIGTERM, former)
    left = [trial.id for trial in loaded.trials if not finished(folder, trial)]
    if not left:
        return 0
    for _, line in started:
        if message := line.recv(65536).decode():
            raise UserError(message)
    print(f"{len(left)} trials did not finish, {left[0]} first", file=sys.stderr)
    return 1


def finished(folder: Path, trial: study.Trial) -> bool:
    return (folder / trial.id / "result.json").exists()


def _done(folder: Path, group: Sequence[study.Trial]) -> bool:
    return all(finished(folder, trial) for trial in group) and not _unsampled(folder, group)


def _unsampled(folder: Path, group: Sequence[study.Trial]) -> study.Trial | None:
    """The longest run of a finished group, when its samples are wanted and not there yet."""
    longest = max((t for t in group if not t.branches), key=lambda t: t.config.train.steps)
    home = folder / longest.id
    if longest.config.sampling.num < 1 or any(home.glob("samples.*")):
        return None
    return longest if record.read_json(home / "result.json")["status"] == "finished" else None


def _prepare_data(loaded: study.Study) -> None:
    """Prepare each data set once, before the workers ask for it together."""
    from research import data

    for config in {str(t.config.data): t.config.data for t in loaded.trials}.values():
        data.load(config, "train")


def _start(
    spec: str, flags: Sequence[str], folder: Path, core: int | None, output: int | None
) -> tuple[subprocess.Popen, socket.socket]:
    """Start a worker that prints to the descriptor `output`, or where this process does.

    The socket carries its last words and, by closing, our own death.
    """
    environment = dict(os.environ)
    if core is not None:
        environment |= {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {THREADS}".strip()}
        environment |= {"OMP_NUM_THREADS": "1"}
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    command = [sys.executable, "-m", "launch.local", str(number), spec, str(folder), str(core)]
    # Its own process group: a terminal's Ctrl-C reaches the sweep, which passes it on once.
    process = subprocess.Popen(
        [*command, *flags],
        env=environment,
        start_new_session=True,
        pass_fds=[number],
        stdout=output,
        stderr=output,
    )
    theirs.close()
    return process, ours


def work(loaded: study.Study, folder: Path) -> None:
    """Claim and run groups until every trial is finished, the costliest first."""
    from research import runtime

    runtime.prepare(folder.parent)
    groups = sorted(loaded.groups, key=_cost, reverse=True)
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    while unfinished := [group for group in groups if not _done(folder, group)]:
        for group in unfinished:
            try:
                with filelock.FileLock(locks / f"{group[0].id}.lock").acquire(timeout=0):
                    run_group(loaded.name, group, folder)
            except filelock.Timeout:
                continue
        if not all(_done(folder, group) for group in groups):
            time.sleep(POLL_SECONDS)  # held by another worker: wait for it, or inherit it


def run_group(name: str, group: Sequence[study.Trial], folder: Path) -> None:
    """Train a trunk and its branches, or one lone trial, then sample the longest of them."""
    from research import sample
    from research.train import Branch, train

    for trial in group:
        train(
            trial.config,
            folder / trial.id,
            branch=Branch(folder / trial.trunk, trial.branch_step) if trial.trunk else None,
            branches=trial.branches,
            labels={"id": trial.id, "study": name, "part": trial.config.part},
        )
    if trial := _unsampled(folder, group):
        sample.write(folder / trial.id, trial.config.sampling.num)


def _cost(group: Sequence[study.Trial]) -> float:
    from research import families

    return sum(
        families.load(t.config.family).cost(t.config).train_flops
        * t.config.train.batch_size
        * t.steps_to_run
        for t in group
    )


def _stop_with(line: socket.socket) -> None:
    """Wait for the end of the sweep that started this worker, then stop with the state saved."""
    line.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(words: Sequence[str]) -> int:
    """One worker: python -m launch.local SOCKET SPEC FOLDER CORE [--config.key=value ...]."""
    number, spec, folder, core, *flags = words
    progress.set_up_logging()
    line = socket.socket(fileno=int(number))
    threading.Thread(target=_stop_with, args=[line], daemon=True).start()
    if core != "None":
        os.sched_setaffinity(0, {int(core)})
    try:
        work(study.load(spec, flags), Path(folder))
    except UserError as error:
        line.sendall(str(error).encode())
        return 2
    except (Interrupted, KeyboardInterrupt):
        return 130  # the sweep says it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
