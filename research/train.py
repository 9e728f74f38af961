"""The one training loop: batch -> step -> record, for every family."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from orbax.checkpoint import CheckpointManager

from research import (
    beginning,
    cost,
    data,
    evaluation,
    failures,
    growth,
    identity,
    optim,
    processes,
    programs,
    rivals,
    run_tokenizer,
    together,
)
from research import config as configs
from research.beginning import Begun, Branch
from research.errors import Interrupted
from research.run import checkpoint, files, lease, profiling, record, snapshots
from research.run.dashboards import Dashboards
from research.run.goodput import Clock
from research.run.heartbeat import seen
from research.run.progress import Progress
from research.run.rows import Row, Rows, tally
from research.run.stop import Stop

log = logging.getLogger("research")
# What a process may wish for; STOP + a signal's number says which it was.
SAVE, HOPELESS, STOP = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Run:
    """What one process trains, where, and what it holds while it does."""

    config: ConfigDict
    folder: Path
    labels: dict[str, Any]
    branches: tuple[int, ...]
    beside: Sequence[rivals.Rival]
    held: lease.Hold
    stop: Stop
    checkpoints: CheckpointManager
    snapshots: snapshots.Keeper
    trace: profiling.Trace
    clock: Clock


@dataclasses.dataclass(frozen=True)
class Parts:
    """What is learned from, at what cost, and by which programs."""

    source: data.Source
    ledger: cost.Ledger
    program: programs.Programs
    progress: Progress
    unit: str  # of the data: tokens or images
    amount: int  # of them an example


@dataclasses.dataclass(frozen=True)
class Ended:
    """What the loop leaves: the last state, how it came to its end, its rows and its seconds."""

    state: dict[str, Any]
    status: str  # "finished", "diverged" or files.STOPPED
    behind: rivals.Behind | None  # why it stopped early
    rows: Rows
    dashboards: Dashboards
    seconds: float


def train(
    config: ConfigDict,
    folder: Path,
    *,
    branch: Branch | None = None,
    branches: tuple[int, ...] = (),
    labels: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one run to its end in `folder` and return its result.json.

    A finished run returns at once; a stopped one goes on from its newest sound checkpoint, bit
    for bit as if it had never stopped. Several processes call this together (`runtime.join`):
    each trains its part, the first one writes.

    Args:
        config: complete and checked (`study.load_config`, `study.load`).
        branch: where the run leaves a trunk; None starts from step 0.
        branches: steps at which others leave this run: it is then a trunk, kept, never scored.
        labels: {"study", "part", "arm", "id"} for result.json.

    Raises:
        UserError: when the folder holds another config or cannot be written.
        lease.Held: when another process trains it; lease.Lost: when it was taken from this one.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    own = course(config, folder, branch=branch, branches=branches, labels=labels)
    return together.alone(own)


def course(
    config: ConfigDict,
    folder: Path,
    *,
    branch: Branch | None = None,
    branches: tuple[int, ...] = (),
    labels: dict[str, Any] | None = None,
    beside: Sequence[rivals.Rival] = (),
    asked: Stop | None = None,
) -> together.Course:
    """`train` as a coroutine, which yields each step for somebody to take (`together`).

    Args:
        beside: runs beside which this one stops when it is hopeless.
        asked: holds the signals for several runs; None: for this one alone.
    """
    checkpoint.check(folder)
    end = config.train.steps if branches else 0

    def over() -> bool:
        identity.check_folder(folder, config, grows=bool(branches))
        return bool(processes.from_first(processes.first() and growth.over(folder, end)))

    if over():  # before anything is written, and again once it is ours
        return record.read_json(folder / "result.json")
    steps = range(branch.step if branch else 0, config.train.steps)
    permanent, keep = (*branches, config.train.steps), config.checkpoint.keep
    with (
        lease.holding(folder) as held,
        contextlib.nullcontext(asked) if asked else Stop() as stop,
        checkpoint.writer(folder / "checkpoints", permanent, keep, held) as checkpoints,
        snapshots.writer(folder, config, branches, held) as kept,
        profiling.Trace(folder / "profile", steps) as trace,
    ):
        if over():
            return record.read_json(folder / "result.json")
        if processes.first() and branches:
            growth.reopen(folder, end, held)
        clock = Clock(seen(folder))
        told = (config, folder, labels or {}, branches, beside)
        run = Run(*told, held, stop, checkpoints, kept, trace, clock)
        parts = _parts(run)
        begun = beginning.state(config, folder, checkpoints, parts.program, branch, held)
        clock.go_on(begun.meta.get("clock") if begun.own else None)
        checkpoint.tidy(checkpoints, begun.start, permanent, keep, held)
        ended = yield from _loop(run, parts, begun)
        return _finish(run, parts, begun, ended)


def _parts(run: Run) -> Parts:
    """Load the data, count what a step costs, and say in the folder what is run."""
    config, settings = run.config, run.config.train
    source, ledger = data.load(config.data, "train"), cost.ledger(config)
    unit, amount = source.spec["unit"], source.spec["amount"]
    progress = Progress(
        run.folder, run.held.check, run.clock, settings.steps,
        settings.batch_size * amount, unit, ledger.step_flops,
    )  # fmt: skip
    if processes.first():
        tokenizer = run_tokenizer.keep(run.folder, config, source)
        record.write_json(run.folder / "config.json", configs.to_plain(config))
        about = record.provenance(source.fingerprint, tokenizer)
        record.write_json(run.folder / "provenance.json", about)
    return Parts(source, ledger, programs.build(config), progress, unit, amount)


def _loop(run: Run, parts: Parts, begun: Begun) -> Generator[together.Asked, Any, Ended]:
    """Take the steps. Metrics are read one step late, so that the device never waits for them."""
    config, settings, clock, program = run.config, run.config.train, run.clock, parts.program
    start, state, meta, progress = begun.start, begun.state, begun.meta, parts.progress
    kept = meta.get("rows") if begun.own else [1, 0]  # rows of a trunk are the trunk's
    rows = Rows(run.folder / "metrics.jsonl", start, processes.first(), run.held.number, kept)
    dashboards = Dashboards(run.folder, config, run.labels, parts.unit, clock.began, rows.rows)
    own = processes.rows(program.batch, settings.batch_size)
    batches = data.batches(
        parts.source, settings.batch_size, config.seed, start_step=start, rows=own
    )
    key, largest = jax.random.key(config.seed), processes.Largest()
    status = meta.get("status", "finished")
    saved, metrics, behind = time.monotonic(), None, None
    run.trace.go_on(start)
    progress.say("compiling", start)
    for step in range(start, settings.steps if status == "finished" else start):
        run.trace.before(step, metrics)
        clock.enter("data")
        batch = processes.place(program.batch, next(batches), settings.batch_size, own[0])
        rate = optim.learning_rate(settings, step)
        previous = metrics
        clock.enter("compile" if step == start else "useful")
        given = (state, batch, key, np.int32(step), np.float32(rate))
        state, metrics = yield together.Asked(program, given)
        clock.enter("useful")
        done = step + 1
        progress.step(done)
        every = config.checkpoint.every_steps
        late = time.monotonic() - saved > config.checkpoint.every_seconds
        wish = HOPELESS if behind else SAVE if late else 0
        wish = largest(STOP + run.stop.asked if run.stop.asked else wish)
        save_due = (
            done in run.branches
            or done == settings.steps
            or (every and done % every == 0)
            or wish >= SAVE
        )
        row_due = done % config.log_steps == 0 or done == settings.steps
        read, at = (metrics, done) if save_due or row_due else (previous, step)
        if read is not None and not np.isfinite(read["loss"]):
            status, save_due, row_due = "diverged", True, True
        if row_due and read is not None:
            row = _row(run, parts, at) | {name: float(value) for name, value in read.items()}
            if status == "finished" and evaluation.due(config, at):
                with clock.within("evaluate"):
                    row |= evaluation.row(config, state)
            run.held.check()
            rows.add(row | {"seconds": clock.seconds})
            dashboards.row(rows.rows[-1])
            progress.loss = row["loss"]
            if processes.first() and rivals.look_due(at, config.log_steps, settings.steps):
                behind = rivals.behind(rows.rows, run.beside, settings.steps)
        if done in run.snapshots.steps:
            with clock.within("checkpoint"):
                checkpoint.wait(run.checkpoints, run.held)
                snapshots.save(run.snapshots, done, state["averages"], run.held)
        if save_due:
            run.held.check()
            with clock.within("checkpoint"):
                rows.flush()
                extra = {"clock": clock.state(), "status": status}
                extra |= {"branch": [begun.branch.folder.name if begun.branch else "", begun.first]}
                extra |= {"rows": tally(rows.rows, config.log_steps, done)}
                checkpoint.save(run.checkpoints, done, programs.saved(state), extra, run.held)
            saved = time.monotonic()
        if status == "finished" and wish == HOPELESS and done < settings.steps:
            status = files.STOPPED
        if status != "finished":
            break
        if wish >= STOP and done < settings.steps:
            checkpoint.wait(run.checkpoints, run.held)
            progress.say("stopped", done)
            where = f"{run.folder}: stopped at step {done} of {settings.steps}, saved"
            raise Interrupted(where, wish - STOP)
    run.trace.before(settings.steps, metrics)
    return Ended(state, status, behind, rows, dashboards, clock.seconds)


def _row(run: Run, parts: Parts, step: int) -> Row:
    """Where the run is after `step` steps: data, compute, rate."""
    settings = run.config.train
    return {
        "step": step,
        "amount": step * settings.batch_size * parts.amount,
        "flops": step * parts.ledger.step_flops,
        "learning_rate": optim.learning_rate(settings, step - 1),
    }


def _finish(run: Run, parts: Parts, begun: Begun, ended: Ended) -> dict[str, Any]:
    """Score the run, and write its result last: its presence says that the run is over."""
    config, clock, first = run.config, run.clock, begun.first
    clock.enter("evaluate")
    parts.progress.say("scoring", config.train.steps)
    scores = {} if run.branches else evaluation.final(config, ended.state, ended.status)
    score = next(iter(scores.values()), None)
    lost = ended.status == "finished" and score and score["value"] is None
    status, failed = "diverged" if lost else ended.status, {}
    if status == "diverged":
        failed = failures.not_finite(ended.rows.rows)
    elif status == "finished" and scores:
        failed = failures.found(config, ended.rows.rows, scores)
        status = files.FAILED if failed else status
    steps = config.train.steps if ended.status == "finished" else ended.rows.last_step
    result = {**run.labels, "family": config.family, "status": status}
    result |= _measures(run, parts, begun, max(0, steps - first)) | {"seconds": ended.seconds}
    earlier = [r for r in begun.earlier if r["step"] <= first and r["step"] % config.log_steps == 0]
    recent = ended.rows.recent_loss(earlier) if status in ("finished", files.FAILED) else None
    result |= {"role": "trunk" if run.branches else "trial", "train_loss": recent}
    result |= {"rows": len(ended.rows.rows)}
    result |= {"score": score, "scores": scores} if score else {}
    result |= {"failures": failed} if failed else {}
    result |= (
        {"stopped": ended.behind._asdict()} if status == files.STOPPED and ended.behind else {}
    )
    ended.dashboards.done(result)
    clock.enter("checkpoint")
    checkpoint.wait(run.checkpoints, run.held)
    result |= {"goodput": clock.goodput(), "finished_at": record.now()}
    run.held.check()
    if processes.first():
        parts.progress.close()
        record.write_json(run.folder / "result.json", result)
        parts.progress.done(result)
    return result


def _measures(run: Run, parts: Parts, begun: Begun, ran: int) -> dict[str, Any]:
    """The run in numbers: size, data, compute and hyper-parameters; `ran` steps were its own."""
    config, settings, ledger, source = run.config, run.config.train, parts.ledger, parts.source
    examples = settings.steps * settings.batch_size
    return {
        "seed": config.seed,
        "size": config.size,
        "budget": config.budget,
        "params": {
            "total": ledger.total_params,
            "active": ledger.active_params,
            "non_embedding": ledger.non_embedding_params,
            "lookup": ledger.lookup_params,
            "embedding": ledger.total_params - ledger.non_embedding_params,
            "groups": cost.groups(ledger.params),
        },
        "data": {
            "name": config.data.name,
            "amount": examples * parts.amount,
            "unit": parts.unit,
            "unique": source.spec["unique"],
            "epochs": examples / len(source),
            "fingerprint": source.fingerprint,
            **data.tally(source, settings.batch_size, config.seed, settings.steps),
            **({"flops_spent": source.spent} if source.spent else {}),
        },
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_fraction": settings.warmup_steps / settings.steps,
        "schedule": settings.schedule,
        "schedule_end_step": settings.steps,
        "flops": settings.steps * ledger.step_flops,
        "flops_by_scope": {
            scope: settings.steps * flops for scope, flops in ledger.step_flops_by_scope.items()
        },
        "flops_spent": ran * ledger.step_flops,
        "flops_6nd": 6 * ledger.active_params * ledger.tokens * examples,
        "convention": cost.CONVENTION,
        "floor": data.load(config.data, "validation").floor,
        "trunk": begun.branch.folder.name if begun.branch else None,
        "branch_step": begun.branch.step if begun.branch else None,
    }
