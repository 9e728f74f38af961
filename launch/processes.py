"""The processes of one run on this machine: started together, watched together, ended together."""

import argparse
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple

from research.errors import AGAIN, Interrupted, UserError
from research.run import stop
from research.runtime import LOOPBACK

THREADS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0  # from the first process that leaves in order to the last
MOST = 1024  # workers, processes of a run, or devices of a process
IN_ORDER = (130, AGAIN)  # exit codes of a process that was asked to stop and saved its state


class Process(NamedTuple):
    """A process, the socket that brings its last words and our end, and where it complains."""

    popen: subprocess.Popen
    line: socket.socket
    complaints: IO[bytes] | None


def start(
    command: Sequence[str],
    cores: Sequence[Sequence[int]],
    devices: int | None = None,
    output: int | None = None,
) -> list[Process]:
    """Start `python -m COMMAND` once for each of `cores`, as processes that find each other.

    Args:
        cores: for each process the cores it is pinned to; none of them: it runs anywhere.
        devices: CPU devices that each makes; None leaves that to JAX.
        output: the descriptor that the first one prints to; None: where this process does.
    """
    address, team = f"{LOOPBACK}:{_free_port()}", []
    for index, own in enumerate(cores):
        environment = dict(os.environ)
        if len(own) == 1:
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {THREADS}".strip()
            environment["OMP_NUM_THREADS"] = "1"
        if devices:
            environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        if len(cores) > 1:  # as `runtime.join` reads it
            environment |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_ID": str(index)}
            environment |= {"JAX_NUM_PROCESSES": str(len(cores))}
        ours, theirs = socket.socketpair()
        environment["ISOFLOP_LINE"] = str(theirs.fileno())
        complaints = tempfile.TemporaryFile() if index else None  # what all say is heard once
        # Its own session: a terminal's Ctrl-C reaches us, who pass it on once.
        popen = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL if index else output,
            stderr=complaints or output,
        )
        theirs.close()
        if own:
            os.sched_setaffinity(popen.pid, own)
        team.append(Process(popen, ours, complaints))
    return team


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def cores() -> list[int]:
    """The cores this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def watch(team: Sequence[Process]) -> tuple[int, int]:
    """Wait for the processes of one run; return the first that failed and its exit code, or (0, 0).

    The others of one that dies would wait for it forever, so they are killed at once; where one
    leaves in order, they get time to do the same.
    """
    failed, end = None, float("inf")
    while True:
        codes = [process.popen.poll() for process in team]
        if failed is None and any(codes):
            # JAX aborts what a lost process leaves behind, perhaps before we have looked.
            failed = min((c == -signal.SIGABRT, i, c) for i, c in enumerate(codes) if c)[1:]
            end = time.monotonic() + (GRACE_SECONDS if failed[1] in IN_ORDER else 0)
        if None not in codes:
            return failed or (0, 0)
        if time.monotonic() >= end:
            for process in team:
                process.popen.kill()
        time.sleep(POLL_SECONDS)


def attend(
    command: Sequence[str],
    cores: Sequence[Sequence[Sequence[int]]],
    devices: int | None = None,
    output: int | None = None,
) -> tuple[list[list[Process]], list[tuple[int, int]], list[int]]:
    """Start a team (`start`) for each of `cores` and wait for them, passing on signals to all.

    Returns:
        The teams that were started, how each of them ended (`watch`), and the signals that came.
    """
    teams, heard = [], []

    def pass_on(number: int, _: object) -> None:
        heard.append(number)
        for process in itertools.chain(*teams):
            process.popen.send_signal(number)

    with stop.heard_by(pass_on):
        for own in cores:
            teams.append(start(command, own, devices, output))
            if heard:  # before the newest team was there to hear it
                for process in teams[-1]:
                    process.popen.send_signal(heard[-1])
                break
        with ThreadPoolExecutor(len(teams)) as waiting:
            return teams, list(waiting.map(watch, teams)), heard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verbs that train on this machine."""
    parser.add_argument("--processes", type=int, default=1, help="processes that train one run")
    parser.add_argument("--devices", type=int, help="CPU devices that each process makes")


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for a number of workers, processes, devices or runs that is absurd."""
    for name in ("workers", "batch", "processes", "devices"):
        if (value := getattr(args, name, None)) is None:
            continue
        if value < 1:
            raise UserError(f"--{name} {value} must be at least 1")
        if value > MOST:
            raise UserError(f"--{name} {value}: more than one machine runs; at most {MOST}")


def run(command: Sequence[str], count: int, devices: int | None = None) -> int:
    """Run `python -m COMMAND` as `count` processes that share this machine; return the exit code.

    Raises:
        Interrupted: when one was lost and the others were ended.
    """
    every = cores()
    own = [every[i::count] or every[i % len(every) :][:1] if every else [] for i in range(count)]
    (team,), ((index, code),), _ = attend(command, [own if count > 1 else [[]]], devices)
    if code < 0:
        raise Interrupted(lost(team, index, code), signal.SIGTERM)
    if code not in (0, *IN_ORDER) and (complaints := team[index].complaints):
        complaints.seek(0)
        sys.stderr.write(complaints.read().decode(errors="replace"))
    return code


def lost(team: Sequence[Process], index: int, code: int) -> str:
    """The line for a process that a signal ended."""
    name = signal.Signals(-code).name
    if len(team) == 1:  # the others of its run are on other machines
        return f"the run lost a process, and this one with it ({name})"
    return f"process {index} of {len(team)} was ended by {name}; the others were stopped"
