"""Does a masked model make more of data that are repeated than an autoregressive one?

Question: of a small slice of Python source, 32,768 bytes, read 1 to 100 times, where do masked
diffusion and autoregression cross in the bits of text that neither has read?
Cost: 9.0e12 FLOPs in 21 trials (trunks shared), about 11 minutes on two cores beside other work.
The runs are in masked_repetition.csv.
Expected by the literature: repeated data are worth something to masked diffusion for some 500
passes, to autoregression for some 15, so that after enough of them masked diffusion is better
(Prabhudesai et al. 2025; Ni et al. 2025).
Found:

- At 32 wide they cross after some 21 passes, between 16 and 50: autoregression, whose 41,000
  parameters come to know 32,768 bytes by heart, is best at 16 (3.14 bits a byte), and has 4.54
  after 50 and 5.91 after 100; masked diffusion falls all the way, 3.54, 3.33, 3.23, and to 3.17
  after 400.
- At 16 wide they do not cross: after 100 passes autoregression has lost .08 bits from its best,
  3.03 at 16 passes, and masked diffusion is at 3.47.
- With the best size and the best number of passes of each, autoregression stays better: 3.03
  against 3.17, with a seventieth of the FLOPs. What masked diffusion gains is robustness: it
  needs no early stopping.
- Its gain fades: fourfold passes from 16 bring .30 bits, from 100 to 400 .06.

Why not more: two sizes, one slice and seed, no regularisation but weight decay, and bits of
masked diffusion are an upper bound.

Literature: partly agrees with Prabhudesai et al. 2025 and Ni et al. 2025: masked diffusion goes
on learning where autoregression gets worse, but to 400 passes its best is not the better one.

    python -m research power experiments/masked_repetition.csv --loss loss --over epochs \
        --over size --by part

At the size of a pod: sizes times 16 and `UNIQUE` times 256 in a copy of this file.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    name: {
        "title": f"{title} of one small text, read again and again",
        "family": family,
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
    for name, title, family in (
        ("next", "Autoregression", "autoregressive"),
        ("masked", "Masked diffusion", "discrete_diffusion"),
    )
}
ANSWERS = ("power --loss loss --over epochs --over size --by part",)
SIZES = (16, 32)
UNIQUE = 2**15  # bytes
EPOCHS = (1, 4, 16, 50, 100)
FURTHER = {"next": (), "masked": ((32, 400),)}  # of what goes on learning
BATCH, LENGTH = 8, 128


def get_config(part: str) -> ConfigDict:
    """One run of the ladder on the slice."""
    config = defaults.config(PARTS[part]["family"], "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.data.length, config.data.unique, config.train.batch_size = LENGTH, UNIQUE, BATCH
    config.evaluation.examples, config.log_steps = 1024, 200
    return config


def get_trials(part: str) -> list[dict]:
    """Both sizes, each as often through the slice as `EPOCHS` says, and one run more."""
    pairs = [(size, epochs) for size in SIZES for epochs in EPOCHS]
    return [
        {"size": size, "train.steps": epochs * UNIQUE // (BATCH * LENGTH), "seed": 0}
        for size, epochs in (*pairs, *FURTHER[part])
    ]
