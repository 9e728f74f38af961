"""Whether a report is still the one its run folder and this code would make, and still whole.

The page carries in its head a digest of what it was made of; report.stamp beside it says that
digest and one of the page and of every figure, as they were written.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import research
from research.errors import UserError
from research.run import files, record

FILE = "report.stamp"
CODE = ("report/*", "scaling/**/*.py", "run/*.py")
FILES = (
    "study.json", "*/config.json", "*/result.json", "*/provenance.json", "*/metrics.jsonl",
    "*/samples.*", f"*/{files.ALBUM}/*.png",
)  # fmt: skip


class Stamp(TypedDict):
    """What a report was made of, and {path in the run folder: digest} of what was written."""

    inputs: str
    outputs: dict[str, str]


def stamp(folder: Path, pictures: bool) -> str:
    """Digest of all a report is made of: the run folder's files, the code, with pictures or not."""
    code = Path(research.__file__).parent
    digest = hashlib.sha256(str(pictures).encode())
    for root, patterns in ((code, CODE), (folder, FILES)):
        files.digest_into(digest, root, patterns)
    return digest.hexdigest()


def is_current(folder: Path, inputs: str) -> bool:
    """Whether the report in `folder` was made of `inputs`, and nothing of it was changed since."""
    try:
        found: Stamp = record.read_json(folder / FILE, Stamp)
    except UserError:
        return False
    same = [files.digest(folder / name) == there for name, there in found["outputs"].items()]
    return found["inputs"] == inputs and all(same)


def write(folder: Path, inputs: str, outputs: Iterable[Path]) -> None:
    """Write the stamp of a report that is there: the last thing that is written of it."""
    digests = {str(path.relative_to(folder)): files.digest(path) for path in outputs}
    record.write_json(folder / FILE, Stamp(inputs=inputs, outputs=digests))
