"""Interrupting a run, and what is left of the part of the study that one size makes."""

import os
import signal
import time
from pathlib import Path

from research import train as training
from research.run import lease


def of_one_size(undisturbed: dict) -> dict:
    return {name: run for name, run in undisturbed.items() if "size16" in name}


def stop_at(monkeypatch, step: int, number: int = signal.SIGINT) -> None:
    """Signal this process itself at `step` of the next run."""
    original = training.optim.learning_rate

    def poisoned(settings, at):
        if at == step:
            monkeypatch.setattr(training.optim, "learning_rate", original)
            os.kill(os.getpid(), number)
        return original(settings, at)

    monkeypatch.setattr(training.optim, "learning_rate", poisoned)


def until_free(folder: Path) -> None:
    """Wait until nobody holds `folder`."""
    end = time.monotonic() + 120
    while True:
        try:
            return lease.take(folder).release()
        except lease.Held:
            assert time.monotonic() < end
            time.sleep(0.05)
