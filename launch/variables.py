"""The variables of a job (`--env`): their names go into jobs.json, their values never do.

A value may be a secret, and a study's folder, a batch script and a command line are read by others.
`--env NAME` takes the value from the environment of whoever submits and writes it nowhere here;
`--env NAME=VALUE` keeps it for `sweep retry` in a file that only its owner may read.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from launch.job import CONTROL, VARIABLE
from research.errors import UserError
from research.run import storage

FILE = "env.json"  # {job: {variable: value}}, mode 0600
HERE = Path(__file__).resolve().parent.parent / ".cache" / "launch"
MASK = "***"  # what is shown of a value


def parse(words: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read words NAME and NAME=VALUE; return {name: value} of all, and of the latter alone.

    Raises:
        UserError: for a word that is neither, a name that the environment lacks, or a value that
            not every backend can pass on. It shows no value.
    """
    found, written = {}, {}
    for word in words:
        name, equals, value = word.partition("=")
        if not VARIABLE.fullmatch(name):
            shown = f"{name}={MASK}" if equals else name
            raise UserError(
                f"--env {shown!r}: expected NAME, set in your environment, or NAME=VALUE"
            )
        if not equals and name not in os.environ:
            raise UserError(
                f"--env {name}: not set here; export it first, or say --env {name}=VALUE"
            )
        found[name] = value if equals else os.environ[name]
        written.pop(name, None)
        if equals:
            written[name] = value
        if CONTROL.search(found[name]):
            raise UserError(f"--env {name}: its value holds a line break or a control character")
    return found, written


def keep(folder: Path, name: str, values: Mapping[str, str]) -> None:
    """Keep the values of job `name` of the study in `folder` for a retry, where there are any.

    Raises:
        UserError: when the file cannot be written.
    """
    if values:
        content = {**_kept(_file(folder)), name: dict(values)}
        write(_file(folder), json.dumps(content, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    storage.write(path, text.encode(), mode=0o600)


def find(folder: Path, name: str, wanted: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """As `parse`, of the `wanted` variables that job `name` of the study in `folder` had.

    Raises:
        UserError: for one that was not kept and that the environment lacks.
    """
    path = _file(folder)
    kept = _kept(path).get(name, {})
    for each in wanted:
        if each not in kept and each not in os.environ:
            raise UserError(
                f"--env {each}: job {name} had it, and neither {path} nor your environment does; "
                "export it, then retry"
            )
    return parse(f"{each}={kept[each]}" if each in kept else each for each in wanted)


def _file(folder: Path) -> Path:
    """A bucket has no owner's rights, so the values of a study in one stay on this machine."""
    return HERE / f"{folder.name}.{FILE}" if storage.remote(folder) else folder / FILE


def _kept(path: Path) -> dict[str, dict[str, str]]:
    """What the file holds; nothing where there is none, or it is another user's.

    Raises:
        UserError: when others may read it, or it is not what `keep` wrote.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if about.st_uid != os.geteuid():
            return {}
        if about.st_mode & 0o077:
            raise UserError(f"{path}: others may read it; change its values and chmod 600 {path}")
        try:
            return msgspec.json.decode(file.read(), type=dict[str, dict[str, str]])
        except (OSError, ValueError, RecursionError):  # whose words might show a value
            raise UserError(
                f"{path}: not the variables of jobs; delete it and submit again"
            ) from None
