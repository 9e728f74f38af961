"""The one training loop: batch -> step -> record, for every family."""

import dataclasses
import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
from ml_collections import ConfigDict

from research import checkpoint, cost, data, families, optim, profiling, programs, record
from research import config as configs
from research.dashboards import Dashboards
from research.errors import Interrupted, UserError
from research.goodput import Clock
from research.progress import Progress, seen


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
    for bit as if it had never stopped.

    Args:
        config: complete and checked (`study.load_config`, `study.load`).
        branch: where the run leaves a trunk; None starts from step 0.
        branches: steps at which others leave this run: it is then a trunk, kept, never scored.
        labels: {"study", "part", "id"} for result.json.

    Raises:
        UserError: when the folder holds another config, is in use or cannot be written.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    result_path = folder / "result.json"
    configs.check_folder(folder, config)  # before anything is written, and again once it is ours
    permanent = (*branches, config.train.steps)
    keeping = checkpoint.writer(folder / "checkpoints", permanent, config.checkpoint.keep)
    first = branch.step if branch else 0
    tracing = profiling.Trace(folder / "profile", range(first, config.train.steps))
    with _locked(folder), _Stop() as stop, keeping as checkpoints, tracing as trace:
        record.discard_unfinished(folder)
        configs.check_folder(folder, config)
        if result_path.exists():
            return record.read_json(result_path)
        clock = Clock(seen(folder))

        # 1. What is learned, from what, and at what cost.
        family = families.load(config.family)
        source = data.load(config.data, "train")
        ledger = family.cost(config)
        settings, batch_size = config.train, config.train.batch_size
        amount = config.data.length if source.kind == "text" else 1  # tokens or images an example
        step_flops = ledger.train_flops * batch_size
        unit = "tokens" if source.kind == "text" else "images"
        progress = Progress(folder, clock, settings.steps, batch_size * amount, unit, step_flops)
        record.write_json(folder / "config.json", configs.to_plain(config))
        record.write_json(folder / "provenance.json", record.provenance(source.fingerprint))

        # 2. State: its own newest checkpoint, else the trunk's, else fresh.
        program = programs.build(config)
        found = checkpoint.restore_newest(checkpoints, program.state)
        clock.go_on(found[2]["clock"] if found else None)
        if found:
            start, state, meta = found
        elif branch and (found := _leave_trunk(branch, program.state)):
            start, state, meta = found
        else:
            start, state, meta = 0, program.init(jax.random.key(config.seed)), {}
        checkpoint.forget_after(checkpoints, start)

        # 3. The loop. Metrics are read one step late, so that the device never waits for them.
        rows = _Rows(folder / "metrics.jsonl", start)
        dashboards = Dashboards(folder, config, labels or {}, unit, clock.began, rows.rows)
        batches = data.batches(
            source,
            batch_size,
            config.seed,
            start_step=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        key = jax.random.key(config.seed)
        status = meta.get("status", "finished")
        saved, metrics = time.monotonic(), None
        trace.go_on(start)
        progress.say("compiling", start)
        for step in range(start, settings.steps if status == "finished" else start):
            trace.before(step, metrics)
            clock.enter("data")
            batch = jax.make_array_from_process_local_data(program.batch, next(batches))
            rate = optim.learning_rate(settings, step)
            previous = metrics
            clock.enter("compile" if step == start else "useful")
            state, metrics = program.step(state, batch, key, np.int32(step), np.float32(rate))
            clock.enter("useful")
            done = step + 1
            progress.step(done)
            every = config.checkpoint.every_steps
            save_due = (
                done in branches
                or done == settings.steps
                or (every and done % every == 0)
                or time.monotonic() - saved > config.checkpoint.every_seconds
                or stop.asked
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
                rows.write(row)
                dashboards.row(row)
                progress.loss = row["loss"]
            if save_due:
                with clock.within("checkpoint"):
                    extra = {"clock": clock.state(), "status": status, "data": batches.get_state()}
                    checkpoint.save(checkpoints, done, state, extra)
                saved = time.monotonic()
            if status == "diverged":
                break
            if stop.asked and done < settings.steps:
                checkpoint.wait(checkpoints)
                progress.say("stopped", done)
                raise Interrupted(f"{folder}: stopped at step {done} of {settings.steps}, saved")
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
        earlier = _read_rows(branch.folder / "metrics.jsonl") if branch else []
        earlier = [r for r in earlier if r["step"] <= first and r["step"] % config.log_steps == 0]
        recent = rows.recent_loss(earlier) if status == "finished" else None
        result |= {"role": "trunk" if branches else "trial", "train_loss": recent}
        result |= {"score": score} if score else {}
        dashboards.done(result)
        clock.enter("checkpoint")
        checkpoint.wait(checkpoints)
        result |= {"goodput": clock.goodput(), "finished_at": record.now()}
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
        parts = program.score(params, jax.device_put(batch, program.batch), key)
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
    return checkpoint.restore_newest(trunk, shapes, last=branch.step)


def _measures(config, ledger, source, ran, branch, seconds) -> dict[str, Any]:
    """The run in numbers: size, data, compute and hyper-parameters; `ran` steps were its own."""
    settings = config.train
    examples = settings.steps * settings.batch_size
    text = source.kind == "text"
    amount = examples * (config.data.length if text else 1)
    flops = examples * ledger.train_flops
    return {
        "seed": config.seed,
        "size": config.size,
        "budget": config.budget,
        "params": {
            "total": ledger.total_params,
            "non_embedding": ledger.non_embedding_params,
            "embedding": ledger.total_params - ledger.non_embedding_params,
            "groups": dict(ledger.params),
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
        "flops_spent": ran * settings.batch_size * ledger.train_flops,
        "flops_6nd": 6 * ledger.total_params * ledger.tokens * examples,
        "convention": cost.CONVENTION,
        "floor": data.load(config.data, "validation").floor,
        "seconds": seconds,
        "trunk": branch.folder.name if branch else None,
        "branch_step": branch.step if branch else None,
    }


def _locked(folder: Path) -> filelock.AcquireReturnProxy:
    """Hold the run folder; the system lets go of it when the process dies, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"{folder} is in use by another process; wait for it or stop it") from error
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


class _Stop:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps."""

    asked = False

    def __enter__(self) -> "_Stop":
        self.former = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.former[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: whoever owns it decides
                pass
        return self

    def _ask(self, *_: Any) -> None:
        self.asked = True

    def __exit__(self, kind: type | None, *_: Any) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        if self.asked and kind is None:  # too late for this run, so it stops what comes next
            raise KeyboardInterrupt


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, up to a line cut short by a kill."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class _Rows:
    """metrics.jsonl: rows after the resumed step are dropped, so that a rerun writes them once."""

    def __init__(self, path: Path, start: int):
        self.rows = [row for row in _read_rows(path) if row["step"] <= start]
        self.path, self.start = path, start
        record.write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        size = self.path.stat().st_size
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            os.truncate(self.path, size)  # no half of a line
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error

    @property
    def last_step(self) -> int:
        return self.rows[-1]["step"] if self.rows else self.start

    def recent_loss(self, before: list[dict[str, Any]], count: int = 5) -> float | None:
        """Mean training loss of the last few rows, among them those `before` on the trunk."""
        losses = {row["step"]: row["loss"] for row in [*before, *self.rows]}
        return float(np.mean([losses[step] for step in sorted(losses)[-count:]]))
