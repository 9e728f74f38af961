"""The model card of an exported run: what it is, what it learned from, how well, and its limits."""

from pathlib import Path
from typing import Any

import yaml
from ml_collections import ConfigDict

from research.errors import UserError
from research.run import files, record

FRONT = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["isoflop"]}
LIMITS = """It is a run of a scaling study, made to measure a loss: it has no instruction tuning and
no filter for what it says, has read no more than the data above, and knows no position beyond
{length:,}."""


def text(run: Path, config: ConfigDict, model_type: str) -> str:
    """README.md of the run in the folder `run`, whose result.json may not be there yet."""
    front = yaml.safe_dump({**FRONT, "model_name": run.name}, sort_keys=False)
    blocks = [f"---\n{front}---", f"# {run.name}", _shape(config, model_type)]
    if (run / files.RESULT).exists():
        result: dict[str, Any] = {**files.read_result(run)}
        blocks += [_trained(result), *_law(run, result.get("part", ""))]
    else:
        blocks.append("The run has no result yet: this is its newest checkpoint.")
    blocks += ["## Limits", LIMITS.format(length=config.data.length)]
    return "\n\n".join(blocks) + "\n"


def _shape(config: ConfigDict, model_type: str) -> str:
    model = config.model
    return (
        f"A decoder of {model.depth} layers, {model.width} wide, with {model.num_heads} heads and "
        f"{model.vocab_size:,} tokens, trained from seed {config.seed} by isoflop on "
        f"{config.data.name} at {config.data.length:,} positions, in the layout of "
        f"`{model_type}`."
    )


def _trained(result: dict[str, Any]) -> str:
    """A table of sizes, data, FLOPs and score."""
    rows = []
    if "params" in result:
        rows += [(f"parameters, {name}", f"{result['params'][name]:,}") for name in _COUNTS
                 if name in result["params"]]  # fmt: skip
    if "data" in result:
        data = result["data"]
        amount = f"{data['amount']:,.0f} {data['unit']} of {data['name']}"
        rows.append(("data", f"{amount}, {data['epochs']:.3g} epochs"))
        rows.append(("data, sha256", data["fingerprint"]))
    if "flops" in result:
        rows.append(("FLOPs", f"{result['flops']:.4g} ({result['convention']['flops']})"))
    for name, score in (result.get("scores") or {}).items():
        about = f"{score['kind']}, {score['split']}"
        rows.append((name, f"{files.value(score):.4g} {score['unit']} ({about})"))
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


_COUNTS = ("total", "active", "non_embedding")


def _law(run: Path, part: str) -> list[str]:
    """The law of the run's study, where there is one of its part."""
    path = run.parent / "laws.json"
    if not path.exists():
        return []
    content = record.read_json(path, dict[str, Any])
    parts = content.get("parts")
    found = parts.get(part, content) if isinstance(parts, dict) else content
    try:
        if found.get("part") != part or found.get("refused") or not found["parameters"]:
            return []
        ends = found.get("intervals") or {}
        words = [
            f"{name} = {value:.4g}" + (" [{:.4g}, {:.4g}]".format(*ends[name]) * (name in ends))
            for name, value in found["parameters"].items()
        ]
        said = f"{found['formula']}, with {', '.join(words)}, in {found['loss_unit']}."
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not what fit writes: {error!r}") from error
    return ["## The law of its study", said]
