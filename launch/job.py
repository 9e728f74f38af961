"""A job: what to run, on which machines, how often. Every backend renders and submits it."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from research.errors import UserError

NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNITS = {"m": 1, "h": 60, "d": 24 * 60}  # minutes

WAITING, RUNNING, FINISHED, FAILED, CANCELLED = (
    *("waiting", "running", "finished"),
    *("failed", "cancelled"),
)


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """One command on `slices` x `hosts` machines, once for every element of `array`.

    Attributes:
        name: of the job in every queue and cloud: a DNS label of at most 40 characters.
        argv: arguments of the Python interpreter, such as ("-m", "launch.run", ...).
        env: variables that every process gets.
        accelerator: a chip that `research.hardware` knows, or "cpu".
        topology: chips of a slice along each axis ("16x16"), or their number; "" for "cpu".
        slices: copies of the topology that one element takes, joined by the slow network.
        hosts: machines of one slice; each runs one process.
        image: the container's, where the backend runs containers.
        timeout: minutes that one start may take; 0 leaves it to the backend.
        restarts: how often an element that failed starts again; one that was stopped with its
            state saved (`errors.AGAIN`) always does, and does not count.
        array: one word an element, appended to its argv.

    Raises:
        UserError: for a value that no backend could run.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accelerator: str = "cpu"
    topology: str = ""
    slices: int = 1
    hosts: int = 1
    image: str = ""
    timeout: int = 0
    restarts: int = 3
    array: tuple[str, ...] = ()

    def __post_init__(self):
        if not NAME.fullmatch(self.name):
            raise UserError(
                f"job name {self.name!r}: expected at most 40 lower-case letters, digits and "
                "hyphens, a letter first and no hyphen last"
            )
        if not self.argv or not self.array:
            raise UserError(f"job {self.name}: {'array' if self.argv else 'argv'} is empty")
        if repeated := {word for word in self.array if self.array.count(word) > 1}:
            raise UserError(f"job {self.name}: array holds {min(repeated)!r} twice")
        if bad := [name for name in self.env if not VARIABLE.fullmatch(name)]:
            raise UserError(f"--env {bad[0]}: not the name of an environment variable")
        if bad := [name for name, value in self.env.items() if "\n" in value or "\0" in value]:
            raise UserError(f"--env {bad[0]}: its value holds a line break")
        if any("\n" in word or "\0" in word for word in (*self.argv, *self.array)):
            raise UserError(f"job {self.name}: a word of its command holds a line break")
        for key, low in {"slices": 1, "hosts": 1, "timeout": 0, "restarts": 0}.items():
            if getattr(self, key) < low:
                raise UserError(f"--{key} {getattr(self, key)} must be at least {low}")
        if (self.accelerator == "cpu") != (self.topology == ""):
            raise UserError(
                f"--topology: {self.accelerator!r} with {self.topology!r}; expected a chip and its "
                "topology, such as v5e:16x16, or none of both"
            )

    @property
    def processes(self) -> int:
        """Processes of one element, which `jax.distributed` joins."""
        return self.slices * self.hosts

    def command(self, index: int) -> tuple[str, ...]:
        """Arguments of the interpreter for element `index`."""
        return (*self.argv, self.array[index])

    def element(self, index: int) -> str:
        """Name of element `index` where each is a thing of its own."""
        return f"{self.name}-{index}"


class Backend(Protocol):
    """Where jobs run: a dataclass whose fields are its options (`option` says what each is for).

    `shares_disk` says whether its machines see the file system of this one.
    """

    shares_disk: ClassVar[bool]

    def pinned(self) -> "Backend":
        """Return itself with what may change until a retry looked up: the revision to ship."""
        ...

    def check(self, spec: JobSpec) -> None:
        """Raise UserError for what this backend cannot run, before anything is sent."""
        ...

    def render(self, spec: JobSpec) -> str:
        """Return all that `submit` would hand over, as text; touches nothing."""
        ...

    def submit(self, spec: JobSpec) -> list[str]:
        """Hand the job over; return an id for each element, by which the others know it."""
        ...

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return {id: (state, where)} of those the backend still knows."""
        ...

    def logs(self, id: str) -> str:
        """Return what the element printed."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop these elements for good."""
        ...


def option(default, help: str, required: bool = False):
    """A field of a backend that is an option of the command line."""
    return dataclasses.field(default=default, metadata={"help": help, "required": required})


def minutes(text: str) -> int:
    """Read `90`, `90m`, `12h` or `2d` as minutes.

    Raises:
        UserError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})([mhd]?)", text.strip())
    if not match:
        raise UserError(f"--timeout {text!r}: expected minutes, or such as 90m, 12h, 2d")
    return int(match[1]) * UNITS[match[2] or "m"]


def variables(words: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE` words.

    Raises:
        UserError: for a word that is not.
    """
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, _) in zip(words, pairs, strict=True):
        if not equals or not VARIABLE.fullmatch(name):
            raise UserError(f"--env {word!r}: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


def label(name: str, suffix: str) -> str:
    """A valid job name that begins like `name` and ends in `suffix`."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    words = words if words[:1].isalpha() else f"job-{words}"
    return f"{words[: 39 - len(suffix)].rstrip('-')}-{suffix}"
