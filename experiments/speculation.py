"""How much faster does a small network of a sweep, which guesses ahead, make a larger one?

Question: how do the share alpha of guesses that hold and the speed-up of speculative decoding move
with both sizes, by FLOPs and by the clock?
Cost: 1.3e13 FLOPs in 5 trials, about 4 minutes on two cores, and one of `speculation`. The runs are
the largest of each width in `emergence`; their ten pairs are in speculation.csv, as written, while
no sweep ran, by

    python -m research speculation runs/speculation --guesses 1,2,4 --out speculation.csv

Expected, as found: after 16 prompts of the validation split, 64 bytes each at temperature 1, 95%
intervals (which leave out that pairs share runs):

- alpha is .69 to .81. 1 - alpha falls as the small network's parameters to the power -.23 [-.28,
  -.18], and hardly moves with the large one's, +.05 [-.00, .11]: a guesser is worth much the same
  to any larger network. In perplexities a byte alpha is .92 - .069 small + .043 large, all but 2%
  of its variance.
- Tokens a look are those of equation 1 to within 2.6% for 1 and 2 guesses, and 6% for 4, so that
  guesses hold nearly independently of one another.
- By FLOPs, where a look at all guesses costs what one step does, the best of 1, 2 and 4 guesses is
  1.1 to 2.3 times as fast; at 2 guesses that grows as large^.26 [.17, .34] and falls as small^-.20
  [-.28, -.12]. For the largest, 382k parameters, the smallest guesser, 26 times smaller, is best.
- By the clock on two cores nothing is gained: .50 to .91 times as fast with the best of 1, 2 and 4.
  A step of 14k parameters takes .35 of the seconds of one of 382k, not .04, and .65 to .9 of those
  of the others, as most of it is overhead; from that c theorem 3.8 promises at most 1.4. Measured
  is .51 to .77 of what it promises, as it leaves out what a look at several tokens costs more than
  a step, the verdicts and the second reading of the prompt. It grows with the large network alone,
  at 2 guesses as large^.26 [.20, .31] and small^-.03 [-.08, .02]: it takes larger ones than these.
Literature: partly: tokens a look and the speed-up by FLOPs are as in Leviathan et al. (2023), and
alpha is affine in both perplexities as in Bozorgkhoo and Molybog (2026, arXiv 2603.11053), but the
2 to 3 times of the former by the clock are not there at these sizes, and their guessers of a
hundredth of the size, or a two-hundredth, are smaller than any here.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Guessers of many sizes, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = (
    'power --loss "1 - alpha" --over small_params --over large_params --where "guesses == 2"',
    'power --loss measured --over small_params --over large_params --where "guesses == 2"',
)
BUDGETS = {16: 8e11, 32: 8e11, 48: 1.6e12, 64: 3.2e12, 96: 6.4e12}  # by width


def get_config(part: str) -> ConfigDict:
    """One run of the ladder."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    return config


def get_trials(part: str) -> list[dict]:
    """Each width at the largest budget at which `emergence` has it."""
    return [{"size": size, "budget": budget, "seed": 0} for size, budget in BUDGETS.items()]
