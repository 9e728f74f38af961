"""What was submitted for a study: jobs.json in its folder, enough to ask after it later."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from launch import backends, job, run
from launch.job import Backend, JobSpec
from research.errors import UserError, nearest
from research.run import record, storage

FILE = "jobs.json"
ALIVE = (job.WAITING, job.RUNNING)


@dataclasses.dataclass(frozen=True)
class Submission:
    """One job as it was handed over: the id of each element of `spec.array`, in its order."""

    backend: str
    options: dict[str, Any]
    spec: JobSpec
    ids: tuple[str, ...]
    submitted_at: str

    def __post_init__(self):
        if len(self.ids) != len(self.spec.array):
            raise UserError(f"{len(self.ids)} ids of {len(self.spec.array)} elements")
        backend = self.open()  # whose options, as the ids, are words of commands
        for id in self.ids:
            backend.ID.check("id", id)
        run.read(self.spec.argv)

    def open(self) -> Backend:
        """The backend it went to, with the options it had."""
        return backends.make(self.backend, self.options)

    def check_folder(self, folder: Path) -> None:
        """Raise UserError unless its runs go into the study's `folder`, which may have moved."""
        element = run.read(self.spec.argv)
        there = storage.path(element.workdir) / Path(element.config.partition(":")[0]).stem
        same = str(there) == str(folder)
        if not same and not storage.remote(there) and not storage.remote(folder):
            same = there.exists() and there.samefile(folder)
        if not same:
            raise UserError(
                f"{folder}: its jobs write into {there}, seen from here; retry where that is this "
                "folder, or run the sweep again with --workdir"
            )


@dataclasses.dataclass(frozen=True)
class Journal:
    """All submissions of a study, the newest last.

    `groups` maps each element (the first run of a group) to the ids of the group's runs.
    """

    study: str
    groups: dict[str, list[str]]
    submissions: tuple[Submission, ...] = ()

    def __post_init__(self):
        for id in itertools.chain(self.groups, *self.groups.values()):
            if not job.ELEMENT.fullmatch(id):
                raise UserError(f"{id!r} cannot be the id of a run")

    def current(self) -> dict[str, tuple[Submission, str]]:
        """{element: (its newest submission, its id there)} of those that the study still has."""
        found = {}
        for submission in self.submissions:
            for element, id in zip(submission.spec.array, submission.ids, strict=True):
                found[element] = (submission, id)
        return {element: last for element, last in found.items() if element in self.groups}

    def newest(self, elements: Iterable[str]) -> list[tuple[Submission, dict[str, str]]]:
        """Those of `elements` that were submitted, {element: id}, by their newest submission."""
        asked, current = set(elements), self.current()
        found = [
            (each, {e: id for e, (newest, id) in current.items() if newest is each and e in asked})
            for each in self.submissions
        ]
        return [(submission, ids) for submission, ids in found if ids]

    def states(self, elements: Iterable[str]) -> dict[str, tuple[str, str]]:
        """{element: (state, where)} of those of `elements` that their backends still know."""
        found = {}
        for submission, ids in self.newest(elements):
            known = submission.open().states(list(ids.values()))
            found |= {element: known[id] for element, id in ids.items() if id in known}
        return found

    def alive(self, elements: Iterable[str]) -> set[str]:
        """Those of `elements` that run or wait to."""
        known = self.states(elements).items()
        return {element for element, (state, _) in known if state in ALIVE}

    def unfinished(self, folder: Path) -> list[str]:
        """The elements of which some run in the study's `folder` has no result."""
        return [
            element
            for element, runs in self.groups.items()
            if not all((folder / run / "result.json").exists() for run in runs)
        ]

    def elements(self, names: Iterable[str]) -> list[str]:
        """The elements that hold the runs `names`; all of them when none is named.

        Raises:
            UserError: for a run that no submission holds.
        """
        current = self.current()
        holders = {run: element for element in current for run in self.groups[element]}
        for name in names:
            if name not in holders:
                raise UserError(f"{name!r}: no such run was submitted{nearest(name, holders)}")
        chosen = {holders[name] for name in names} or set(current)
        return [element for element in current if element in chosen]


def read(folder: Path) -> Journal | None:
    """Read the journal of a study's folder; None when nothing was ever submitted.

    Raises:
        UserError: when it cannot be read or is not one.
    """
    path = folder / FILE
    if not path.exists():
        return None
    content = record.read_json(path)
    try:
        for each in content["submissions"]:
            if isinstance(each["spec"]["env"], dict):  # only names are read: it held values too
                each["spec"]["env"] = list(each["spec"]["env"])
        return record.held_to(Journal, content, FILE)
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{path}: not a record of jobs: {error}") from error


def check_owner(folder: Path) -> None:
    """Raise UserError where others than this user say in jobs.json what a retry would run."""
    path = folder / FILE
    if storage.remote(path):  # whoever may write the bucket may run things there anyhow
        return
    about = path.stat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise UserError(
            f"{path}: another user wrote it, or may have, and a retry runs what it says in your "
            "name; look at it and add --trust, or run the sweep's own command again"
        )


def submit(
    folder: Path, journal: Journal, backend: Backend, spec: JobSpec, env: Mapping[str, str]
) -> Journal:
    """Submit `spec` with its variables `env`, write it down, and return the journal with it."""
    ids = tuple(backend.submit(spec, env))
    name, options = backends.name_of(backend), dict(vars(backend))
    entry = Submission(name, options, spec, ids, record.now())
    journal = dataclasses.replace(journal, submissions=(*journal.submissions, entry))
    record.write_json(folder / FILE, dataclasses.asdict(journal))
    if not storage.remote(folder):
        (folder / FILE).chmod(0o644)  # whatever the umask: see `check_owner`
    return journal
