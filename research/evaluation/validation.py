"""The family's own scores on validation data, each the summed quantity over its count."""

from typing import Any

from research import families


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    return families.load(config.family).score_kinds(config)


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, dict[str, Any]]:
    """{name: {"total", "count"}} of one batch."""
    return families.load(config.family).score(config, params, batch, key)


def finish(config: Any, sums: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: float(each["total"] / each["count"]) for name, each in sums.items()}
