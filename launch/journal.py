"""What was submitted for a study: jobs.json in its folder, enough to ask after it later."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from launch import backends, job
from launch.job import Backend, JobSpec
from research.errors import UserError, nearest
from research.run import record

FILE = "jobs.json"


@dataclasses.dataclass(frozen=True)
class Submission:
    """One job as it was handed over: the id of each element of `spec.array`, in its order."""

    backend: str
    options: dict[str, Any]
    spec: JobSpec
    ids: tuple[str, ...]
    submitted_at: str

    def open(self) -> Backend:
        """The backend it went to, with the options it had."""
        return backends.make(self.backend, self.options)


@dataclasses.dataclass(frozen=True)
class Journal:
    """All submissions of a study, the newest last.

    `groups` maps each element (the first run of a group) to the ids of the group's runs.
    """

    study: str
    groups: dict[str, list[str]]
    submissions: tuple[Submission, ...] = ()

    def current(self) -> dict[str, tuple[Submission, str]]:
        """{element: (its newest submission, its id there)} of those that the study still has."""
        found = {}
        for submission in self.submissions:
            for element, id in zip(submission.spec.array, submission.ids, strict=True):
                found[element] = (submission, id)
        return {element: last for element, last in found.items() if element in self.groups}

    def states(self, elements: Iterable[str]) -> dict[str, tuple[str, str]]:
        """{element: (state, where)} of those of `elements` that their backends still know."""
        found, current, asked = {}, self.current(), set(elements)
        for submission in self.submissions:
            newest = {e: id for e, (latest, id) in current.items() if latest is submission}
            ids = {id: element for element, id in newest.items() if element in asked}
            if ids:
                known = submission.open().states(list(ids))
                found |= {ids[id]: state for id, state in known.items()}
        return found

    def alive(self, elements: Iterable[str]) -> set[str]:
        """Those of `elements` that run or wait to."""
        known = self.states(elements).items()
        return {element for element, (state, _) in known if state in (job.WAITING, job.RUNNING)}

    def unfinished(self, folder: Path) -> list[str]:
        """The elements of which some run in the study's `folder` has no result."""
        return [
            element
            for element, runs in self.groups.items()
            if not all(record.exists(folder / run / "result.json") for run in runs)
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
    if not record.exists(path):
        return None
    content = record.read_json(path)
    try:
        submissions = tuple(_submission(each) for each in content["submissions"])
        return Journal(content["study"], content["groups"], submissions)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a record of jobs: {error}") from error


def submit(folder: Path, journal: Journal, backend: Backend, spec: JobSpec) -> Journal:
    """Submit `spec`, write it down, and return the journal with it."""
    ids = tuple(backend.submit(spec))
    name, options = backends.name_of(backend), dict(vars(backend))
    entry = Submission(name, options, spec, ids, record.now())
    journal = dataclasses.replace(journal, submissions=(*journal.submissions, entry))
    record.write_json(folder / FILE, dataclasses.asdict(journal))
    return journal


def _submission(content: dict[str, Any]) -> Submission:
    words = {key: tuple(content["spec"][key]) for key in ("argv", "array")}
    spec = JobSpec(**{**content["spec"], **words})
    return Submission(**{**content, "spec": spec, "ids": tuple(content["ids"])})
