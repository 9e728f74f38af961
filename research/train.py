"""The one training loop: batch -> step -> record, for every family."""

import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research import config as configs
from research import cost, data, families, growth, identity, optim, processes, programs
from research.errors import Interrupted, UserError
from research.run import checkpoint, lease, profiling, record
from research.run.dashboards import Dashboards
from research.run.goodput import Clock
from research.run.heartbeat import seen
from research.run.progress import Progress
from research.run.rows import Row, Rows, read_rows, tally
from research.run.stop import Stop

log = logging.getLogger("research")
SAVE, STOP = 1, 2  # what a process may wish for; STOP + a signal's number says which it was


@dataclasses.dataclass(frozen=True)
class Branch:
    """A run's place on a trunk: the trunk's folder and the step at which the run leaves it."""

    folder: Path
    step: int


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
        labels: {"study", "part", "id"} for result.json.

    Raises:
        UserError: when the folder holds another config or cannot be written.
        lease.Held: when another process trains it; lease.Lost: when it was taken from this one.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    result_path = folder / "result.json"
    checkpoint.check(folder)
    # Before anything is written, and again once it is ours.
    identity.check_folder(folder, config, grows=bool(branches))
    end = config.train.steps if branches else 0
    permanent = (*branches, config.train.steps)
    if processes.from_first(processes.first() and growth.over(folder, end)):
        return record.read_json(result_path)
    first = branch.step if branch else 0
    tracing = profiling.Trace(folder / "profile", range(first, config.train.steps))
    with (
        lease.holding(folder) as held,
        Stop() as stop,
        checkpoint.writer(
            folder / "checkpoints", permanent, config.checkpoint.keep, held
        ) as checkpoints,
        tracing as trace,
    ):
        identity.check_folder(folder, config, grows=bool(branches))
        if processes.from_first(processes.first() and growth.over(folder, end)):
            return record.read_json(result_path)
        if processes.first() and branches:
            growth.reopen(folder, end, held)
        clock = Clock(seen(folder))

        # 1. What is learned, from what, and at what cost.
        source = data.load(config.data, "train")
        ledger = cost.ledger(config)
        settings, batch_size = config.train, config.train.batch_size
        amount = config.data.length if source.kind == "text" else 1  # tokens or images an example
        step_flops = ledger.step_flops
        unit = "tokens" if source.kind == "text" else "images"
        progress = Progress(
            folder, held.check, clock, settings.steps, batch_size * amount, unit, step_flops
        )
        if processes.first():
            record.write_json(folder / "config.json", configs.to_plain(config))
            record.write_json(folder / "provenance.json", record.provenance(source.fingerprint))

        # 2. State: its own newest checkpoint, else the trunk's, else fresh.
        program = programs.build(config)
        found = checkpoint.restore_newest(checkpoints, program.state)
        clock.go_on(found[2].get("clock") if found else None)
        kept = [1, 0]  # rows that the state counts on; those of the trunk are the trunk's
        if found:
            start, state, meta = found
            kept = meta.get("rows")
            if "branch" in meta:  # it may have begun before, or after, its trunk was shared
                trunk, step = meta["branch"]
                branch = Branch(folder.parent / trunk, step) if trunk else None
            first = branch.step if branch else 0
        elif branch and (found := _leave_trunk(branch, program.state)):
            start, state, meta = found
        else:
            start, state, meta = 0, program.init(jax.random.key(config.seed)), {}
            branch, first = None, 0
        checkpoint.tidy(checkpoints, start, permanent, config.checkpoint.keep, held)

        # 3. The loop. Metrics are read one step late, so that the device never waits for them.
        rows = Rows(folder / "metrics.jsonl", start, processes.first(), held.number, kept)
        earlier = _trunk_rows(branch) if branch else []
        dashboards = Dashboards(folder, config, labels or {}, unit, clock.began, rows.rows)
        own = processes.rows(program.batch, batch_size)
        batches = data.batches(source, batch_size, config.seed, start_step=start, rows=own)
        key, largest = jax.random.key(config.seed), processes.Largest()
        status = meta.get("status", "finished")
        saved, metrics = time.monotonic(), None
        trace.go_on(start)
        progress.say("compiling", start)
        for step in range(start, settings.steps if status == "finished" else start):
            trace.before(step, metrics)
            clock.enter("data")
            batch = processes.place(program.batch, next(batches), batch_size, own[0])
            rate = optim.learning_rate(settings, step)
            previous = metrics
            clock.enter("compile" if step == start else "useful")
            state, metrics = program.step(state, batch, key, np.int32(step), np.float32(rate))
            clock.enter("useful")
            done = step + 1
            progress.step(done)
            every = config.checkpoint.every_steps
            late = time.monotonic() - saved > config.checkpoint.every_seconds
            wish = largest(STOP + stop.asked if stop.asked else SAVE if late else 0)
            save_due = (
                done in branches
                or done == settings.steps
                or (every and done % every == 0)
                or wish >= SAVE
            )
            row_due = done % config.log_steps == 0 or done == settings.steps
            read, at = (metrics, done) if save_due or row_due else (previous, step)
            if read is not None and not np.isfinite(read["loss"]):
                status, save_due, row_due = "diverged", True, True
            if row_due and read is not None:
                row = {"step": at, "amount": at * batch_size * amount, "flops": at * step_flops}
                row |= {"learning_rate": optim.learning_rate(settings, at - 1)}
                row |= {name: float(value) for name, value in read.items()}
                row |= {"seconds": clock.seconds}
                held.check()
                rows.add(row)
                dashboards.row(row)
                progress.loss = row["loss"]
            if save_due:
                held.check()
                with clock.within("checkpoint"):
                    rows.flush()
                    extra = {"clock": clock.state(), "status": status, "data": batches.get_state()}
                    extra |= {"branch": [branch.folder.name if branch else "", first]}
                    extra |= {"rows": tally(rows.rows, config.log_steps, done)}
                    checkpoint.save(checkpoints, done, state, extra, held)
                saved = time.monotonic()
            if status == "diverged":
                break
            if wish >= STOP and done < settings.steps:
                checkpoint.wait(checkpoints, held)
                progress.say("stopped", done)
                where = f"{folder}: stopped at step {done} of {settings.steps}, saved"
                raise Interrupted(where, wish - STOP)
        trace.before(settings.steps, metrics)
        seconds = clock.seconds
        ran = max(0, (settings.steps if status == "finished" else rows.last_step) - first)

        # 4. Score, and write the result last: its presence says that the run is over.
        clock.enter("evaluate")
        progress.say("scoring", settings.steps)
        score = None if branches else _score(config, state, status)
        status = "diverged" if score and score["value"] is None else status
        result = {**(labels or {}), "family": config.family, "status": status}
        result |= _measures(config, ledger, source, ran, branch, seconds)
        earlier = [r for r in earlier if r["step"] <= first and r["step"] % config.log_steps == 0]
        recent = rows.recent_loss(earlier) if status == "finished" else None
        result |= {"role": "trunk" if branches else "trial", "train_loss": recent}
        result |= {"rows": len(rows.rows)}
        result |= {"score": score} if score else {}
        dashboards.done(result)
        clock.enter("checkpoint")
        checkpoint.wait(checkpoints, held)
        result |= {"goodput": clock.goodput(), "finished_at": record.now()}
        held.check()
        if processes.first():
            progress.close()
            record.write_json(result_path, result)
            progress.done(result)
        return result


def evaluate(config: ConfigDict, params: Any, split: str) -> dict[str, Any]:
    """Score `params` on `config.evaluation.examples` examples of a split, the same for every run.

    Returns {"value", "unit", "kind", "split", "examples"}; the value is summed bits over count.
    """
    family, program = families.load(config.family), programs.build(config)
    source = data.load(config.data, split)
    total = count = examples = 0.0
    chosen = data.eval_batches(source, config.evaluation.batch_size, config.evaluation.examples)
    for index, batch in enumerate(chosen):
        examples += float(batch["mask"].sum())
        key = jax.random.fold_in(jax.random.key(0), index)
        placed = processes.place(program.batch, batch, config.evaluation.batch_size)
        parts = program.score(params, placed, key)
        total, count = total + float(parts["total"]), count + float(parts["count"])
    about = {"split": split, "examples": int(examples)}
    return {"value": total / count, **family.score_kind(config), **about}


def _score(config: ConfigDict, state: dict, status: str) -> dict[str, Any]:
    """The validation score of a run; its value is None when the run diverged."""
    if status == "finished":
        score = evaluate(config, state.get("ema", state["params"]), "validation")
        if math.isfinite(score["value"]):
            return score
    about = families.load(config.family).score_kind(config)
    return {"value": None, **about, "split": "validation", "examples": 0}


def _leave_trunk(branch: Branch, shapes: Any) -> tuple[int, Any, dict] | None:
    """The trunk's state at `branch`, or an earlier one where it is damaged: they are one run."""
    trunk = checkpoint.reader(branch.folder / "checkpoints")
    found = checkpoint.restore_newest(trunk, shapes, last=branch.step)
    if found is None:
        log.warning("%s has no sound checkpoint; what left it trains from step 0", branch.folder)
    return found


def _trunk_rows(branch: Branch) -> list[Row]:
    """The rows of the trunk, as many as its result says where it has one: it may be going on."""
    path, metrics = branch.folder / "result.json", branch.folder / "metrics.jsonl"

    def count() -> int | None:
        return record.read_json(path).get("rows") if record.exists(path) else None

    expected = count()
    try:
        return read_rows(metrics, expected)
    except UserError:
        if expected == count():
            raise
        return read_rows(metrics)


def _measures(config, ledger, source, ran, branch, seconds) -> dict[str, Any]:
    """The run in numbers: size, data, compute and hyper-parameters; `ran` steps were its own."""
    settings = config.train
    examples = settings.steps * settings.batch_size
    text = source.kind == "text"
    amount = examples * (config.data.length if text else 1)
    flops = settings.steps * ledger.step_flops
    return {
        "seed": config.seed,
        "size": config.size,
        "budget": config.budget,
        "params": {
            "total": ledger.total_params,
            "active": ledger.active_params,
            "non_embedding": ledger.non_embedding_params,
            "embedding": ledger.total_params - ledger.non_embedding_params,
            "groups": cost.groups(ledger.params),
        },
        "data": {
            "name": config.data.name,
            "amount": amount,
            "unit": "tokens" if text else "images",
            "unique": source.spec["unique"],
            "epochs": examples / len(source),
            "fingerprint": source.fingerprint,
        },
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_fraction": settings.warmup_steps / settings.steps,
        "schedule": settings.schedule,
        "schedule_end_step": settings.steps,
        "flops": flops,
        "flops_spent": ran * ledger.step_flops,
        "flops_6nd": 6 * ledger.active_params * ledger.tokens * examples,
        "convention": cost.CONVENTION,
        "floor": data.load(config.data, "validation").floor,
        "seconds": seconds,
        "trunk": branch.folder.name if branch else None,
        "branch_step": branch.step if branch else None,
    }
