"""What do the studies of autoregressive models ask of a pod?

Question: each part is a study of this folder with every network 16 times as wide and, at every
step, 256 times the tokens: windows and batches are 16 times as long, and vocabularies 32 times as
large. Numbers of steps and all else stay, so a budget is 65,536 times as large, as FLOPs go with
the square of parameters. On which slice does it fit, how long does it take and what does it cost?
Cost: 3.6e17 (mixers) to 1.3e19 FLOPs (context) a study, 3.7e19 in all. By a dry run the step of the
largest networks of most, 403 million parameters, needs 2.4 of the 15.75 GiB of each chip of a
v5e:4x8 and reaches at most 60% of their peak, at which all eight take about 160 minutes.
Expected: what the docstring of each study says of its own size; which of it holds here is what the
runs would tell. None of them has been run at this size.
Data: the bytes of Dolma, as in experiments/lm_7b.py, of which they read up to 4 billion. A dry run
needs neither them nor a network, nor a chip.

    python -m research sweep --config experiments/pod_studies.py:shape_text --dry_run \
        --topology v5e:4x8

Studies whose data end (bodies of the standard library, two domains of this machine) or have one
size (images) are not among them.
"""

from copy import deepcopy
from importlib import import_module
from typing import Any

from ml_collections import ConfigDict

from research import defaults, recipes

STUDIES = ("shape_text", "vocabulary", "experts", "repetition", "overtraining", "context",
           "length_generalisation", "mixers")  # fmt: skip
PARTS = {
    name: import_module(f"experiments.{name}").PARTS["text"]
    | {"title": f"{name} at the size of a pod", "data": "dolma"}
    for name in STUDIES
}
WIDER = 16
# By what a key of a study grows; others stay as they are.
FACTORS = {
    "size": WIDER, "data.length": WIDER, "model.max_length": WIDER, "evaluation.lengths": WIDER,
    "train.batch_size": WIDER, "data.vocab": 2 * WIDER, "data.unique": WIDER**2,
    "budget": WIDER**4,
}  # fmt: skip


def get_config(part: str) -> ConfigDict:
    """One run of the study on Dolma, its parameters and optimizer state split over all chips."""
    small = import_module(f"experiments.{part}")
    config, axes = small.get_config("text"), small.get_trials("text")[-1]
    if not (config.train.batch_size or "train.batch_size" in axes):  # the recipe's, of the largest
        own = deepcopy(config)
        defaults.override(own, (), axes)
        config.train.batch_size = recipes.apply(own).train.batch_size
    length = config.data.length
    config.part, config.data = part, defaults.config("autoregressive", "dolma").data
    config.data.update(feature="text", length=_larger("data.length", length))
    config.size = _larger("size", config.size)
    config.train.batch_size = _larger("train.batch_size", config.train.batch_size)
    if lengths := config.evaluation.get("lengths"):
        config.evaluation.lengths = _larger("evaluation.lengths", lengths)
    config.evaluation.batch_size = 32  # a multiple of the chips
    config.hardware.update(compute_dtype="bfloat16", remat="full", unroll=1)
    config.hardware.mesh.update(data=1, fsdp=-1)
    return config


def get_trials(part: str) -> list[dict]:
    """Those of the study, each axis as much larger."""
    trials = []
    for axes in import_module(f"experiments.{part}").get_trials("text"):
        larger = {axis: _larger(axis, value) for axis, value in axes.items()}
        if vocab := axes.get("data.vocab"):  # which is in the name of its arm
            larger["arm"] = axes["arm"].replace(str(vocab), str(larger["data.vocab"]))
        trials.append(larger)
    return trials


def _larger(key: str, value: Any) -> Any:
    """What a key's value is at the size of a pod."""
    if key not in FACTORS or value is None:
        return value
    if isinstance(value, tuple):
        return tuple(_larger(key, each) for each in value)
    return FACTORS[key] * value
