"""The variables of a job (`--env`): their names go into jobs.json, their values never do.

A value may be a secret, and a study's folder, a batch script and a command line are read by others.
`--env NAME` takes the value from the environment of whoever submits and writes it nowhere here;
`--env NAME=VALUE` keeps it for `sweep retry` in a file that only its owner may read.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from launch.job import CONTROL, VARIABLE
from research.errors import UserError
from research.run import storage

FILE = "env.json"  # {job: {variable: value}}, mode 0600
HERE = Path(__file__).resolve().parent.parent / ".cache" / "launch"
MASK = "***"  # what is shown of a value


def parse(words: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read words NAME and NAME=VALUE; return {name: value} of all, and of the latter alone.

    Raises:
        UserError: for a word that is neither, or a name that the environment lacks. It shows no
            value.
    """
    found, written = {}, {}
    for word in words:
        name, equals, value = word.partition("=")
        if not VARIABLE.fullmatch(name):
            shown = f"{name}={MASK}" if equals else name
            raise UserError(
                f"--env {shown!r}: expected NAME, set in your environment, or NAME=VALUE"
            )
        found[name] = value if equals else _of_environment(name)
        written.pop(name, None)
        if equals:
            written[name] = value
    check(found)
    return found, written


def check(values: Mapping[str, str]) -> None:
    """Raise UserError, which shows no value, for one that not every backend can pass on."""
    for name, value in values.items():
        if CONTROL.search(value):
            raise UserError(f"--env {name}: its value holds a line break or a control character")


def _of_environment(name: str) -> str:
    if name not in os.environ:
        raise UserError(f"--env {name}: not set here; export it first, or say --env {name}=VALUE")
    return os.environ[name]


def keep(folder: Path, name: str, values: Mapping[str, str]) -> None:
    """Keep the values of job `name` of the study in `folder` for a retry, where there are any.

    Raises:
        UserError: when the file cannot be written.
    """
    if not values:
        return
    path = _file(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**_kept(path), name: dict(values)}
        write(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def write(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def find(folder: Path, name: str, wanted: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """As `parse`, of the `wanted` variables that job `name` of the study in `folder` had.

    Raises:
        UserError: for one that was not kept and that the environment lacks.
    """
    path = _file(folder)
    kept = _kept(path).get(name, {})
    written = {each: kept[each] for each in wanted if each in kept}
    missing = [each for each in wanted if each not in kept and each not in os.environ]
    if missing:
        raise UserError(
            f"--env {missing[0]}: job {name} had it, and neither {path} nor your environment does; "
            "export it, then retry"
        )
    values = {each: written.get(each, os.environ.get(each, "")) for each in wanted}
    check(values)
    return values, written


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
    with contextlib.closing(os.fdopen(handle, "rb")) as file:
        about = os.fstat(handle)
        if about.st_uid != os.geteuid():
            return {}
        if about.st_mode & 0o077:
            raise UserError(f"{path}: others may read it; change its values and chmod 600 {path}")
        try:
            content = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            content = None
    if not isinstance(content, dict) or not all(map(_is_variables, content.values())):
        raise UserError(f"{path}: not the variables of jobs; delete it and submit again")
    return content


def _is_variables(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(each, str) for each in content.values())


@contextlib.contextmanager
def placed(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of this process, or unset those that are None, for what it starts meanwhile."""
    former = {name: os.environ.get(name) for name in values}
    _place(values)
    try:
        yield
    finally:
        _place(former)


def _place(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
