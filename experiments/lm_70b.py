"""What does it take to train a decoder of Llama-2 70B's shape?

Question: on which slice, with which mesh, does a step of 1,024 sequences of 4,096 tokens (Llama's
4 million tokens) fit, how long must it take, and what does the whole run cost?
Cost: 6.1e23 FLOPs over 20 tokens a parameter; at the floor about 41 days (59,000 minutes) on 512
TPU v5p.
Expected: by the law of Besiroglu et al. 2024, 1.97 nats a token where tokens are pieces of words;
at 4.3 bytes a piece that is 0.66 bits a byte.
Paper: Touvron et al. 2023 (arXiv 2307.09288), whose 70B has 68,976,648,192 parameters and
grouped-query attention (Ainslie et al. 2023).
Data: the bytes of Dolma in a shape of 32,000 rows; see experiments/lm_7b.py.
"""

from ml_collections import ConfigDict

from experiments import lm_7b

PARTS = {"pretrain": lm_7b.PARTS["pretrain"] | {"title": "Llama-2 70B's shape on Dolma"}}
get_trials = lm_7b.get_trials


def get_config(part: str) -> ConfigDict:
    """Llama-2 70B: eight key-value heads."""
    config = lm_7b.get_config(part)
    config.data.length = 4096
    config.model.update(depth=80, width=8192, num_heads=64, num_kv_heads=8, mlp_ratio=28_672 / 8192)
    config.train.update(steps=328_906, batch_size=1024, learning_rate=1.5e-4)
    config.evaluation.batch_size = 1024
    return config
