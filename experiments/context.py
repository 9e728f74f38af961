"""What does a longer context buy, and whom?

Question: trained on windows of 16 to 512 bytes at equal tokens a step, how does the loss fall with
the length of context, and with the position in it; what does a model of long windows lose where
little context is there; and do larger models gain more?
Cost: 1.9e13 FLOPs in 18 trials, and 1.8e12 of scores, about 7 minutes on two cores.
Expected: the loss of a token is a power of its position with a floor, and early tokens are
predicted a little better by models that were trained on short windows (Kaplan et al. 2020, section
D.5, figures 20 and 21). Against the length of the window it is (alpha / c)^beta + gamma, with a
larger beta in larger models, which use context better (Xiong et al. 2023, figure 1).

Loss by position is `by_position`'s, a score an octave: of one octave all lengths may be compared,
where the loss of whole windows has more early positions the shorter these are. All lengths score
the same 262,144 bytes; the last octave of a length is one position, and noisy. At equal tokens
longer windows cost more FLOPs, by attention alone.

    python -m research power experiments/context.csv --loss loss --over length --by size \
        --where "position == 0"
    python -m research fit experiments/context.csv --law m2 --data length --loss loss \
        --where "position == 0 and size == 64"
    python -m research power experiments/context.csv --loss loss --over position --by size \
        --where "length == 512 and position > 0 and position < 512"

At the size of a pod: `LENGTHS` times 64, `SIZES` times 16 and `TOKENS` times 256 in a copy of this
file, with config.hardware.attention="splash" and mesh.sequence devices a window.
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
