"""The whole config of a trial, every key with its default: nothing a run uses is hidden."""

import math

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research import data, families, mesh, optim

RANGES = {  # [low, high) of keys outside config.train, by section
    "": {"seed": (0, 2**32), "log_steps": (1, math.inf)},
    "evaluation": {"batch_size": (1, math.inf), "examples": (1, math.inf)},
    "checkpoint": {
        "keep": (1, math.inf),
        "every_steps": (0, math.inf),
        "every_seconds": (0, math.inf),
    },
    "sampling": {"num": (0, math.inf)},
    "hardware": {
        "unroll": (1, math.inf),
        "accumulation": (1, 2**31),
        "microbatches": (0, 2**31),
        "loss_chunks": (1, 2**31),
    },
}


def check_ranges(config: ConfigDict) -> None:
    """Raise UserError for a number of `config` that is out of its range, but config.train's."""
    for section, ranges in RANGES.items():
        tree = config[section] if section else config
        configs.check_ranges(tree, f"config.{section}" if section else "config", ranges)


def hardware() -> ConfigDict:
    """Return `config.hardware`: where and how a step is computed, never what."""
    return ConfigDict(
        dict(
            mesh=mesh.default_mesh(),
            accumulation=1,  # micro-batches of a step, one after another
            microbatches=0,  # of the pipeline; 0: one a stage
            remat="none",  # what the backward pass computes again
            unroll=6,  # deepest stack that is unrolled; deeper ones are scanned
            attention="dense",
            loss_chunks=1,  # of positions, through the head one after another
            compute_dtype="float32",  # of products; parameters and their sums stay float32
            shard_optimizer=False,  # split the optimizer's state over replicas too
            offload_optimizer=False,  # keep it in the host's memory between steps
        )
    )


def config(family: str, source: str) -> ConfigDict:
    """Return the config of `family` on data `source`; None means "the recipe decides"."""
    module = families.load(family)
    tree = ConfigDict(
        dict(
            part="",  # of the study; a label
            family=family,
            recipe="ladder",
            size=placeholder(int),  # the one dial: width of the network
            budget=placeholder(float),  # FLOPs of the run, from step 0; sets train.steps
            seed=0,
            train=optim.default_train(),
            evaluation=dict(batch_size=64, examples=2048),
            sampling=dict(num=8),
            checkpoint=dict(every_seconds=60.0, every_steps=0, keep=2),
            log_steps=20,
            hardware=hardware(),
        )
    )
    tree.model = module.default_model()
    tree.data = data.default(source)
    for section in ("sampling", "evaluation"):
        if hasattr(module, f"default_{section}"):
            tree[section].update(getattr(module, f"default_{section}")())
    return tree
