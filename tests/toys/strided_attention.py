"""Strided attention (Child et al. 2019, section 4.2): every stride-th position before one's own."""

from research.errors import UserError


def default_model():
    return dict(stride=2)


def check(config):
    if config.model.stride < 1:
        raise UserError(f"config.model.stride={config.model.stride} must be at least 1")


def sees(model, query, key):
    return (query - key) % model.stride == 0
