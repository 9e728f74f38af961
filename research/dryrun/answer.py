"""What a dry run found, as JSON for programs and as a table for people."""

from typing import Any

from research import cost
from research.dryrun.estimate import Estimate
from research.dryrun.hlo import Traffic
from research.numbers import count, gib


def to_json(found: Estimate) -> dict[str, Any]:
    """Return the answer as JSON values; a value that is null is listed under "unknown" by name."""
    chip, compiled, step = found.wanted.kind.devices_per_chip, found.compiled, found.step
    run, terms = found.run(), found.memory
    per_chip = {
        "arguments_bytes": round((compiled.arguments if compiled else found.state) * chip),
        "temporaries_bytes": _times(compiled and compiled.temporaries, chip),
        "peak_bytes": _times(compiled and compiled.peak, chip),
        "capacity_bytes": round(found.wanted.kind.usable_bytes),
        "fits": found.fits,
    }
    known = {
        **{f"per_chip.{key}": value for key, value in per_chip.items()},
        "compile_seconds": compiled,
        "memory_ledger": terms,
        "collectives.ledger_bytes": found.ledger,
        "collectives.compiled_bytes": found.read,
    }
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
            "currency": found.table.currency,
        },
        "mesh": found.sizes,
        "remat": found.config.hardware.remat,
        "topology": str(found.wanted),
        "memory_ledger": terms
        and {
            **{f"{name}_bytes": round(size * chip) for name, size in terms.items()},
            "peak_bytes": _times(found.counted, chip),
        },
        "collectives": [
            {"axes": list(axes), "kind": kind, "ledger_bytes": counted, "compiled_bytes": read}
            for (axes, kind), counted, read in _collectives(found)
        ],
        "unknown": [name for name, value in known.items() if value is None],
    }


def _times(size: float | None, chip: int) -> int | None:
    return None if size is None else round(size * chip)


def _collectives(found: Estimate) -> list[tuple[tuple, int | None, int | None]]:
    """(Axes and kind, bytes counted, bytes read) of every collective that is either, in order."""

    def sent(moved: Traffic | None, key: tuple) -> int | None:
        return None if moved is None else moved[key]

    keys = sorted((found.ledger or {}).keys() | (found.read or {}).keys())
    return [(key, sent(found.ledger, key), sent(found.read, key)) for key in keys]


def lines(found: Estimate) -> list[str]:
    """Return the answer as a table for people: GiB, seconds, chip-hours, money."""
    step, run, wanted, config = found.step, found.run(), found.wanted, found.config
    rows = [
        f"{config.part}: {count(cost.ledger(config).total_params)} parameters on {wanted}, "
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
        f"{run.price:,.0f} {found.table.currency}",
    ]
    moved = [
        f"  {kind + ' along ' + '+'.join(axes):42s} {mib(counted):>13s} {mib(read):>13s}"
        for (axes, kind), counted, read in _collectives(found)
    ]
    if moved:
        heads = f"{'a device sends in a step':44s} {'counted':>13s} {'compiled':>13s}"
        rows += ["", heads, *moved]
        rows += [f"  unknown: {found.unread}"] if found.read is None else []
    return rows


def _memory(found: Estimate) -> list[str]:
    """Memory of a chip, as compiled and as counted."""
    compiled, chip = found.compiled, found.wanted.kind.devices_per_chip
    room = f"of {gib(found.wanted.kind.usable_bytes)}: {_verdict(found)}"
    counted = f"counted peak {gib(_times(found.counted, chip))}"
    if compiled is None:
        return [f"a chip      {counted} {room}; not compiled"]
    return [
        f"a chip      arguments {gib(compiled.arguments * chip)}, temporaries "
        f"{gib(_times(compiled.temporaries, chip))}, peak {gib(_times(compiled.peak, chip))} "
        f"{room}",
        f"            {counted}; compiled in {compiled.seconds:.1f} s",
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


def mesh_words(sizes: dict[str, int]) -> str:
    """The axes of a mesh that are not 1, as --mesh takes them."""
    return ",".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1) or "data=1"


def mib(size: float | None) -> str:
    """Bytes as MiB."""
    return "unknown" if size is None else f"{size / 2**20:,.1f} MiB"
