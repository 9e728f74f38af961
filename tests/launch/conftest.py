"""The front door inside a test's process: it leaves logging, and what pytest captures, alone."""

import logging

import pytest

from research import runtime


@pytest.fixture(autouse=True)
def as_a_guest(monkeypatch):
    monkeypatch.setattr(runtime, "set_up_logging", lambda: None)
    monkeypatch.setattr(runtime, "keep_memory", lambda: None)
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]  # Orbax's, when it reads
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
