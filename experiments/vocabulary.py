"""Which vocabulary is best for so much compute, in bits a byte?

Question: with bytes, and with byte pairs of 512 to 4,096 tokens, what does a text model reach for
its FLOPs at two widths; where is the best vocabulary at each budget; and does it grow with compute?
Cost: 3.1e13 FLOPs in 32 trials (trunks shared), and 2.6e12 of scores, about 12 minutes on two
cores. The runs are in vocabulary.csv.
Expected, as found: each budget has a best vocabulary, it grows with compute, and bytes are far from
it. More tokens spell more bytes each, so that a step sees more text; but the tables and the head
grow, and their rows are seen less often.

- At 32 wide 2,048 tokens are best at 2e11 and 4e11 FLOPs, 4,096 at 8e11 and 1.6e12; at 64 wide
  2,048 at 8e11 and 4,096 at 1.6e12 and 3.2e12, the most that were tried. By `isoflop` the best
  number of tokens at 32 wide is 2,370 at 2e11 and 4,470 at 1.6e12, C^.31 [.19, .42].
- 1,024 tokens need 1.64 times the FLOPs [1.07, 2.50] of 4,096 at equal loss (1.80 bits a byte), and
  that grows as C^.27 [.07, .47]; 2,048 need 1.20 times [1.08, 1.33], growing as C^.22 [.09, .35].
- Bytes need 2.9 times the FLOPs of 512 tokens at 32 wide, 3.5 [1.8, 7.0] of 1,024 at 64, and do not
  come near the losses of more tokens: 1.85 bits a byte against 1.58 at 3.2e12.
- The law of Tao et al., with a term of the vocabulary's parameters N_v, fits all 32 runs to 1.3%:
  41 N_v^-.40 [-.29, -.53] beside 3.0 N^-.34 [-.08, -.45] of the others. One seed.

Literature: agrees with Tao et al. 2024 that the best vocabulary grows with compute and the common
ones are too small. Their power of its parameters, C^.42 (section 4.1), is along networks that grow,
too, which is another question than that of one width.

Windows are 128 tokens whatever these spell, as in that paper: a larger vocabulary sees more bytes
of context. Scores read the whole validation split, since windows of other tokens hold other text.

    python -m research compare experiments/vocabulary.csv --arms bpe_1024,bpe_4096 \
        --params params --data tokens --flops flops --loss loss
    python -m research isoflop experiments/vocabulary.csv --params vocab --data tokens \
        --flops flops --loss loss --where "size == 32 and vocab > 256"
    python -m research fit experiments/vocabulary.csv --law vocabulary --params inner \
        --data tokens --loss loss --column vocabulary_parameters=tables

At the size of a pod: experiments/pod_studies.py:vocabulary.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Vocabularies of byte pairs, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = (
    "compare --arms bpe_1024,bpe_4096 --params params --data tokens --flops flops --loss loss",
    "compare --arms bpe_2048,bpe_4096 --params params --data tokens --flops flops --loss loss",
    "isoflop --params vocab --data tokens --flops flops --loss loss"
    " --where 'size == 32 and vocab > 256'",
)
BYTES = 256
# By width: the vocabularies, and the budgets.
GRID = {
    32: ((BYTES, 512, 1024, 2048, 4096), (2e11, 4e11, 8e11, 1.6e12)),
    64: ((BYTES, 1024, 2048, 4096), (8e11, 1.6e12, 3.2e12)),
}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, with one batch so that horizons share a trunk."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.part, config.sampling.num = part, 0
    config.train.batch_size, config.log_steps = 8, 200
    config.evaluation.examples = 2100  # windows of bytes: more than there are
    return config


def get_trials(part: str) -> list[dict]:
    """Every vocabulary of a width at every budget of it."""
    return [
        {**_tokens(vocab), "size": width, "budget": budget, "seed": 0}
        for width, (vocabularies, budgets) in GRID.items()
        for vocab in vocabularies
        for budget in budgets
    ]


def _tokens(vocab: int) -> dict:
    """The axes of bytes, or of a tokenizer that is trained on the train split."""
    if vocab == BYTES:
        return {"arm": "byte", "data.tokenizer": "byte"}
    return {"arm": f"bpe_{vocab}", "data.tokenizer": "bpe", "data.vocab": vocab}
