"""Tokens a second after a prompt, and how soon the first comes: `python -m tests.bench.decode`.

Where `transformers` is installed (requirements-interop.txt) its Llama of the same weights draws the
same tokens, in turn with ours, from its own cache.
"""

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import defaults, mesh
from research.families import autoregressive
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.sampling.generate import generate
from tests.bench.__main__ import row

NEW, PROMPT, LONG, REPEATS = 256, 32, 192, 5
SHAPE: dict[str, Any] = dict(
    hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=704,
    vocab_size=256, max_position_embeddings=1024, initializer_range=0.3,
    eos_token_id=None, pad_token_id=0, bos_token_id=None,
)  # fmt: skip


def llama() -> tuple[Any, Any, Any]:
    """Our config and parameters, and the model of transformers that has them; None without it."""
    config = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    config.data.length, config.recipe = NEW + PROMPT, "fixed"
    try:
        torch, transformers = map(importlib.import_module, ("torch", "transformers"))
    except ImportError:
        config.model.update(
            width=256, depth=6, num_heads=8, mlp_ratio=704 / 256, activation="swiglu",
            qk_norm=False, smear=False,
        )  # fmt: skip
        return config, autoregressive.init(config, jax.random.key(0)), None
    from research.hub import folder

    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)).eval()
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        config.model = folder.read_config(Path(name))[1]
        return config, folder.read(Path(name), config), model


def theirs(model: Any, prompts: np.ndarray, count: int) -> Callable[[], Any]:
    """A function that draws `count` tokens greedily with transformers."""
    torch: Any = importlib.import_module("torch")
    given = torch.tensor(prompts)
    keys = dict(max_new_tokens=count, min_new_tokens=count, do_sample=False, use_cache=True)

    def draw():
        with torch.inference_mode():
            found = model.generate(given, attention_mask=torch.ones_like(given), **keys)
        return found[:, prompts.shape[1] :].numpy()

    return draw


def measure(batch: int, length: int, count: int, about: tuple[Any, Any, Any]) -> tuple[float, Any]:
    """Median seconds of ours, and how many times those of theirs are; they draw in turn."""
    config, params, model = about
    prompts = np.random.default_rng(0).integers(0, 256, (batch, length))
    engine = Engine(autoregressive.drawn_from(config, params, batch), batch, NEW + PROMPT)

    def ours():
        return [each.tokens for each in generate(engine, prompts.tolist(), count, Drawing(0.0))]

    draws = [ours] if model is None else [ours, theirs(model, prompts, count)]
    first = [np.asarray(draw()) for draw in draws]
    assert all((found == first[0]).all() for found in first), "they draw other tokens"
    seconds: list[list[float]] = [[] for _ in draws]
    for _ in range(REPEATS):
        for draw, times in zip(draws, seconds, strict=True):
            start = time.perf_counter()
            draw()
            times.append(time.perf_counter() - start)
    mine, *others = map(statistics.median, seconds)
    return mine, others[0] / mine if others else None


def main() -> None:
    mesh.split_cores()
    about = llama()
    for batch in (1, 16):
        seconds, times = measure(batch, PROMPT, NEW, about)
        row(f"decoding, D256 depth 6, batch {batch}", f"{batch * NEW / seconds:,.0f} tokens/s")
        row("", _times(times), "at least 1.5 x")
    seconds, times = measure(1, LONG, 1, about)
    row(f"first token after {LONG}", f"{1e3 * seconds:.1f} ms")
    row("", _times(times), "at least 1.2 x")


def _times(times: float | None) -> str:
    return "transformers is not installed" if times is None else f"{times:.2f} x transformers"


if __name__ == "__main__":
    main()
