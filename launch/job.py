"""A job: what to run, on which machines, how often. Every backend renders and submits it."""

import dataclasses
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from research.errors import UserError


class Form(NamedTuple):
    """What a text may be. No form admits what a shell, SLURM or YAML reads as more than a word.

    A value is held to its form where it enters, on the command line, and where it is read back, in
    jobs.json: whoever may write a study's folder must not say what runs in another's name.
    """

    pattern: str
    words: str

    def check(self, name: str, text: Any) -> None:
        """Raise UserError, naming the option `name`, unless `text` is of this form."""
        if not isinstance(text, str) or not re.fullmatch(self.pattern, text, re.ASCII):
            raise UserError(f"--{name} {text!r}: expected {self.words}")


WORD = Form(r"\w[\w.,+-]*", "letters, digits and any of . , _ + -, none of these first")
ADDRESS = Form(r"\w[\w.:/@+-]*", "letters, digits and any of . : / @ _ + -, none of these first")
LABEL = Form(
    r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "lower-case letters, digits, dots and hyphens"
)
REVISION = Form(r"[\w@][\w./@^~{}+-]*", "a branch, a tag or a commit as git names them")
FOLDER = Form(
    r"(?!-)[^\0-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029%*?\[\]\\'\"`$]+",
    "a folder whose name has none of % * ? [ ] \\ $, no quotes and no hyphen first",
)
NAME = Form(
    r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
    "at most 40 lower-case letters, digits and hyphens, a letter first and no hyphen last",
)
TOPOLOGY = Form(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){0,3}", "chips along each axis, such as 4x8")
ELEMENT = re.compile(r"[\w+][\w.+-]*")  # the id of a run, which is the name of its folder too
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
LARGEST = 10**7  # of any number: 19 years of minutes
UNITS = {"m": 1, "h": 60, "d": 24 * 60}  # minutes

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
FAILED, CANCELLED = "failed", "cancelled"


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """One command on `slices` x `hosts` machines, once for every element of `array`.

    Attributes:
        name: of the job in every queue and cloud: a DNS label of at most 40 characters.
        argv: arguments of the Python interpreter, such as ("-m", "launch.run", ...).
        env: names of the variables that every process gets; their values are written nowhere
            that others read (`launch.variables`).
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
    env: tuple[str, ...] = ()
    accelerator: str = "cpu"
    topology: str = ""
    slices: int = 1
    hosts: int = 1
    image: str = ""
    timeout: int = 0
    restarts: int = 3
    array: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.name, str) or not re.fullmatch(NAME.pattern, self.name):
            raise UserError(f"job name {self.name!r}: expected {NAME.words}")
        for key in ("argv", "array", "env"):
            words = getattr(self, key)
            if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
                raise UserError(f"job {self.name}: {key} is not a list of words")
        if not self.argv or not self.array:
            raise UserError(f"job {self.name}: {'array' if self.argv else 'argv'} is empty")
        if len(set(self.array)) < len(self.array):
            repeated = min(word for word in self.array if self.array.count(word) > 1)
            raise UserError(f"job {self.name}: array holds {repeated!r} twice")
        if bad := [name for name in self.env if not VARIABLE.fullmatch(name)]:
            raise UserError(f"--env {bad[0]}: not the name of an environment variable")
        if any(CONTROL.search(word) for word in (*self.argv, *self.array)):
            raise UserError(
                f"job {self.name}: a word of its command holds a line break or another control "
                "character"
            )
        if bad := [word for word in self.array if not ELEMENT.fullmatch(word)]:
            raise UserError(f"job {self.name}: {bad[0]!r} cannot be the id of a run")
        for key, low in {"slices": 1, "hosts": 1, "timeout": 0, "restarts": 0}.items():
            check_number(key, getattr(self, key), low)
        WORD.check("topology", self.accelerator)
        if self.topology != "":
            TOPOLOGY.check("topology", self.topology)
        if self.image != "":
            ADDRESS.check("image", self.image)
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

    `shares_disk` says whether its machines see the file system of this one, `ID` what the ids are
    by which it knows its elements.
    """

    shares_disk: ClassVar[bool] = False
    ID: ClassVar[Form]

    def pinned(self) -> "Backend":
        """Return itself with what may change until a retry looked up: the revision to ship."""
        return self

    def check(self, spec: JobSpec) -> None:
        """Raise UserError for what this backend cannot run, before anything is sent."""

    def render(self, spec: JobSpec) -> str:
        """Return what `submit` would hand over, values of variables left out; touch nothing."""
        ...

    def submit(self, spec: JobSpec, env: Mapping[str, str]) -> list[str]:
        """Hand the job over; return an id for each element, by which the others know it.

        Args:
            env: the value of each variable of `spec.env`. It goes to the processes, and on the
                way into no command line and no file that others can read.
        """
        ...

    def states(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return {id: (state, where)} of those the backend still knows."""
        ...

    def logs(self, id: str) -> str:
        """Return what the element printed."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop these elements for good."""


def option(default: Any, help: str, form: Form | None = None, low: int = 0, required: bool = False):
    """A field of a backend that is an option of the command line.

    Args:
        form: what a text may be; a backend's texts all have one.
        low: the least that a number may be.
    """
    about = {"help": help, "form": form, "low": low, "required": required}
    return dataclasses.field(default=default, metadata=about)


def call(*words: str, input: str | None = None) -> str:
    """Run a program that a backend needs on this machine, and return what it prints.

    Raises:
        UserError: when it is not here, or fails: what it says.
    """
    try:
        done = subprocess.run(words, input=input, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError(f"no {words[0]} here; see launch/README.md") from None
    except subprocess.CalledProcessError as error:
        command = " ".join(word for word in words[:4] if not word.startswith("-"))
        raise UserError(f"{command}: {' '.join(error.stderr.split())}") from error
    return done.stdout


def check_number(name: str, value: Any, low: int) -> None:
    """Raise UserError, naming the option `name`, unless `value` is an int from `low` on."""
    if type(value) is not int:
        raise UserError(f"--{name} {value!r}: expected a whole number")
    if value < low:
        raise UserError(f"--{name} {value!r} must be at least {low}")
    if value > LARGEST:
        raise UserError(f"--{name} {value} must be at most {LARGEST}")


def minutes(text: str) -> int:
    """Read `90`, `90m`, `12h` or `2d` as minutes.

    Raises:
        UserError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})([mhd]?)", text.strip())
    if not match:
        raise UserError(f"--timeout {text!r}: expected minutes, or such as 90m, 12h, 2d")
    return int(match[1]) * UNITS[match[2] or "m"]


def label(name: str, suffix: str) -> str:
    """A valid job name that begins like `name` and ends in `suffix`."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    words = words if words[:1].isalpha() else f"job-{words}"
    return f"{words[: 39 - len(suffix)].rstrip('-')}-{suffix}"
