"""How often may the same text be read again before it is worth nothing?

Question: of 65,536 and of 262,144 bytes of Python, read 1 to 64 times by three sizes, how much does
each pass still teach, against as many bytes that were never seen before; after how many passes is a
repeated token worth 1 / e of a new one; and from where on does the loss rise?
Cost: 1.6e13 FLOPs in 33 trials (trunks shared), about 7 minutes on two cores.
Expected: up to 4 passes are nearly as good as new text, and a token's worth decays as
exp(-repeats / R_D*) with R_D* = 15.4, so that beyond some 40 passes there is nothing left to gain
(Muennighoff et al. 2023, equations 5 and 6; their own runs leave anything from 15 to 200 open). The
law levels off and never turns. But 80,000 parameters are more than 65,536 bytes deserve, and may
come to know them by heart and get worse, as the largest of theirs did on the smallest sets.

The text that is repeated are windows from anywhere in the train split (`config.data.unique`), the
same at every size, the smaller set within the larger: it is like what is held out. All runs are
scored on one validation split. The third set is all of the split, 11 million bytes, read less than
once.

    python -m research fit experiments/repetition.csv --law muennighoff --params params \
        --data tokens --unique unique --loss loss
    python -m research fit experiments/repetition.csv --law chinchilla --params params \
        --data tokens --loss loss --where "epochs <= 1"

At the size of a pod: `SIZES` times 16, `UNIQUE`, `TOKENS` and `BATCH` times 256 in a copy of this
file, on a source of a billion tokens or more.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Text that is repeated, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
SIZES = (16, 32, 48)
UNIQUE = {"small": 2**16, "middle": 2**18, "all": 0}  # bytes
TOKENS = (2**16, 2**18, 2**20, 2**22)  # read in all
BATCH, LENGTH = 8, 128


def get_config(part: str) -> ConfigDict:
    """One run of the ladder."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.data.length, config.train.batch_size = LENGTH, BATCH
    config.evaluation.examples, config.log_steps = 1024, 200
    return config


def get_trials(part: str) -> list[dict]:
    """Every set, read once and more often, by every size."""
    return [
        {
            "arm": arm,
            "data.unique": unique,
            "size": size,
            "train.steps": tokens // (BATCH * LENGTH),
            "seed": 0,
        }
        for size in SIZES
        for arm, unique in UNIQUE.items()
        for tokens in TOKENS
        if tokens >= unique
    ]
