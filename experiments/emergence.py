"""Does writing a line of code that works emerge, or does it come as smoothly as the loss?

Question: as the loss of a text model falls, how do the share of real one-line bodies that it
completes so that they do what the original does, their smooth scores (whether each token is the
likeliest, edit distance, likelihood), and multiple choice about functions move; and does the loss
alone decide them, whatever the size?
Cost: 2.0e13 FLOPs in 17 trials, about 10 minutes on two cores, half of it completions. The
runs are in emergence.csv.
Expected, as found: nothing emerges down to 1.77 bits a byte, the least loss here, and so the study
cannot tell where it would. What moves, and what does not, from 3.25 bits on:

- Of 86 bodies no run completes one, nor has one whose every byte is the likeliest: a share of
  [0, .04] each. At the best likelihood of a body, 1.94 bits a byte, and 34 bytes, chance to draw
  one is 2^-65: bodies take a loss several times lower.
- The likelihood of the true bodies falls as the loss itself: as its power .995 [.90, 1.09], with a
  rank correlation of .97. One curve holds all sizes: 16 wide at 8e11 FLOPs and 32 wide at 2e11 have
  losses of 2.43 and 2.40 and likelihoods of 2.60 and 2.56.
- Edit distance is no smooth measure: in every run above 2.12 bits it is 70.48 bytes, to the digit
  that of 73 spaces, which is all they write; from 2.12 on it falls, to 41 to 52 below 1.85.
- Multiple choice of a body stays at chance, a quarter (.22 to .30 of 192 questions, the best run's
  interval holds .25), and 9 of 17 runs are at it: its law has no asymptote that is identified, and
  gamma is 1.3 [.0, 3.3]. It leans the right way (rank correlation with the loss -.58). The name to
  a docstring is above chance at all losses (.31 to .43 of 122) and does not go with them (-.29).

Literature: partly: likelihood is smooth where the share that is right is zero, but edit distance,
smooth in Schaeffer et al. 2023, has a threshold of the loss, as continuous measures may have in Du
et al. 2024 (arXiv 2403.15796), who find one curve of the loss for all sizes, as here. A leap, or
errors that fall with the loss (Gadre et al. 2024), cannot be seen at these losses.

    python -m research fit emergence.csv --loss "1 - choice_body" --column loss=loss \\
        --law loss_to_error --choices 4
    python -m research power emergence.csv --loss likelihood --over loss
    python -m research power emergence.csv --loss distance --over loss
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Tasks about functions against the loss, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = (
    "power --loss likelihood --over loss",
    "power --loss distance --over loss --where 'loss < 2.13'",
    "fit --loss '1 - choice_body' --column loss=loss --law loss_to_error --choices 4",
)
# Sizes near the best of their budgets, from the least that learns to the most that fits here.
LADDER = (
    (16, 2e10),
    (16, 5e10),
    (16, 2e11),
    (32, 2e11),
    (32, 8e11),
    (48, 1.6e12),
    (64, 3.2e12),
    (96, 6.4e12),
)
BESIDE = ((16, 8e11), (64, 8e11))  # too small and too large for it: at one loss, another size
SEEDS = {96: (0,)}  # by size; two elsewhere


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, asked at its end to choose and to write."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.evaluation.evaluators = ("validation", "completion", "choice")
    config.evaluation.examples = 1024
    return config


def get_trials(part: str) -> list[dict]:
    """The ladder with two seeds below its last rung, and two sizes beside it with one."""
    ladder = [(*rung, seed) for rung in LADDER for seed in SEEDS.get(rung[0], (0, 1))]
    beside = [(*rung, 0) for rung in BESIDE]
    return [{"size": size, "budget": c, "seed": seed} for size, c, seed in ladder + beside]
