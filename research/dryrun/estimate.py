"""A dry run: one config on one slice, compiled, checked and priced before anything is spent."""

from collections.abc import Mapping
from dataclasses import dataclass

from ml_collections import ConfigDict

from research import cost, mesh
from research.dryrun import gpu, hlo, memory, topology, traffic
from research.dryrun import price as prices
from research.dryrun.compile import Compiled, compile_step
from research.dryrun.roofline import Roofline, roofline
from research.dryrun.share import read_state, share, state_bytes
from research.hardware import Slice


@dataclass(frozen=True)
class Run:
    """The whole run at the floor of its step: no real one is faster or cheaper on these chips."""

    tokens: int
    steps: int
    seconds: float
    chip_hours: float
    price: float
    currency: str


@dataclass(frozen=True)
class Estimate:
    """What a dry run found; `answer.to_json` is its public form.

    Attributes:
        compiled: what the compiler says; None where there is none for these chips.
        state: bytes of the state on one device.
        memory: the peak counted term by term; None of a network whose parts are not known.
        ledger: bytes one device sends in a step, counted from the scheme; None likewise.
        read: the same, read in the compiled program; None where it cannot be, for `unread`.
        links: a chip's links along each mesh axis.
    """

    config: ConfigDict
    wanted: Slice
    sizes: dict[str, int]
    compiled: Compiled | None
    state: float
    memory: memory.Memory | None
    ledger: hlo.Traffic | None
    read: hlo.Traffic | None
    unread: str
    step: Roofline
    run: Run
    links: Mapping[str, float]

    @property
    def capacity(self) -> float:
        """Bytes of HBM that one device may use."""
        return self.wanted.kind.usable_bytes / self.wanted.kind.devices_per_chip

    @property
    def peak(self) -> float | None:
        """Bytes one device needs: the compiler's, else what is counted; None if neither says."""
        if self.compiled:
            return self.compiled.peak
        return self.memory and self.memory.peak

    @property
    def fits(self) -> bool | None:
        """Whether the compiler accepted the step and it has room; None where nobody says."""
        if self.compiled is None and self.memory is None:
            return None
        refused = self.compiled is not None and self.compiled.refusal
        return not refused and self.peak is not None and self.peak <= self.capacity


def estimate(
    config: ConfigDict, wanted: Slice, table: prices.Prices, fast: bool = False
) -> Estimate:
    """Compile the step of `config` for `wanted` and say what it needs, takes and costs.

    Args:
        fast: compile with fewer optimisations.

    Raises:
        UserError: a mesh that the slice cannot hold, another chip's kernel, a missing compiler, or
            a missing price.
    """
    gpu.check(config, wanted)
    found = topology.devices(wanted)
    sizes = mesh.sizes(config.hardware.mesh, len(found))
    laid = topology.arrange(wanted, found, sizes)
    links = topology.spans(wanted, laid, sizes)
    compiled = None
    if wanted.chip not in gpu.SEEN:
        compiled = compile_step(config, laid, fast)
    elif gpu.compiles():
        compiled = compile_step(config, laid)  # soon enough, and fewer optimisations crash XLA
    whole = read_state(config)
    ours, state = share(config, sizes, whole), state_bytes(config, whole, sizes)
    ledger = traffic.ledger(ours) if ours else None
    read, unread = _read(compiled, sizes)
    moved = read or hlo.Traffic() if ledger is None else ledger
    step = roofline(config, ours, sizes, wanted, moved, links, state)
    counted = memory.peak(config, ours, compiled.arguments if compiled else state) if ours else None
    return Estimate(
        config, wanted, sizes, compiled, state, counted, ledger, read, unread, step,
        _run(config, wanted, step, table), links,
    )  # fmt: skip


def _run(config: ConfigDict, wanted: Slice, step: Roofline, table: prices.Prices) -> Run:
    steps, tokens = config.train.steps, config.train.batch_size * cost.ledger(config).tokens
    hours = wanted.num_chips * step.seconds_floor * steps / 3600
    price = prices.price(table, wanted.chip, hours)
    return Run(steps * tokens, steps, step.seconds_floor * steps, hours, price, table.currency)


def _read(compiled: Compiled | None, sizes: dict[str, int]) -> tuple[hlo.Traffic | None, str]:
    """The traffic of the compiled program, or why it is unknown."""
    if compiled is None:
        return None, "compiling for GPUs needs an extra: pip install -r requirements-gpus.txt"
    if compiled.refusal:
        return None, "the compiler refused the program"
    if compiled.text is None:
        return None, "the compiler cannot print this program"
    try:
        return hlo.traffic(compiled.text, sizes), ""
    except hlo.Unreadable as error:
        return None, str(error)
