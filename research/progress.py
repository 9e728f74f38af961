"""What a run shows while it goes: one live line on a terminal, one line at its end anywhere."""

import logging
import sys
import time
from typing import Any


def set_up_logging() -> None:
    """Show our warnings, a line each; what Orbax and TFDS log as errors they raise as well."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(found: Any) -> None:
    # TensorStore answers after a failed restore or save was given up; nobody waits for it then.
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)


class Progress:
    """Step, loss, FLOP/s and time left of one run; quiet but for the last line in a log."""

    def __init__(self, name: str, start: int, steps: int, step_flops: float):
        self.name, self.start, self.steps, self.step_flops = name, start, steps, step_flops
        self.began = self.shown = time.monotonic()
        self.live = sys.stderr.isatty()

    def show(self, step: int, loss: float) -> None:
        """Redraw the live line, at most twice a second."""
        now = time.monotonic()
        if not self.live or now - self.shown < 0.5:
            return
        self.shown = now
        rate = (step - self.start) / (now - self.began)
        left = (self.steps - step) / rate
        line = f"{self.name}  step {step}/{self.steps}  loss {loss:.4f}  {rate:.1f} steps/s"
        line += f"  {rate * self.step_flops / 1e9:.1f} GFLOP/s  {left:.0f} s left"
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)

    def done(self, result: dict[str, Any]) -> None:
        """Print the run's one line."""
        if self.live:
            print("\r\x1b[2K", end="", file=sys.stderr)
        score = result.get("score", {"value": None})
        known = score["value"] is not None
        value = f"{score['value']:.4f} {score['unit']}" if known else result["status"]
        rate = result["flops_spent"] / max(result["seconds"], 1e-9) / 1e9
        print(
            f"{self.name:44s} {result['params']['total']:>10,} params {result['flops']:9.2e} FLOPs "
            f"{result['seconds']:6.1f} s {rate:6.1f} GFLOP/s  {value}",
            flush=True,
        )
