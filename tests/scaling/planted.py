"""Planted laws for the tests: designs of runs, their true losses, and run folders made of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from research.scaling.table import Table, from_frame

TRUTH = {"E": 1.7, "A": 400.0, "B": 400.0, "alpha": 0.34, "beta": 0.28}


def grid(num_sizes=6, num_amounts=5, decades=2.0) -> tuple[np.ndarray, np.ndarray]:
    """N and D [runs] on a full grid."""
    sizes = np.logspace(7, 7 + decades, num_sizes)
    amounts = np.logspace(9, 9 + decades, num_amounts)
    return np.repeat(sizes, num_amounts), np.tile(amounts, num_sizes)


def valleys(num_budgets=5, num_sizes=7, exponent=0.5, span=0.8) -> tuple[np.ndarray, np.ndarray]:
    """N and D [runs] in isoFLOP groups (6ND) centred on N = 0.1 C^exponent."""
    budgets = np.repeat(np.logspace(17, 21, num_budgets), num_sizes)
    offsets = np.tile(np.linspace(-span, span, num_sizes), num_budgets)
    params = 0.1 * budgets**exponent * 10**offsets
    return params, budgets / (6 * params)


def losses(params, data, truth=TRUTH, noise=0.0, seed=0) -> np.ndarray:
    """E + A / N^alpha + B / D^beta, times exp(noise * normal)."""
    exact = (
        truth["E"] + truth["A"] * params ** -truth["alpha"] + truth["B"] * data ** -truth["beta"]
    )
    return exact * np.exp(noise * np.random.default_rng(seed).standard_normal(len(exact)))


def table(params, data, loss, **columns) -> Table:
    """A Table of these runs."""
    frame = pd.DataFrame({"N": params, "D": data, "L": loss, **columns})
    options: dict[str, Any] = {"flops": "C"} if "C" in columns else {}
    return from_frame(frame, params="N", data="D", loss="L", **options)


def codes(findings) -> set[int]:
    """The numbers of the checks that warn."""
    return {finding.code for finding in findings}


def surface(noise=0.002, truth=None, **columns) -> Table:
    """48 runs of eight sizes over three decades, with any further columns."""
    params, data = grid(8, 6, 3.0)
    loss = losses(params, data, noise=noise) if truth is None else truth(params, data)
    return table(params, data, loss, **columns)


def result(params, data, loss, budget, part="text", seed=0, **changes) -> dict:
    """A result.json as the trainer writes it."""
    steps = 100
    content = {
        "id": f"{part}-{params:.0f}-{budget:.0e}-s{seed}",
        "study": "planted",
        "part": part,
        "family": "autoregressive",
        "role": "trial",
        "status": "finished",
        "seed": seed,
        "size": f"{params:.0f}",
        "budget": budget,
        "params": {"total": int(params), "non_embedding": int(params), "embedding": 0},
        "data": {
            "name": "markov",
            "amount": float(data),
            "unit": "tokens",
            "unique": 1e12,
            "epochs": data / 1e12,
            "fingerprint": "0" * 64,
        },
        "steps": steps,
        "batch_size": 32,
        "learning_rate": params**-0.5,
        "warmup_fraction": 0.05,
        "schedule_end_step": steps,
        "flops": 6.0 * params * data,
        "convention": {"params": "total", "flops": "ledger: matmuls, attention, head"},
        "score": {"value": loss, "unit": "bits/byte", "kind": "exact", "split": "validation"},
        "floor": None,
        "trunk": None,
    }
    return {**content, **changes}


def write_study(folder: Path, results: list[dict]) -> Path:
    """Write a run folder of these results; returns it."""
    parts = {row["part"]: {"title": row["part"].title()} for row in results}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"study": "planted", "parts": parts}))
    for row in results:
        trial = folder / row["id"]
        trial.mkdir()
        (trial / "result.json").write_text(json.dumps(row))
    return folder


def planted_study(folder: Path, noise=0.003, parts=("text",)) -> Path:
    """A run folder of isoFLOP groups, one part after the other."""
    rows = []
    for k, part in enumerate(parts):
        params, data = valleys()
        params = np.round(params)
        loss = losses(params, data, noise=noise, seed=k)
        budgets = np.repeat(np.logspace(17, 21, 5), 7)
        rows += [result(*row, part=part) for row in zip(params, data, loss, budgets, strict=True)]
    return write_study(folder, rows)


ARM_LAW = {"E": 1.2, "A": 40.0, "B": 300.0, "alpha": 0.34, "beta": 0.38}
MIDDLE = 1e12  # FLOPs at which a planted multiplier is what its name says


def planted_arms(
    multiplier=1.0, exponent=0.0, seeds=2, noise=0.005, shared=0.0, num_sizes=3, draw=0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of A and B of equal sizes, budgets and seeds (columns N, C, D, seed, L).

    A with C FLOPs is B with C_B, where C = multiplier (C_B / MIDDLE)^exponent C_B: at equal sizes,
    and so at the best of them. `noise` is a run's own, `shared` that of a cell and seed.
    """
    sizes, budgets = np.geomspace(5e4, 4e5, num_sizes), np.geomspace(4e11, 3.2e12, 4)
    grid = np.meshgrid(sizes, budgets, np.arange(seeds), indexing="ij")
    n, c, seed = (values.ravel() for values in grid)
    worth = MIDDLE * (c / MIDDLE / multiplier) ** (1 / (1 + exponent))
    generator = np.random.default_rng(draw)
    both = shared * generator.standard_normal(len(n))
    arms = []
    for flops in (worth, c):
        scatter = np.exp(both + noise * generator.standard_normal(len(n)))
        loss = losses(n, flops / (6 * n), ARM_LAW) * scatter
        frame = {"N": n, "C": c, "D": c / (6 * n), "seed": seed.astype(int), "L": loss}
        arms.append(pd.DataFrame(frame))
    return arms[0], arms[1]


def arms_study(folder: Path, arms: dict[str, pd.DataFrame], **changes) -> Path:
    """A run folder of one part, "text", that has these arms; `changes` are of every result."""
    rows = []
    for name, frame in arms.items():
        for row in frame.itertuples():
            each = result(row.N, row.D, row.L, row.C, seed=int(row.seed), arm=name)
            each |= {"id": f"{each['id']}-arm{name}", "size": round(row.N), "flops": row.C}
            rows.append(each | {"seconds": row.C / 1e10, "flops_spent": row.C} | changes)
    return write_study(folder, rows)


def planted_rates(
    exponent=-0.5, noise=0.0, lopsided=0.0, first=-5.0, places=5, seeds=2, rates=7, draw=0
) -> pd.DataFrame:
    """Runs over 16 times the width (columns width, lr, L, seed) whose best rate is a power of it.

    It is 2^`first` at a width of 16.
    Log losses are a parabola in log2 rate, of .03 a factor of two squared, and `lopsided` times its
    cube; each width and seed has a level of its own. Rates tried are factors of two.
    """
    generator = np.random.default_rng(draw)
    grown = np.linspace(0, 4, places)
    best = first + exponent * grown
    shape = np.zeros((places, seeds, rates))
    u = np.round(-5 + exponent * grown)[:, None, None] + np.arange(rates) - rates // 2 + shape
    away = u - best[:, None, None]
    level = -0.1 * grown[:, None, None] + 2 * noise * generator.standard_normal((places, seeds, 1))
    log_loss = 1 + level + 0.03 * away**2 + lopsided * away**3
    log_loss = log_loss + noise * generator.standard_normal(u.shape)
    columns = {
        "width": 16 * 2.0 ** (grown[:, None, None] + shape),
        "lr": 2.0**u,
        "L": np.exp(log_loss),
        "seed": np.arange(seeds)[:, None] + shape.astype(int),
    }
    return pd.DataFrame({name: each.ravel() for name, each in columns.items()})


def rates_study(folder: Path, part="text", key="width", **planted) -> Path:
    """A run folder of one part and two arms, whose configs say the width as config.model.`key`."""
    arms = {"adamw": planted_rates(**planted), "mup": planted_rates(exponent=0.0, **planted)}
    rows, configs = [], []
    for arm, frame in arms.items():
        for number, row in enumerate(frame.itertuples()):
            each = result(1e5, 1e6, row.L, 1e12, part=part, seed=int(row.seed), arm=arm)
            each |= {"id": f"{part}-{arm}-{number}", "learning_rate": row.lr, "budget": None}
            rows.append(each | {"size": int(row.width) if key == "width" else 32})
            configs.append({"model": {key: int(row.width)}})
    write_study(folder, rows)
    for row, config in zip(rows, configs, strict=True):
        (folder / row["id"] / "config.json").write_text(json.dumps(config))
    return folder


def planted_batches(noise=0.0, draw=0, rates=(0.01, 0.02, 0.04)) -> pd.DataFrame:
    """Learning curves whose steps to a loss of 3 are 100 (1 + 16 / batch), fewest at a rate of .02.

    `noise` is of a run's log steps; the gradient's noise scale is 8.
    """
    generator, curves = np.random.default_rng(draw), []
    grid = np.meshgrid(2.0 ** np.arange(1, 7), rates, (0, 1), indexing="ij")
    for batch, rate, seed in zip(*(each.ravel() for each in grid), strict=True):
        needed = 100 * (1 + 16 / batch) * (1 + abs(np.log2(rate / 0.02)))
        step = np.round(np.geomspace(0.1, 2, 20) * needed)
        needed = needed * np.exp(noise * generator.standard_normal())
        about = {"batch": int(batch), "rate": rate, "seed": int(seed), "step": step.astype(int)}
        about |= {"gradient_square": 0.5, "gradient_noise": 4.0}
        curves.append(pd.DataFrame({**about, "loss": 3 - 0.5 * np.log(step / needed)}))
    return pd.concat(curves, ignore_index=True)


def batches_study(folder: Path) -> Path:
    """A run folder of such curves, in rows that metrics.jsonl holds."""
    curves = planted_batches().groupby(["batch", "rate", "seed"])
    runs = {f"text-{k}": rows for k, (_, rows) in enumerate(curves)}
    results = []
    for name, rows in runs.items():
        first = rows.iloc[0]
        each = result(1e5, 1e6, rows.loss.iloc[-1], 1e12, seed=int(first.seed), size=32)
        more = {"id": name, "batch_size": int(first.batch), "learning_rate": float(first.rate)}
        results.append(each | more | {"rows": len(rows)})
    write_study(folder, results)
    for name, rows in runs.items():
        lines = rows.rename(columns={"loss": "score"}).to_json(orient="records", lines=True)
        (folder / name / "metrics.jsonl").write_text(lines)
    return folder
