"""One element of a job: a group of trials, on as many processes as the backend started.

    python -m launch.run --config FILE.py --workdir DIR [--processes N] [--config.key=value ...] \
        --group TRIAL

Ends with 0 when the group is finished, `errors.AGAIN` (75) when it was stopped with its state
saved, 2 for a mistake of the user's, 1 for an error of ours.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from launch import local
from research import runtime, study, terminal
from research.errors import AGAIN, Interrupted, UserError, nearest
from research.run import buckets


def find_group(loaded: study.Study, name: str) -> tuple[study.Trial, ...]:
    """Return the group that `name`, its first trial, stands for.

    Raises:
        UserError: when the study has no such group, as after a change of its file.
    """
    groups = {group[0].id: group for group in loaded.groups}
    if name not in groups:
        raise UserError(f"--group {name!r}: not in {loaded.name} any more{nearest(name, groups)}")
    return groups[name]


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.run", allow_abbrev=False)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--group", required=True)
    args, flags = parser.parse_known_args(words)
    runtime.set_up_logging()
    # Outside the loop, which saves first, a request to stop ends us where we are.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # SLURM's warning that the time is nearly up (`--signal=USR2@...`) is such a request too.
    signal.signal(signal.SIGUSR2, _ask_to_stop)
    try:
        _run(args.config, args.workdir, args.processes, args.group, flags)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        runtime.leave(2)
        return 2
    except Interrupted as error:  # in all processes of the run alike
        print(f"{error}; exit code {AGAIN}: start me again", file=sys.stderr)
        return AGAIN
    except KeyboardInterrupt:
        print(f"stopped; exit code {AGAIN}: start me again", file=sys.stderr)
        runtime.leave(AGAIN)
        return AGAIN
    return 0


def _run(spec: str, workdir: str, processes: int, group: str, flags: Sequence[str]) -> None:
    runtime.join(processes)
    loaded = study.load(spec, flags)
    root = buckets.path(workdir)
    runtime.prepare(root)
    local.finish(loaded.name, [find_group(loaded, group)], root / loaded.name)


def _ask_to_stop(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def start(words: Sequence[str]) -> None:
    """`main` for a caller that unpickles functions: leaves with the exit code."""
    if code := main(words):
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(terminal.until_closed(main, sys.argv[1:]))
