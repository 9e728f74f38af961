"""Text in a folder that `datasets` (Hugging Face) saved, or can read as a local data set.

Nothing is downloaded and nothing is cached: rows are streamed from the folder. The package is an
extra, `pip install -r requirements-text.txt`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.data import sides
from research.data.settings import SPLITS, Config
from research.data.sources import files
from research.errors import UserError, nearest

ON_REQUEST = True
# path: a folder of `save_to_disk`, or one of Parquet, JSON, CSV or Arrow files, whose names tell
# their splits; field: of a row, which holds the text; together: near-duplicates are on one side.
DEFAULTS = {"path": "", "field": "text", "together": True}


def identity(data: Config) -> dict[str, Any]:
    """The names, sizes and times of all files decide what is in them."""
    own = {"field": data["field"], "together": data["together"]}
    return own | {"listing": files.digest(data["path"], ("*",))}


def documents(data: Config) -> Iterator[tuple[str | None, bytes]]:
    """Yield (split, text) of each row that is not blank.

    Splits of the data set are kept; a validation or test split that it lacks is cut from train by
    the hash of the row's number. Only where it has neither can near-duplicates be put together.

    Raises:
        UserError: when the folder is no data set, or a row has no text in data.field.
    """
    parts = _open(data["path"])
    missing = {split for split in ("validation", "test") if split not in parts}

    def side(key: str) -> str:
        split, cut = key.partition(" ")[0], sides.side(key)
        return cut if split == "train" and cut in missing else split

    def read() -> Iterator[tuple[str, bytes]]:
        for split in (split for split in SPLITS if split in parts):
            for number, text in enumerate(_texts(parts[split], split, data)):
                if text.strip():
                    yield f"{split} {number}", text

    yield from sides.sided(read, data["together"] and len(missing) == 2, side)


def _texts(rows: Any, split: str, data: Config) -> Iterator[bytes]:
    field, known = data["field"], rows.column_names
    if known and field not in known:
        raise UserError(
            f"{data['path']} has no column data.field {field!r} in {split}; it has"
            f" {', '.join(known)}{nearest(field, known)}"
        )
    for number, row in enumerate(rows, start=1):
        value = row.get(field)
        if not isinstance(value, str):
            raise UserError(
                f"{data['path']} {split} row {number} has no text in {field!r} but"
                f" {type(value).__name__}"
            )
        if "\0" in value:
            raise UserError(f"{data['path']} {split} row {number} holds a zero byte; it is no text")
        yield value.encode()


def _open(path: str) -> dict[str, Any]:
    """The streams of rows in a folder, by split; all of them is train where it has no splits."""
    package = _package()
    if not Path(path).is_dir():
        raise UserError(f"data.path is {path!r}; expected a folder that is here")
    saved = any(Path(path, name).exists() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = package.load_from_disk(path)
        else:
            found = package.load_dataset(path, streaming=True)
    except Exception as error:  # of its many readers
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"datasets cannot read data.path {path}: {reason}") from error
    found = found if isinstance(found, dict) else {"train": found}
    if "train" not in found:
        raise UserError(f"{path} has no train split; it has {', '.join(found)}")
    return {split: found[split] for split in SPLITS if split in found}


def _package() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "data.name 'hf_datasets' needs the package datasets: pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    return datasets
