"""How often may the same text be read again before it is worth nothing?

Question: of 65,536 and of 262,144 bytes of Python, read 1 to 64 times by three sizes, how much does
each pass still teach, against as many bytes that were never seen before; after how many passes is a
repeated token worth 1 / e of a new one; and from where on does the loss rise?
Cost: 1.6e13 FLOPs in 33 trials (trunks shared), about 7 minutes on two cores. The runs are in
repetition.csv.
Expected, as found: a token's worth decays as exp(-repeats / R_D*) (Muennighoff et al. 2023,
equations 5 and 6, who have 15.4). Of runs of at most 16 passes R_D* is 18 [6.5, 36]; with those of
64 it is 12 [3.5, 20]. R_N*, by which surplus parameters decay, is not identified.

- Four passes cost .02 to .06 bits a byte against as many tokens never seen before, .6 to 2.3% of
  the loss. One pass of a set costs -.02 to .05: so much is the scatter of seeds and sets, and what
  four passes cost can hardly be told from it.
- What 16 passes cost depends on the set and the size, by a factor of 24: .03, .07 and .09 bits at
  16, 32 and 48 wide for 262,144 bytes, and .12, .30 and .61 for 65,536. The law has no such term,
  and misses by 12% (scatter) with all runs.
- The loss of the small set turns: at 32 and 48 wide it is least at 16 and 4 passes, and after 64
  higher by .33 and 1.59 bits, 80,000 parameters having come to know 65,536 bytes by heart. At 16
  wide it still falls at 64, as all do on the middle set to 16.

The text that is repeated are windows from anywhere in the train split (`config.data.unique`), the
same at every size, the smaller set within the larger: it is like what is held out. All runs are
scored on one validation split. The third set is all of the split, 11 million bytes, read less than
once. One seed.

Literature: agrees with Muennighoff et al. 2023 up to 16 passes, of a set that the network cannot
know by heart; beyond, losses rise, which their law cannot say.

    python -m research fit experiments/repetition.csv --law muennighoff --params params \
        --data tokens --unique unique --loss loss --where "epochs <= 16"
    python -m research fit experiments/repetition.csv --law chinchilla --params params \
        --data tokens --loss loss --where "epochs <= 1"

At the size of a pod: experiments/pod_studies.py:repetition.
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
ANSWERS = (
    "fit --law muennighoff --params params --data tokens --unique unique --loss loss"
    " --where 'epochs <= 16'",
)
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
