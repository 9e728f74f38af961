"""Whether two configs are the same run: what may change in a run folder, and what the user did."""

import copy
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configs
from research import defaults, recipes
from research.errors import UserError
from research.run import record

# What no number of a run depends on: where its arrays and its data lie, and what is kept of it. Of
# an autoencoder's folder data.sha256 says what it has to hold.
FREE = (
    "hardware.", "checkpoint.", "sampling.", "log_steps", "data.folder", "data.archive", "data.run",
)  # fmt: skip
BOUND = ("hardware.compute_dtype",)  # but for the precision of its products


def check_folder(folder: Path, config: ConfigDict, grows: bool = False) -> None:
    """Raise UserError when the run folder `folder` has another config.json.

    Args:
        grows: the run is a trunk, which is one run however far it goes.
    """
    path = folder / "config.json"
    if not path.exists():
        return
    found = record.read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a config; choose another --workdir or delete {folder}")
    changed = configs.changes(defaults.complete(found), configs.to_plain(config))
    free = (*FREE, "train.steps") if grows else FREE
    changed = {k: v for k, v in changed.items() if k.startswith(BOUND) or not k.startswith(free)}
    if not changed:
        return
    by_hand = {k: v for k, v in changed.items() if not _follows(k, found, config)} or changed
    what = [f"{key}: {before}, now {now}" for key, (before, now) in by_hand.items()]
    more = f", and {len(what) - 1} more" if len(what) > 1 else ""
    raise UserError(
        f"{folder} holds a run of another config ({what[0]}{more}); "
        "choose another --workdir or delete it"
    )


def _follows(key: str, before: dict, now: ConfigDict) -> bool:
    """Whether the recipe gave `key` its value both times, so that it changed with another key."""
    try:
        return all(_derived(key, config) for config in (configs.from_plain(before), now))
    except Exception:  # an old or foreign config.json, to which no recipe applies
        return False


def _derived(key: str, config: ConfigDict) -> bool:
    value = configs.lookup(config, key)
    blank = copy.deepcopy(config)
    section, name = configs.place(blank, f"--config.{key}")
    with section.ignore_type():
        section[name] = None
    recipes.apply(blank)
    return configs.lookup(blank, key) == value
