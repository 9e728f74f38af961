"""Whether a report is still the one its run folder and this code would make."""

import hashlib
from pathlib import Path

import research

CODE = ("report/*", "scaling/**/*.py")
FILES = ("study.json", "*/result.json", "*/provenance.json", "*/metrics.jsonl", "*/samples.*")


def stamp(folder: Path, pictures: bool) -> str:
    """Digest of all a report is made of: the run folder's files, the code, with pictures or not."""
    code = Path(research.__file__).parent
    digest = hashlib.sha256(str(pictures).encode())
    for root, patterns in ((code, CODE), (folder, FILES)):
        for path in sorted(p for pattern in patterns for p in root.glob(pattern) if p.is_file()):
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(page: Path, digest: str) -> bool:
    """Whether `page` exists and carries `digest`."""
    if not page.is_file():
        return False
    with page.open(encoding="utf-8") as file:
        return digest in file.read(2000)
