"""What does it take to train a decoder of TinyLlama's shape, 1.1 billion parameters?

Question: on which slice, with which mesh, does a step of 256 sequences of 2,048 tokens fit, how
long must it take, and what does the whole run cost?
Cost: 1.6e20 FLOPs over 20 tokens a parameter; at the floor about 9 hours (530 minutes) on 32 TPU
v5e.
Expected: by the law of Besiroglu et al. 2024, 2.51 nats a token where tokens are pieces of words;
at 4.3 bytes a piece that is 0.84 bits a byte.
Paper: Zhang et al. 2024 (arXiv 2401.02385), whose model has 1,100,048,384 parameters; it
was trained on 3e12 tokens, far past 20 a parameter.
Data: the bytes of Dolma in a shape of 32,000 rows; see experiments/lm_7b.py.
"""

from ml_collections import ConfigDict

from experiments import lm_7b

PARTS = {"pretrain": lm_7b.PARTS["pretrain"] | {"title": "TinyLlama's shape on Dolma"}}
get_trials = lm_7b.get_trials


def get_config(part: str) -> ConfigDict:
    """TinyLlama 1.1B: grouped-query attention, four key-value heads."""
    config = lm_7b.get_config(part)
    config.model.update(depth=22, width=2048, num_heads=32, num_kv_heads=4, mlp_ratio=5632 / 2048)
    config.train.update(steps=41_963, learning_rate=4e-4)
    return config
