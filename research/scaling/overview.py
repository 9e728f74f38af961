"""The laws of a run folder as a sweep prints them at its end: a table a part."""

from pathlib import Path

from research.scaling.commands.fit import law_lines
from research.scaling.holdout import Holdout
from research.scaling.isoflop.fit import IsoflopFit
from research.scaling.study_laws import DRAWS, study_laws
from research.scaling.summary import PartSummary


def overview(run_dir: str | Path, bootstrap: int = DRAWS) -> str:
    """Return each part's laws, its optimum and its held-out predictions, as text.

    The laws are those of laws.json, which is written where it is not there yet.
    The largest budget is predicted by fits that never saw it.

    Raises:
        UserError: there is no such folder, or no finished trial in it.
    """
    parts = study_laws(run_dir, bootstrap)
    blocks = [_part(name, part) for name, part in parts.items()]
    fitted = [part for part in parts.values() if isinstance(part, PartSummary)]
    notes = [f"note: {note}" for part in fitted for note in part.table.notes]
    return "\n\n".join([*blocks, *notes])


def _part(name: str, part: PartSummary | str) -> str:
    title = name if isinstance(part, str) else part.table.title or name
    lines = ["", title, "=" * len(title)]
    if isinstance(part, str):
        return "\n".join([*lines, f"not fitted: {part}"])
    for name, fit in (("chinchilla", part.chinchilla), ("frontier", part.frontier)):
        if fit is None:
            lines.append(f"{name}: not fitted: {part.refused[name]}")
        else:
            lines += law_lines(fit)
    lines += _optimum(part.isoflop)
    lines += _held_out(part.held_out) + _held_out(part.frontier_held_out)
    if part.table.floor is not None:
        best = float(part.table["L"].min())
        lines.append(f"known floor {part.table.floor:.4f}, best run {best:.4f}")
    if part.findings:
        codes = sorted({f"{finding.code} {finding.name}" for finding in part.findings})
        lines.append(f"{len(part.findings)} warnings ({', '.join(codes)}): see the report")
    return "\n".join(lines)


def _optimum(valleys: IsoflopFit) -> list[str]:
    if valleys.refused or not valleys.params_interval or not valleys.data_interval:
        return [f"isoFLOP: not fitted: {valleys.refused}"]
    (a, b), (c, d) = valleys.params_interval, valleys.data_interval
    return [
        f"isoFLOP: N_opt ~ C^{valleys.params_exponent:.3f} [{a:.3f}, {b:.3f}], "
        f"D_opt ~ C^{valleys.data_exponent:.3f} [{c:.3f}, {d:.3f}] from "
        f"{len(valleys.kept)} of {len(valleys.valleys)} budgets"
    ]


def _held_out(ahead: Holdout) -> list[str]:
    if ahead.refused:
        return [f"{ahead.law}, held out {ahead.flops:.2g} FLOPs: no prediction: {ahead.refused}"]
    lines = [f"{ahead.law} fitted below {ahead.flops:.2g} FLOPs, predicting that budget:"]
    for p in ahead.predictions:
        lines.append(
            f"  {p.id:38s} predicted {p.predicted:.4f} [{p.low:.4f}, {p.high:.4f}]  "
            f"measured {p.measured:.4f}  error {ahead.shown(p.error, '+')}"
        )
    lines.append(
        f"  mean error {ahead.shown(ahead.mean_error)};"
        f" last value {ahead.shown(ahead.last_value_error)}; "
        f"{ahead.num_inside} of {len(ahead.predictions)} inside"
    )
    return lines
