"""What a dry run found, as JSON for programs and as a table for people."""

from typing import Any

from research import cost
from research.dryrun.estimate import Estimate
from research.numbers import count, gib


def to_json(found: Estimate) -> dict[str, Any]:
    """Return the answer as JSON values; a value that is null is listed under "unknown" by name."""
    chip, compiled, step, run = (
        found.wanted.kind.devices_per_chip,
        found.compiled,
        found.step,
        found.run,
    )
    state = compiled.arguments if compiled else found.state
    per_chip = {
        "arguments_bytes": round(state * chip),
        "temporaries_bytes": _times(compiled and compiled.temporaries, chip),
        "peak_bytes": _times(compiled and compiled.peak, chip),
        "capacity_bytes": round(found.wanted.kind.usable_bytes),
        "fits": found.fits,
    }
    unknown = [f"per_chip.{key}" for key, value in per_chip.items() if value is None]
    unknown += ["compile_seconds"] if compiled is None else []
    unknown += ["memory_ledger"] if found.memory is None else []
    unknown += ["collectives.ledger_bytes"] if found.ledger is None else []
    unknown += ["collectives.compiled_bytes"] if found.read is None else []
    return {
        "per_chip": per_chip,
        "compile_seconds": compiled and compiled.seconds,
        "step": {
            "flops": step.flops,
            "repeated_flops": step.repeated,
            "seconds_compute": step.seconds_compute,
            "seconds_memory": step.seconds_memory,
            "seconds_network": step.seconds_network,
            "seconds_floor": step.seconds_floor,
            "mfu_bound": step.mfu_bound,
            "tokens_per_second": run.tokens / run.seconds,
        },
        "run": {
            "tokens": run.tokens,
            "steps": run.steps,
            "chip_hours": run.chip_hours,
            "price": run.price,
            "currency": run.currency,
        },
        "mesh": found.sizes,
        "remat": found.config.hardware.remat,
        "topology": str(found.wanted),
        "memory_ledger": found.memory
        and {
            **{f"{name}_bytes": round(size * chip) for name, size in found.memory.terms().items()},
            "peak_bytes": round(found.memory.peak * chip),
        },
        "collectives": [
            {
                "axes": list(axes),
                "kind": kind,
                "ledger_bytes": None if found.ledger is None else found.ledger.get((axes, kind), 0),
                "compiled_bytes": None if found.read is None else found.read.get((axes, kind), 0),
            }
            for axes, kind in _pairs(found)
        ],
        "unknown": unknown,
    }


def _pairs(found: Estimate) -> list[tuple[tuple[str, ...], str]]:
    """Axes and kinds of every collective that is counted or read, in order."""
    return sorted((found.ledger or {}).keys() | (found.read or {}).keys())


def _times(value: Any, chip: int) -> Any:
    return None if value is None else value * chip


def lines(found: Estimate) -> list[str]:
    """Return the answer as a table for people: GiB, seconds, chip-hours, money."""
    step, run, wanted, config = found.step, found.run, found.wanted, found.config
    ledger = cost.ledger(config)
    rows = [
        f"{config.part}: {count(ledger.total_params)} parameters on {wanted}, "
        f"{wanted.num_chips} chips; mesh {mesh_words(found.sizes)}; remat {config.hardware.remat}",
        "",
        *_memory(found),
        f"step        {step.flops:.3e} useful FLOPs, {step.repeated:.1e} repeated by remat; "
        f"{count(run.tokens / run.steps)} tokens",
        f"roofline    compute {step.seconds_compute:.4f} s, HBM {step.seconds_memory:.4f} s, "
        f"network {step.seconds_network:.4f} s",
        f"floor       {step.seconds_floor:.4f} s a step, {count(run.tokens / run.seconds)} "
        f"tokens/s, at most {step.mfu_bound:.1%} of the chips' peak (MFU)",
        f"whole run   {count(run.tokens)} tokens in {run.steps:,} steps; at the floor "
        f"{run.seconds / 86400:.1f} days, {run.chip_hours:,.0f} chip-hours, "
        f"{run.price:,.0f} {run.currency}",
    ]
    return [*rows, *_collectives(found)]


def _memory(found: Estimate) -> list[str]:
    """Memory of a chip, as compiled and as counted."""
    compiled, chip = found.compiled, found.wanted.kind.devices_per_chip
    room = gib(found.wanted.kind.usable_bytes)
    counted = gib(_times(found.memory and found.memory.peak, chip))
    if compiled is None:
        return [f"a chip      counted peak {counted} of {room}: {_verdict(found)}; not compiled"]
    return [
        f"a chip      arguments {gib(compiled.arguments * chip)}, temporaries "
        f"{gib(_times(compiled.temporaries, chip))}, peak {gib(_times(compiled.peak, chip))} "
        f"of {room}: {_verdict(found)}",
        f"            counted peak {counted}; compiled in {compiled.seconds:.1f} s",
    ]


def _verdict(found: Estimate) -> str:
    chip, peak = found.wanted.kind.devices_per_chip, found.peak
    if found.fits is None:
        return "unknown whether it fits"
    if peak is None:
        return "does not fit, the compiler does not say by how much"
    if found.fits:
        return f"fits, {gib((found.capacity - peak) * chip)} to spare"
    return f"does not fit, by {gib((peak - found.capacity) * chip)}"


def _collectives(found: Estimate) -> list[str]:
    rows = ["", f"{'a device sends in a step':44s} {'counted':>13s} {'compiled':>13s}"]
    for axes, kind in _pairs(found):
        counted = "unknown" if found.ledger is None else mib(found.ledger.get((axes, kind), 0))
        read = "unknown" if found.read is None else mib(found.read.get((axes, kind), 0))
        rows.append(f"  {kind + ' along ' + '+'.join(axes):42s} {counted:>13s} {read:>13s}")
    if len(rows) == 2:
        return []
    return [*rows, *([f"  unknown: {found.unread}"] if found.read is None else [])]


def mesh_words(sizes: dict[str, int]) -> str:
    """The axes of a mesh that are not 1, as --mesh takes them."""
    return ",".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1) or "data=1"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:,.1f} MiB"
