"""A complete run folder made from planted laws, so that readers can be tested without training.

`write_study(folder)` writes what a finished quickstart leaves behind: four parts (text and images,
and a source of each whose entropy is known), trunks, cooldown trials, metrics, samples, provenance.
Trial loss is `E + A / N^alpha + B / D^beta` times log-normal noise, in the unit of its part.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.data import sound

TRUNK_SHARE = 0.8  # a trial leaves its trunk after this share of its steps, then cools down


@dataclass(frozen=True)
class PlantedPart:
    """One part of the study: its law, its sizes and its budgets.

    `E, A, B, alpha, beta` are the planted law in `unit` with N in parameters and D in `data_unit`;
    `positions` is the sequence positions one datum costs, so that C = 6 * N * D * positions.
    """

    name: str
    title: str
    family: str
    data: str
    unit: str
    kind: str
    data_unit: str
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    sizes: tuple[int, ...]
    budgets: tuple[float, ...]
    positions: int = 1
    floor: float | None = None

    def loss(self, params, amount):
        """Return the planted loss at `params` parameters and `amount` data."""
        return self.E + self.A / params**self.alpha + self.B / amount**self.beta

    def exponent(self) -> float:
        """Return a in N_opt = k C^a (Hoffmann 2022, equation 4)."""
        return self.beta / (self.alpha + self.beta)


TEXT_SIZES = (6_100, 12_200, 24_500, 49_800, 101_000, 203_000, 407_000, 812_000)
IMAGE_SIZES = (9_300, 18_900, 37_600, 76_000, 153_000, 306_000, 611_000)

PARTS = (
    PlantedPart(
        "text", "Python source, autoregressive", "autoregressive", "python_stdlib",
        "bits/byte", "exact", "tokens", 1.15, 40.0, 44.0, 0.34, 0.28, TEXT_SIZES,
        (3e10, 1e11, 3e11, 1e12, 3e12),
    ),
    PlantedPart(
        "images", "Glyphs 16x16, diffusion", "diffusion", "glyphs",
        "bits/dim", "upper bound", "images", 1.35, 9.0, 21.0, 0.24, 0.33, IMAGE_SIZES,
        (1e11, 3e11, 1e12, 3e12), positions=16,
    ),
    PlantedPart(
        "markov", "Markov chain, autoregressive", "autoregressive", "markov",
        "bits/token", "exact", "tokens", 2.1203, 55.0, 70.0, 0.45, 0.38, TEXT_SIZES[:6],
        (1e10, 3e10, 1e11, 3e11), floor=2.1203,
    ),
    PlantedPart(
        "mixture", "Gaussian mixture, diffusion", "diffusion", "gaussian_mixture",
        "bits/dim", "upper bound", "images", -0.412, 12.0, 30.0, 0.36, 0.4, IMAGE_SIZES[:6],
        (3e10, 1e11, 3e11), positions=16, floor=-0.4302,
    ),
)  # fmt: skip


def size_label(params: float) -> str:
    """Return a short size such as `12k` or `1.2M`."""
    if params >= 999_500:
        return f"{params / 1e6:.1f}M"
    return f"{params / 1e3:.0f}k"


def budget_label(budget: float) -> str:
    """Return a short budget such as `1e11`."""
    return f"{budget:.0e}".replace("e+", "e").replace("e0", "e")


def write_study(
    folder: str | Path,
    *,
    parts: tuple[PlantedPart, ...] = PARTS,
    noise: float = 0.004,
    seed: int = 0,
    unfinished: tuple[str, ...] = (),
    diverged: tuple[str, ...] = (),
    samples: bool = True,
) -> list[str]:
    """Write a run folder and return the ids of its trials (trunks not counted).

    Args:
        folder: the study's folder, made if needed (its name is not the study's).
        parts: what to plant.
        noise: standard deviation of log loss.
        seed: of the noise and of the samples.
        unfinished: ids of trials left without a result.
        diverged: ids of trials whose result says so.
        samples: write samples beside the results.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    ids = []
    for part in parts:
        for params in part.sizes:
            label = size_label(params)
            trials = [(b, s) for b in _budgets(part, params) for s in _seeds(part, params)]
            if trials:
                _write_trunk(folder, part, params, max(b for b, _ in trials))
            for budget, run_seed in trials:
                name = f"{part.name}-{label}-{budget_label(budget)}-s{run_seed}"
                ids.append(name)
                value = part.loss(params, _amount(part, params, budget))
                # No model beats the entropy of its source: noise only lifts it above the floor.
                factor = np.exp(noise * rng.standard_normal())
                value = value * factor if part.floor is None else part.E + (value - part.E) * factor
                status = "diverged" if name in diverged else "finished"
                _write_trial(folder, part, name, params, budget, run_seed, value, status)
                if name in unfinished:
                    (folder / name / "result.json").unlink()
                elif samples and status == "finished":
                    quality = 1 / (1 + np.exp(-2.2 * (np.log10(params) - 4.4)))
                    _write_samples(folder / name, part, quality, rng)
    _dump(folder / "study.json", _study(parts, ids))
    return ids


def _amount(part: PlantedPart, params: int, budget: float) -> int:
    return int(round(budget / (6 * params * part.positions)))


def _budgets(part: PlantedPart, params: int) -> list[float]:
    """Return the budgets at which this size is within a factor of about ten of the optimum."""
    return [b for b in part.budgets if 0.1 < params / _optimum(part, b) < 10]


def _optimum(part: PlantedPart, budget: float) -> float:
    ratio = part.alpha * part.A / (part.beta * part.B)
    product = budget / (6 * part.positions)
    return ratio ** (1 / (part.alpha + part.beta)) * product ** part.exponent()


def _seeds(part: PlantedPart, params: int) -> tuple[int, ...]:
    return (0, 1) if part.name == "text" and params in part.sizes[:2] else (0,)


def _study(parts: tuple[PlantedPart, ...], ids: list[str]) -> dict:
    return {
        "study": "quickstart",
        "title": "Two sweeps, two laws",
        "question": "How does validation loss fall with compute for text and for images?",
        "parts": {
            part.name: {
                "title": part.title,
                "family": part.family,
                "data": part.data,
                "unit": part.unit,
                "data_unit": part.data_unit,
            }
            for part in parts
        },
        "trials": ids,
        "docstring": "A synthetic study: every loss comes from a planted law.",
    }


def _write_trunk(folder: Path, part: PlantedPart, params: int, budget: float) -> None:
    name = f"{part.name}-{size_label(params)}-trunk-s0"
    steps = max(20, _amount(part, params, budget) // 4096)
    _write_run_files(folder / name, part, params, budget, 0)
    _write_metrics(folder / name, part, params, budget, 1.06, 0, steps)
    result = {"id": name, "part": part.name, "role": "trunk", "goodput": _goodput(budget / 2e10)}
    _dump(folder / name / "result.json", result)


def _write_trial(folder, part, name, params, budget, seed, value, status) -> None:
    amount = _amount(part, params, budget)
    steps = max(20, amount // 4096)
    branch = int(TRUNK_SHARE * steps)
    failed = status == "diverged"
    _write_run_files(folder / name, part, params, budget, seed)
    _write_metrics(folder / name, part, params, budget, value, branch, steps, failed)
    unique = 8_400_000 if part.data_unit == "tokens" else 36_800
    flops = budget * (1 + 0.004 * (hash_unit(name) - 0.5))
    floor = {"value": part.floor, "unit": part.unit, "kind": "exact", "source": "entropy rate"}
    result = {
        "id": name,
        "study": "quickstart",
        "part": part.name,
        "family": part.family,
        "role": "trial",
        "status": status,
        "seed": seed,
        "size": size_label(params),
        "budget": budget,
        "params": {
            "total": params + 256 * 32,
            "non_embedding": params,
            "embedding": 256 * 32,
            "groups": {"attention": params // 3, "mlp": params - params // 3, "embedding": 8192},
        },
        "data": {
            "name": part.data,
            "amount": amount,
            "unit": part.data_unit,
            "unique": unique,
            "epochs": amount / unique,
            "fingerprint": "9f" * 32,
        },
        "steps": steps,
        "batch_size": 32,
        "learning_rate": 0.02 * params**-0.2,
        "warmup_fraction": 0.02,
        "schedule": "wsd",
        "schedule_end_step": steps,
        "flops": flops,
        "flops_spent": 0.2 * flops,
        "flops_6nd": 6.0 * params * amount * part.positions,
        "convention": {
            "params": "non_embedding",
            "flops": "ledger: matmuls, attention, head; backward = 2x forward",
        },
        "score": {
            "value": None if failed else value,
            "unit": part.unit,
            "kind": part.kind,
            "split": "validation",
            "examples": 2048,
        },
        "train_loss": None if failed else value * 0.69,
        "floor": None if part.floor is None else floor,
        "seconds": budget / 2e10,
        "goodput": _goodput(budget / 2e10),
        "trunk": f"{part.name}-{size_label(params)}-trunk-s0",
        "branch_step": branch,
        "finished_at": "2026-11-22T15:20:00+00:00",
    }
    _dump(folder / name / "result.json", result)


def _goodput(useful: float) -> dict:
    """Where the time of a run went that was killed once; it trained for `useful` seconds."""
    seconds = {"useful": useful, "startup": 0.5, "compile": 4.0, "data": 0.01 * useful}
    seconds |= {"checkpoint": 0.2, "evaluate": 0.1 * useful, "lost": 3.0, "away": 2.0}
    total = sum(seconds.values())
    return {"share": useful / total, "seconds": {"total": total, **seconds}}


def hash_unit(name: str) -> float:
    """Return a number in [0, 1) that depends on `name` alone, the same in every process."""
    return (sum((i + 1) * ord(c) for i, c in enumerate(name)) * 2654435761 % 2**32) / 2**32


def _write_metrics(folder, part, params, budget, value, first, steps, failed=False) -> None:
    """Write rows of steps first+1..steps: high at the start, the planted loss at the end."""
    per_step = _amount(part, params, budget) / steps
    stride = max(1, (steps - first) // 40)
    marks = sorted({*range(first + 1, steps + 1, stride), steps})
    lines = []
    for step in marks:
        planted = part.loss(params, max(per_step * step, 1.0))
        level = min(planted * (1.04 if step < steps else 1.0), part.E + 6.0)
        if step == steps:
            level = value
        if failed and step > (first + steps) / 2:
            level = float("nan")
        row = {
            "step": step,
            "amount": per_step * step,
            "flops": budget * step / steps,
            "learning_rate": 0.02 * params**-0.2,
            "grad_norm": 0.8,
            "seconds": budget / 2e10 * step / steps,
        }
        if part.unit == "bits/dim":
            row |= {"loss": level * 0.1, "bound": level}
        else:
            row["loss"] = level * np.log(2)
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def _write_run_files(folder: Path, part: PlantedPart, params: int, budget: float, seed: int):
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "study": "quickstart",
        "part": part.name,
        "family": part.family,
        "size": size_label(params),
        "budget": budget,
        "seed": seed,
        "data": {"name": part.data},
    }
    provenance = {
        "git_revision": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"jax": "0.10.2", "flax": "0.12.0", "optax": "0.2.6", "numpy": "2.4.0"},
        "python": "3.11.9",
        "machine": {
            "cpu": "Synthetic CPU",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "devices": ["cpu:0"],
        },
        "data_fingerprint": "9f" * 32,
        "argv": ["python", "-m", "research", "sweep"],
        "started_at": "2026-11-22T15:08:00+00:00",
    }
    _dump(folder / "config.json", config)
    _dump(folder / "provenance.json", provenance)


SOURCE = '''def resolve(path, strict=False):
    """Return the canonical form of a path."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part == ".." and index > 0:
            parts.pop()
    return "/".join(parts) if parts else "."
'''


def _write_samples(folder: Path, part: PlantedPart, quality: float, rng) -> None:
    """Write samples in which a share of about 1 - `quality` is noise."""
    if part.name == "markov":
        tone = quality * np.sin(np.arange(800)) + (1 - quality) * rng.uniform(-1, 1, 800)
        (folder / "samples.wav").write_bytes(sound.to_wav(sound.encode(tone)[None], 8000))
    elif part.data_unit == "tokens":
        texts = []
        for _ in range(3):
            letters = [c if rng.random() < quality else rng.choice(list("etaoin srh(=_.:)\n"))
                       for c in SOURCE]  # fmt: skip
            texts.append("".join(letters))
        (folder / "samples.txt").write_text("\n\n".join(texts))
    else:
        _write_grid(folder / "samples.png", quality, rng)


def _write_grid(path: Path, quality: float, rng, rows: int = 2, columns: int = 8) -> None:
    from PIL import Image, ImageDraw

    image = Image.new("L", (16 * columns, 16 * rows))
    draw = ImageDraw.Draw(image)
    for index in range(rows * columns):
        x, y = 16 * (index % columns), 16 * (index // columns)
        draw.text((x + 4, y + 2), "ABCDEFGHKMNPRSTX"[index % 16], fill=255)
    pixels = np.asarray(image).astype(float)
    noise = 255 * rng.random(pixels.shape)
    mixed = np.clip(quality * pixels + (1 - quality) * noise, 0, 255).astype(np.uint8)
    Image.fromarray(mixed).save(path)


def _dump(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
