"""What does it take to train a mixture of experts of Mixtral 8x7B's shape?

Question: how do eight experts, of which each token sees two, lie on a slice, and what do their
all-to-alls cost beside the dense model of the same active size?
Cost: 2.6e22 FLOPs over 20 tokens an active parameter; at the floor about 39 hours (2,370 minutes)
on 512 TPU v5p.
Expected: between the dense models of its active (12.9e9) and of its total size; at the active
size the law of Besiroglu et al. 2024 gives 2.10 nats a token, 0.71 bits a byte.
Paper: Jiang et al. 2024 (arXiv 2401.04088), whose model has 46,702,792,704 parameters.
Data: the bytes of Dolma in a shape of 32,000 rows; see experiments/lm_7b.py.
"""

from ml_collections import ConfigDict

from experiments import lm_7b

PARTS = {"pretrain": lm_7b.PARTS["pretrain"] | {"title": "Mixtral 8x7B's shape on Dolma"}}
get_trials = lm_7b.get_trials


def get_config(part: str) -> ConfigDict:
    """Mixtral 8x7B: eight experts in place of each perceptron, two a token."""
    config = lm_7b.get_config(part)
    config.data.length = 4096
    config.model.update(depth=32, width=4096, num_heads=32, num_kv_heads=8, mlp_ratio=14_336 / 4096)
    config.model.update(channel="moe", num_experts=8, experts_per_token=2)
    config.train.update(steps=61_440, batch_size=1024, learning_rate=2e-4)
    config.evaluation.batch_size = 1024
    return config
