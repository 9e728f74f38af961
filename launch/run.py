"""One element of a job: a group of trials, on as many processes as the backend started.

    python -m launch.run --config FILE.py --workdir DIR [--processes N] [--config.key=value ...] \
        --group TRIAL

Ends with 0 when the group is finished, `errors.AGAIN` (75) when it was stopped with its state
saved, 2 for a mistake of the user's, 1 for an error of ours. Without a group it is a worker of a
sweep on this machine (`launch.local`), which is told on its line what there is to say.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from launch import local
from research import processes, runtime, study, terminal, trunks
from research.errors import AGAIN, Interrupted, UserError, nearest
from research.run import lease, profiling, stop, storage


def find_group(loaded: study.Study, name: str) -> tuple[study.Trial, ...]:
    """Return the group that `name`, its first trial, stands for.

    Raises:
        UserError: when the study has no such group, as after a change of its file.
    """
    groups = {group[0].id: group for group in loaded.groups}
    if name not in groups:
        raise UserError(f"--group {name!r}: not in {loaded.name} any more{nearest(name, groups)}")
    return groups[name]


class Element(NamedTuple):
    """What one element trains: the options of this module's command line, but for the group."""

    config: str
    workdir: str
    processes: int
    flags: tuple[str, ...] = ()


def argv(element: Element) -> tuple[str, ...]:
    """Arguments of the interpreter for an element, whose group's name comes last.

    Raises:
        UserError: for a file or folder that would be read as an option.
    """
    config, workdir, count, flags = element
    for name, value in (("config", config), ("workdir", workdir)):
        if value.startswith("-"):
            raise UserError(f"--{name} {value}: begins with a hyphen; write ./{value}")
    words = ("--config", config, "--workdir", workdir, "--processes", str(count))
    return ("-m", "launch.run", *words, *flags, "--group")


def read(words: Sequence[str]) -> Element:
    """Read `argv` again: jobs.json is not to say what else runs in the name of who retries.

    Raises:
        UserError: for any other command.
    """
    if len(words) > 8 and words[7].isascii() and words[7].isdigit():
        element = Element(words[3], words[5], int(words[7]), tuple(words[8:-1]))
        ours = all(flag.startswith(("--config.", "--profile_steps=")) for flag in element.flags)
        if ours and argv(element) == tuple(words):
            return element
    raise UserError(f"{shlex.join(words)!r} is not the command of an element")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.run", allow_abbrev=False)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--profile_steps")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--stop_hopeless", action="store_true")
    parser.add_argument("--loaded")
    parser.add_argument("--group")
    args, flags = parser.parse_known_args(words)
    runtime.set_up_logging()
    line, again = runtime.follow(), f"; exit code {AGAIN}: start me again"
    ends = stop.at_once(f"stopped{again}\n", AGAIN) if args.group else stop.at_once()
    try:
        with ends:  # outside the loop, which saves first
            _run(args, flags)
    except UserError as error:
        if args.group:
            print(f"error: {terminal.one_line(str(error))}", file=sys.stderr)
        elif line and not isinstance(error, lease.Lost):
            line.sendall(str(error).encode())
        runtime.leave(error.code)
        return error.code
    except Interrupted as error:  # in all processes of the run alike
        if args.group:
            print(f"{error}{again}", file=sys.stderr)
        return AGAIN if args.group else error.code
    return 0


def _run(args: argparse.Namespace, flags: Sequence[str]) -> None:
    runtime.join(args.processes)
    if args.loaded:
        loaded = local.taken_over(args.loaded, args.config)
    else:
        loaded = study.load(args.config, flags)
    profiling.ask(args.profile_steps, max(trial.config.train.steps for trial in loaded.trials))
    folder = storage.path(args.workdir) / loaded.name
    if not args.group:
        return local.work(loaded, folder, args.batch, args.stop_hopeless)
    local.work(dataclasses.replace(loaded, groups=(find_group(loaded, args.group),)), folder)
    if processes.first() and all(trunks.finished(folder, trial) for trial in loaded.trials):
        from research.scaling.study_laws import after_sweep

        after_sweep(folder)  # by the last element of a sweep to end


def start(words: Sequence[str]) -> None:
    """`main` for a caller that unpickles functions: leaves with the exit code."""
    if code := main(words):
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(terminal.until_closed(main, sys.argv[1:]))
