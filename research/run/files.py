"""What a study's folder says: the one reader of study.json, result.json and provenance.json.

Each file is held to the types below, keys that they do not name are left out, and what it names
becomes part of a path, so names are checked as well. A run is called as its folder is.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from research.errors import UserError, nearest
from research.run import record, storage
from research.run.record import Count, Number
from research.terminal import one_line

STUDY, RESULT, PROVENANCE = "study.json", "result.json", "provenance.json"
ALBUM = "album"  # a folder of pictures of how the run draws (`sample --album`)
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\ud800-\udfff]*$")]  # no half of a character
FAILED = "failed"  # a status: beyond a limit of its family's (`research.failures`)
STOPPED = "stopped early"  # a status: this run was hopeless beside others (`research.rivals`)
LONGEST = 200  # bytes of a name, with room for a suffix


class About(TypedDict, total=False):
    """What a study says of one of its parts."""

    title: Text
    rulers: list[Text]  # scores by which parts on the same data stand beside one another


class Description(TypedDict):
    """study.json: the question, the parts, and the ids of all trials."""

    study: NotRequired[Text]
    title: NotRequired[Text | None]
    question: NotRequired[Text | None]
    docstring: NotRequired[Text | None]
    parts: NotRequired[dict[Text, About]]
    trials: NotRequired[list[Text]]


class Data(TypedDict):
    """The data of a run: `amount` of `unit` (tokens, images) in so many epochs."""

    name: Text
    amount: Number
    unit: Text
    epochs: Number
    fingerprint: Text


class Score(TypedDict):
    """A validation score; None where the run diverged. Older files say NaN."""

    value: float | Literal["nan", "inf", "-inf"] | None
    unit: Text
    kind: Text
    split: Text
    better: NotRequired[Literal["lower", "higher"]]
    interval: NotRequired[tuple[Number, Number]]  # of 95%, over examples
    signature: NotRequired[Text]  # without an equal one, two values do not compare


class Convention(TypedDict):
    """What is counted as a parameter, and as a FLOP."""

    params: Text
    flops: Text


class Floor(TypedDict):
    """What no model can beat."""

    value: Number
    unit: NotRequired[Text]
    kind: NotRequired[Text]
    source: NotRequired[Text]


class Goodput(TypedDict):
    """Where the time went: seconds by phase, their "total" among them; the useful share."""

    share: Number
    seconds: dict[Text, Number]


class Stopped(TypedDict):
    """Where a run stopped early, and by how much its log loss was above that of its `rival`."""

    step: Count
    rival: Text
    gap: Number


class Failure(TypedDict):
    """What of a run that has failed was measured beyond its limits, and what that means."""

    measure: Text
    value: float | None
    low: float | None
    high: float | None
    reason: Text


class Run(TypedDict):
    """result.json of a trunk, and what it shares with that of a trial."""

    id: Text
    part: Text
    arm: NotRequired[Text]
    role: Literal["trial", "trunk"]
    status: NotRequired[Text]
    steps: NotRequired[Count]
    data: NotRequired[Data]
    train_loss: NotRequired[float | None]
    seconds: NotRequired[Number | None]
    flops_spent: NotRequired[Number | None]
    goodput: NotRequired[Goodput | None]
    score: NotRequired[Score | None]
    scores: NotRequired[dict[Text, Score] | None]
    stopped: NotRequired[Stopped | None]
    failures: NotRequired[dict[Text, Failure]]
    trunk: NotRequired[Text | None]


class Params(TypedDict, total=False):
    """Counts of parameters; at least the one that the convention names."""

    total: Count
    active: Count
    non_embedding: Count
    embedding: Count
    lookup: Count


class Trial(Run):
    """result.json of a trial: a run with a score, a row of the table of runs."""

    status: Text
    steps: Count
    data: Data
    family: Text
    seed: Count
    size: Text | int | float | None
    budget: Number | None
    params: Params
    batch_size: Number
    learning_rate: Number
    warmup_fraction: Number
    schedule_end_step: Count
    flops: Number
    flops_6nd: NotRequired[Number]
    convention: Convention
    floor: Floor | None
    trunk: Text | None
    branch_step: NotRequired[Count | None]


class Machine(TypedDict):
    """What a run was trained on."""

    cpu: Text
    cores: Count | None
    memory_bytes: Count
    devices: list[Text]


class Tokenizer(TypedDict):
    """What made the tokens of a run; its tokenizer.json lies beside."""

    kind: Text
    vocab: Count
    sha256: Text


class Provenance(TypedDict):
    """provenance.json: where a run came from."""

    git_revision: Text
    dirty: bool | None  # None: unknown
    versions: dict[Text, Text]
    python: Text
    machine: Machine
    data_fingerprint: Text
    tokenizer: NotRequired[Tokenizer]
    argv: list[Text]
    started_at: Text


@dataclass(frozen=True)
class Runs:
    """The runs of a folder in order of id; `unreadable` says by id why one could not be read."""

    trials: list[Trial]
    trunks: list[Run]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be the name of a file in a folder, and no more than that.

    Raises:
        UserError: when it is empty, too long, hidden, a path, or does not print; `what` says where
            it stands.
    """
    if "/" in name or "\\" in name or not name.isprintable():
        raise UserError(f"{what} {name[:60]!r}: expected a name that prints, and no path")
    if not name or name.startswith(".") or len(name.encode()) > LONGEST:
        raise UserError(f"{what} {name[:60]!r}: expected 1 to {LONGEST} bytes, no dot at first")
    return name


def within(folder: Path, path: Path) -> Path:
    """Return `path` if no link below `folder` leads it out of there; `folder` may be one itself.

    Raises:
        UserError: when one does: what lies elsewhere is neither shown nor written over.
    """
    if storage.remote(path):
        return path
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise UserError(f"{path} is, or is below, a link that leads out of {folder}")
    return path


def read_description(folder: Path) -> Description:
    """Read study.json.

    Raises:
        UserError: when it cannot be read or is not the description of a study.
    """
    path = folder / STUDY
    found: Description = record.read_json(path, Description)
    for key in ("parts", "trials"):
        for name in found.get(key, ()):
            check_name(name, f"{path}: {key}:")
    for part in found.get("parts", {}).values():
        if "title" in part:
            part["title"] = one_line(part["title"])
    return found


def read_result(run: Path) -> Run | Trial:
    """Read result.json of the folder `run`; it is called as its folder is.

    Raises:
        UserError: when it cannot be read or is not the result of a run.
    """
    path = run / RESULT
    content = record.read_json(path, dict[str, Any])
    content = {"part": "", **content, "id": run.name}  # a run of no study has no part
    found: Run = record.held_to(Run, content, path)
    if found["role"] == "trial":
        found = trial = record.held_to(Trial, content, path)
        name = _convention(trial)
        if not trial["params"].get(name):  # N has a logarithm
            raise UserError(f"{path}: params: expected {name!r}, which the convention names")
    for key in ("part", "trunk"):
        if name := found.get(key):
            check_name(str(name), f"{path}: {key}:")
    return found


def read_provenance(run: Path) -> Provenance:
    """Read provenance.json of the folder `run`.

    Raises:
        UserError: when it cannot be read or is none.
    """
    return record.read_json(run / PROVENANCE, Provenance)


def loss(run: Run | Trial) -> float:
    """The score of a run; NaN where it has none."""
    return value(run.get("score"))


def value(score: Score | None) -> float:
    """What was measured; NaN where there is none."""
    return math.nan if not score or score["value"] is None else float(score["value"])


def main_score(run: Run | Trial) -> str | None:
    """The name of the score that is the run's main one; None in runs older than names."""
    return next(iter(run.get("scores") or {}), None)


def counted(trial: Trial) -> tuple[str, int]:
    """Which count of parameters a trial's convention names, and how many that is."""
    name = _convention(trial)
    return name, trial["params"][name]


def _convention(trial: Trial) -> str:
    return trial["convention"]["params"].partition(",")[0]  # "total, head included"


def read_runs(folder: Path, loss: str | None = None) -> Runs:
    """Read every run of the study in `folder` that has a result.

    One that cannot be read is told by the reason, and costs nobody else anything.

    Args:
        loss: the score that is the trials' `score` in place of the main one; those of parts without
            it are left out.

    Raises:
        UserError: no part has the score `loss`, a trial lacks it, or higher values are better; or
            the scores of a part were not measured alike.
    """
    trials, trunks, unreadable = [], [], {}
    for path in sorted(folder.glob(f"*/{RESULT}")):
        run = path.parent
        try:
            check_name(run.name, f"{folder}: run")
            found = read_result(run)
        except UserError as error:
            unreadable[run.name] = str(error)
            continue
        (trials if found["role"] == "trial" else trunks).append(found)
    trials = _judged(folder, trials, loss) if loss else trials
    _check_signatures(folder, trials)
    return Runs(trials, trunks, unreadable)


def _check_signatures(folder: Path, trials: Iterable[Trial]) -> None:
    """Raise UserError where scores of one part were measured in ways that do not compare."""
    known: dict[str, tuple[str, str]] = {}
    for trial in trials:
        signature = (trial.get("score") or {}).get("signature", "")
        if math.isnan(value(trial.get("score"))):  # it was not measured
            continue
        first, of_first = known.setdefault(trial["part"], (trial["id"], signature))
        if signature != of_first:
            raise UserError(
                f"{folder}: scores of {first} and {trial['id']} do not go on one axis: measured as "
                f"{of_first or 'nothing says'!r} and {signature or 'nothing says'!r}"
            )


def _judged(folder: Path, trials: list[Trial], loss: str) -> list[Trial]:
    """The trials with their score `loss` as the main one, of which no floor is known."""
    known = {trial["id"]: trial.get("scores") or {} for trial in trials}
    parts = {trial["part"] for trial in trials if loss in known[trial["id"]]}
    if not parts:
        names = list(dict.fromkeys(name for scores in known.values() for name in scores))
        has = f"it has {', '.join(names)}" if names else "its runs have one score each"
        raise UserError(f"--loss: no score {loss!r} in {folder}{nearest(loss, names)}; {has}")
    chosen = []
    for trial in (trial for trial in trials if trial["part"] in parts):
        score = known[trial["id"]].get(loss)
        if score is None:
            raise UserError(f"--loss: {folder / trial['id']} has no score {loss!r}, as others have")
        if score.get("better") == "higher":
            raise UserError(f"--loss {loss}: higher is better, and a law is of what falls")
        main = main_score(trial) == loss
        chosen.append({**trial, "score": score, "floor": trial["floor"] if main else None})
    return chosen


def missing(study: Description, there: Iterable[str]) -> dict[str, list[str]]:
    """{part: ids of trials} that study.json lists and that are not among those `there`."""
    found: dict[str, list[str]] = {}
    known = set(there)
    for trial in study.get("trials", ()):
        if trial not in known:
            found.setdefault(part_of(trial, study), []).append(trial)
    return found


def part_of(trial: str, study: Description) -> str:
    """The longest name of a part that begins the id of a planned trial."""
    names = [name for name in study.get("parts", {}) if trial.startswith(f"{name}-")]
    return max(names, key=len, default="")


def digest(path: Path) -> str:
    """Digest of the content of a file; of one that cannot be read, why: as much part of it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return str(error.strerror)


def digest_into(total: Any, root: Path, patterns: Iterable[str]) -> None:
    """Add name and content of each file below `root` that `patterns` match to the hash `total`."""
    for path in sorted(p for pattern in patterns for p in root.glob(pattern) if p.is_file()):
        total.update(f"{path.relative_to(root)} {digest(path)}\n".encode())
