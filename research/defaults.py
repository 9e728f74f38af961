"""The whole config of a trial, every key with its default: nothing a run uses is hidden."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import data, families, mesh, optim


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
