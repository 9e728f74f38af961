"""Checkpoints in s3://, where Orbax cannot write: it keeps them here, and copies go there and back.

A step counts in the bucket once its object COMMITTED is there, which is written last.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import orbax.checkpoint as ocp

from research.run import storage

COMMITTED = "COMMITTED"


class Mirror(ocp.CheckpointManager):
    """A manager of a local copy of the checkpoints in `bucket`.

    Only `publish` writes there: Orbax waits and closes by itself, when the folder may be another's.
    A process that is killed before it loses what it saved since.
    """

    def __init__(self, bucket: Path, options: ocp.CheckpointManagerOptions):
        self.bucket = bucket
        self.copy = tempfile.TemporaryDirectory(prefix="isoflop-")
        for step in self._published():
            store, name = self._at(step)
            store.get(f"{name}/", f"{self.copy.name}/{step}/", recursive=True)
        super().__init__(Path(self.copy.name), options=options)

    def publish(self) -> None:
        """Make the bucket hold the steps that are finished here, and no others."""
        storage.guard(self.bucket / COMMITTED)
        kept, published = {str(step) for step in self.all_steps()}, self._published()
        for step in sorted(kept - published, key=int):
            self._remove(step)  # what a killed process left of it
            store, name = self._at(step)
            store.put(f"{self.copy.name}/{step}/", f"{name}/", recursive=True)
            storage.write(self.bucket / step / COMMITTED, b"")
        for step in published - kept:
            self._remove(step)

    def _remove(self, step: str) -> None:
        (self.bucket / step / COMMITTED).unlink(missing_ok=True)
        store, name = self._at(step)
        with contextlib.suppress(FileNotFoundError):
            store.rm(name, recursive=True)

    def _at(self, step: str) -> tuple[Any, str]:
        return fsspec.url_to_fs(str(self.bucket / step))

    def _published(self) -> set[str]:
        steps = storage.names(self.bucket)
        return {step for step in steps if (self.bucket / step / COMMITTED).exists()}
