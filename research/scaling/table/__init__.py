"""Tables of runs: ours, or anybody's, in whatever layout."""

from research.scaling.table.file import read_frame
from research.scaling.table.table import (
    OWN_GROUP,
    UNSTATED,
    Table,
    asked,
    from_frame,
    read_file,
    read_runs,
)

__all__ = [
    "OWN_GROUP",
    "UNSTATED",
    "Table",
    "asked",
    "from_frame",
    "read_file",
    "read_frame",
    "read_runs",
]
