"""Which vocabulary is best for so much compute, in bits a byte?

Question: with bytes, and with byte pairs of 512 to 4,096 tokens, what does a text model reach for
its FLOPs at two widths; where is the best vocabulary at each budget; and does it grow with compute?
Cost: 3.1e13 FLOPs in 32 trials (trunks shared), and 2.6e12 of scores, about 10 minutes on two
cores.
Expected: each budget has a best vocabulary. More tokens spell more bytes each, so that a step sees
more text; but the tables and the head grow, and their rows are seen less often. The parameters of
the best one grow with compute more slowly than the others: as C^.42 where those do as C^.50 (Tao et
al. 2024, section 4.1; .84 by derivatives, 4.2). At the ladder's two layers the width is then C^.25,
and the number of tokens C^.17: 1.6 times as many for the largest budget as for the smallest.

Windows are 128 tokens whatever these spell, as in that paper: a larger vocabulary sees more bytes
of context. Scores read the whole validation split, since windows of other tokens hold other text.

    python -m research compare runs/vocabulary --arms byte,bpe_1024
    python -m research compare runs/vocabulary --arms bpe_1024,bpe_4096
    python -m research isoflop experiments/vocabulary.csv --params vocab --data tokens \
        --flops flops --loss loss --where "size == 32"
    python -m research fit experiments/vocabulary.csv --law vocabulary --params inner \
        --data tokens --loss loss --column vocabulary_parameters=tables

At the size of a pod: widths times 16, budgets times 65,536, a batch of 2,048 and vocabularies of
4,096 to 131,072 in a copy of this file, on a source as large.
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
