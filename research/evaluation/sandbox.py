"""Runs functions that nobody has read: in processes of their own, with limits and without rights.

The functions are of a network's making. They run in a Python of its own (`sandboxed.py`) without
environment, in an empty folder, each in a fork with little time and memory, which may open no file
and no socket and start no process. Only text comes back, and it is never evaluated. Blunders are
kept away so, not somebody who knows the interpreter and means harm.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError

SCRIPT = Path(__file__).with_name("sandboxed.py")
SECONDS = 0.5  # of processor time that all calls of a task may take


def run(tasks: Sequence[dict[str, Any]], seconds: float = SECONDS) -> list[list[str | None]]:
    """What each call of each task gives, as text; None where it failed or was stopped.

    Args:
        tasks: see `sandboxed.py`.
        seconds: of processor time that the calls of one task may take together.

    Raises:
        UserError: where there is no such sandbox: not on Windows.
    """
    if sys.platform == "win32":
        raise UserError("functions are run in a sandbox of Unix, which this system is not")
    if not tasks:
        return []
    given = json.dumps({"seconds": seconds, "tasks": list(tasks)})
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", str(SCRIPT)],
            input=given.encode(), capture_output=True, cwd=folder, env={}, check=False,
            timeout=300 + 10 * (seconds + 1) * len(tasks),
        )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"the sandbox ended with {ended.returncode}: {ended.stderr.decode()}")
    pairs = zip(tasks, json.loads(ended.stdout), strict=True)
    return [found or [None] * len(task["calls"]) for task, found in pairs]
