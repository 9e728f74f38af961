"""What does a longer context buy, and whom?

Question: trained on windows of 16 to 512 bytes at equal tokens a step, how does the loss fall with
the length of context, and with the position in it; what does a model of long windows lose where
little context is there; and do larger models gain more?
Cost: 1.9e13 FLOPs in 18 trials, and 1.8e12 of scores, about 7 minutes on two cores.
The runs are in context.csv.
Expected, as found: only to 128 bytes as in the literature, as a step has few long windows.

- At equal tokens the loss of whole windows falls up to 128 bytes and rises beyond, at every width:
  at 64 wide 2.18, 2.05, 1.97, 1.93, 1.96 and 2.02 bits a byte from 16 to 512. So a power of the
  length is none over all of it, -.02 [-.06, .02], and the law with a floor is not identified.
- To 128 it falls as length^-.029 [-.053, -.005], ^-.046 [-.095, .003] and ^-.057 [-.102, -.013] at
  24, 48 and 64 wide: by 6, 9 and 11% of the loss. Larger models gain more, in order, though those
  intervals meet.
- By position, in windows of 512, the loss falls as position^-.065, ^-.095 and ^-.104 (+-.05 to
  .07), all of it before byte 32: from there to 511 it is flat, ^.002 [-.002, .006] and ^.003 twice.
- A model of long windows loses at every octave: from byte 8 to 15 the loss rises with the length of
  training as length^.027 at all widths ([.004, .051] at most), by .2 bits from 32 to 512 at 64
  wide; from 128 to 512 it rises by .09 to .17 at bytes 32 to 127, where context is the same.

So what is lost beyond 128 bytes is lost in training: a step of 1,024 tokens is two windows of 512,
whose tokens are alike. How much of it is for the few windows, and how much for their length, cannot
be told without larger batches. One seed.

Literature: partly: models of short windows are better at early tokens (Kaplan et al. 2020, section
D.5), and larger models gain more from length (Xiong et al. 2023, figure 1) up to 128 bytes. Beyond,
losses rise where both fall.

    python -m research power experiments/context.csv --loss loss --over length --by size \
        --where "position == 0 and length <= 128"
    python -m research power experiments/context.csv --loss loss --over position --by size \
        --where "length == 512 and position > 0 and position < 512"
    python -m research power experiments/context.csv --loss loss --over length --by size \
        --where "position == 8"

Loss by position is `by_position`'s, a score an octave, named by its first position. All lengths
score the same 262,144 bytes; the last octave of a length is one position, and noisy. The FLOPs
of a run stand in its row of position 0. At equal tokens longer windows cost more, by attention.

At the size of a pod: experiments/pod_studies.py:context.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Length of context, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = (
    "power --loss loss --over length --by size --where 'position == 0 and length <= 128'",
    "power --loss loss --over position --by size"
    " --where 'length == 512 and position > 0 and position < 512'",
    "power --loss loss --over length --by size --where 'position == 8'",
)
SIZES, LENGTHS = (24, 48, 64), (16, 32, 64, 128, 256, 512)
STEPS, TOKENS, SCORED = 1536, 1024, 2**18  # tokens of a step, and of the validation split


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, scored by position too."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.train.steps, config.log_steps = STEPS, 200
    config.evaluation.evaluators = ("validation", "by_position")
    return config


def get_trials(part: str) -> list[dict]:
    """Every length by every size, of one amount of text."""
    return [
        {
            "size": size,
            "data.length": length,
            "train.batch_size": TOKENS // length,
            "evaluation.examples": SCORED // length,
            "seed": 0,
        }
        for size in SIZES
        for length in LENGTHS
    ]
