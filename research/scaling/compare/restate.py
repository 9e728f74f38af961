"""Runs of ours under other conventions of N and C, and how far an exponent moves with them.

result.json holds what each convention needs: parameters by group, the ledger's FLOPs of a step by
group, and 6ND. What it does not hold (runs older than those keys) is refused, not guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from research.errors import UserError, nearest
from research.run import files, record, storage
from research.scaling.isoflop.fit import isoflop
from research.scaling.table import Table, read_runs

COMPUTE = {
    "ledger": "the products of a step, attention dense, the optimizer's inside",
    "ledger_without_optimizer": "the same without the optimizer's products",
    "ledger_causal": "the ledger with half of attention's scores, which a causal mask leaves",
    "6nd": "6 x the active parameters x the tokens",
}
SIZES = ("total", "active", "non_embedding")
OPTIMIZER, SCORES = "optimizer", "scores"  # first and last word of scopes of the ledger


def restated(
    folder: str | Path, size: str | None = None, compute: str = "ledger"
) -> dict[str, Table]:
    """The tables of a run folder, N counted as `size` and C as `compute` say; None: as they were.

    `size` is one of SIZES, or groups of parameters such as "blocks+head"; `compute` one of COMPUTE.

    Raises:
        UserError: an unknown convention, or one that a result does not hold.
    """
    if compute not in COMPUTE:
        raise UserError(
            f"compute={compute!r}: expected {', '.join(COMPUTE)}{nearest(compute, COMPUTE)}"
        )
    root = storage.path(folder)
    tables = {}
    for part, table in read_runs(folder).items():
        results = [
            record.read_json(root / name / files.RESULT, dict[str, Any]) for name in table["id"]
        ]
        frame = table.frame.assign(
            C=[_flops(result, compute) for result in results],
            N=table["N"] if size is None else [_params(result, size) for result in results],
        )
        counted = table.convention if size is None else f"params: {size}"
        tables[part] = replace(table, frame=frame, convention=f"{counted}; flops: {compute}")
    return tables


def _params(result: Mapping[str, Any], size: str) -> float:
    """Parameters as `size` counts them."""
    params = result["params"]
    if size in SIZES:
        if not params.get(size):
            raise UserError(f"size={size!r}: {result['id']} does not say it")
        return float(params[size])
    groups = params.get("groups") or {}
    names = size.split("+")
    for name in names:
        if name not in groups:
            known = [*SIZES, *groups]
            raise UserError(
                f"size={size!r}: no group {name!r}{nearest(name, known)}: {', '.join(known)}"
            )
    return float(sum(groups[name] for name in names))


def _flops(result: Mapping[str, Any], compute: str) -> float:
    """FLOPs of the run as `compute` counts them."""
    needed = {"6nd": "flops_6nd", "ledger": "flops"}.get(compute, "flops_by_scope")
    if not result.get(needed):
        raise UserError(f"compute={compute!r}: {result['id']} has no {needed}; run it again")
    if compute == "6nd":
        return float(result[needed])
    total = float(result["flops"])
    if compute == "ledger":
        return total
    each = {name: float(value) for name, value in result[needed].items()}
    share = 1 / sum(each.values())
    if compute == "ledger_without_optimizer":
        less = sum(value for name, value in each.items() if name.split("/")[0] == OPTIMIZER)
    else:
        scores = [v for name, v in each.items() if name.split("/")[-1] == SCORES]
        if result.get("family") != "autoregressive" or not scores:
            why = "sees both ways" if scores else f"has no scope called {SCORES}"
            raise UserError(f"compute={compute!r}: {result['id']} {why}, so nothing is masked")
        less = sum(scores) / 2
    return total * (1 - less * share)


def conventions(folder: str | Path, names: Sequence[str] = ()) -> list[dict[str, str]]:
    """What to restate: nothing, then each of `names` alone; by default every one of this file.

    Raises:
        UserError: no group, count or compute of that name.
    """
    chosen = names or [*list(COMPUTE)[1:], *SIZES]
    changes = [{"compute" if name in COMPUTE else "size": name} for name in chosen]
    for change in changes if names else ():
        restated(folder, **change)
    return [{}, *changes]


def exponents(
    folder: str | Path, names: Sequence[str] = (), **options: Any
) -> list[dict[str, Any]]:
    """N_opt's exponent in C by isoFLOP, a row a part and convention; refused ones say why.

    `options` are those of `isoflop`. Each convention is changed alone, the first row has neither.

    Raises:
        UserError: as `conventions`.
    """
    rows = []
    for change in conventions(folder, names):
        named = {"size": "as it was", "compute": "ledger"} | change
        try:
            tables = restated(folder, **change)
        except UserError as error:
            rows.append({"part": None, **named, "exponent": None, "refused": str(error)})
            continue
        for part, table in tables.items():
            fit = isoflop(table, **options)
            low, high = fit.params_interval or (None, None)
            found = {"exponent": fit.params_exponent, "low": low, "high": high}
            rows.append({"part": part, **named, **found, "refused": fit.refused})
    return rows
