"""Checkpoints in s3://, where Orbax cannot write: it keeps them here, and copies go there and back.

A step counts in the bucket once its object COMMITTED is there, which is written last.
"""

import tempfile
from pathlib import Path

import orbax.checkpoint as ocp

from research.run import buckets, record

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
            buckets.download(bucket / step, Path(self.copy.name) / step)
        super().__init__(Path(self.copy.name), options=options)

    def publish(self) -> None:
        """Make the bucket hold the steps that are finished here, and no others."""
        record.guard(self.bucket / COMMITTED)
        kept, published = {str(step) for step in self.all_steps()}, self._published()
        for step in sorted(kept - published, key=int):
            buckets.remove(self.bucket / step)  # what a killed process left of it
            buckets.upload(Path(self.copy.name) / step, self.bucket / step)
            buckets.write(self.bucket / step / COMMITTED, b"")
        for step in published - kept:
            buckets.remove(self.bucket / step / COMMITTED)
            buckets.remove(self.bucket / step)

    def _published(self) -> set[str]:
        steps = buckets.names(self.bucket)
        return {step for step in steps if buckets.exists(self.bucket / step / COMMITTED)}
