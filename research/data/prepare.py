"""How the pack of a source is made, and the key that tells one pack from another."""

import hashlib
import json
from typing import Any

from research.data import sources
from research.data.pack import Pack, ensure
from research.data.settings import data_folder

CONTENT_VERSION = 1  # raised when a source is made in another way from the same settings

Data = dict[str, Any]


def prepare(data: Data) -> Pack:
    """Return the pack of a checked config, after preparing it when it is not there.

    Raises:
        UserError: when it cannot be prepared or a file of it is damaged.
    """
    made, fill = identity(data), sources.load(data["name"]).fill
    return ensure(data_folder(data), data["name"], key(data, made), made, lambda w: fill(w, data))


def identity(data: Data) -> dict[str, Any]:
    """Return every value that decides the content of the pack of a checked config."""
    source = sources.load(data["name"])
    if hasattr(source, "identity"):
        return {"version": CONTENT_VERSION, **source.identity(data)}
    settings = {key: value for key, value in data.items() if key not in ("name", "folder")}
    return {"version": CONTENT_VERSION, **settings}


def key(data: Data, made: dict[str, Any]) -> str:
    """Return the folder name of a pack: what a reader wants to know, then a digest of it all."""
    source, words = sources.load(data["name"]), [data["name"].replace("/", "-")]
    if hasattr(source, "words"):
        words += source.words(made)
    if data.get("resolution"):
        words += [f"r{data['resolution']}"]
    return "-".join([*words, f"v{CONTENT_VERSION}", digest(made)])


def digest(content: Any) -> str:
    """Ten hexadecimal digits that tell `content` from any other."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
