"""The heartbeat says what is true, seldom, and cheaply."""

import pytest

from research import hardware
from research.hardware import PEAK_FLOPS
from research.run import progress
from research.run.goodput import Clock
from research.run.heartbeat import last_beat
from research.run.lease import Held
from research.run.progress import Progress
from tests.run.test_goodput import Time


@pytest.fixture
def hand(monkeypatch):
    clock = Time()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(hardware, "peak_flops", lambda: 1e12)
    return clock


def begin(folder, check=lambda: None):
    return Progress(folder, check, Clock(None), 1000, 64, "tokens", 5e9)


def test_what_it_says(tmp_path, hand):
    """The first step of a process compiles, so that speed is measured from its end."""
    run = begin(tmp_path)
    assert last_beat(tmp_path).state == "starting"
    hand.now += 50
    run.step(201)
    assert last_beat(tmp_path).per_second is None
    for step in range(202, 301):
        hand.now += 0.25
        run.step(step)
    run.loss = 2.5
    hand.now += 0.25
    run.say("training", 301)
    said = last_beat(tmp_path)
    assert (said.state, said.step, said.steps, said.loss) == ("training", 301, 1000, 2.5)
    assert (said.per_second, said.unit) == (4 * 64, "tokens")
    assert said.share == pytest.approx(4 * 5e9 / 1e12)
    assert said.left == pytest.approx(699 / 4)
    run.close()
    assert not list(tmp_path.iterdir()) and last_beat(tmp_path) is None


def test_how_often_it_is_written(tmp_path, hand, monkeypatch):
    """At most once a second, and where a write takes long at most in a hundredth of the time."""
    written = []

    def write(path, content, durable):
        assert not durable
        written.append(hand.now)
        hand.now += 0.5 if len(written) > 11 else 0.001

    monkeypatch.setattr(progress.record, "write_json", write)
    run = begin(tmp_path)
    for step in range(1, 3000):
        hand.now += 0.0625
        run.step(step)
    quick = [b - a for a, b in zip(written[:11], written[1:11], strict=False)]
    slow = [b - a for a, b in zip(written[12:], written[13:], strict=False)]
    assert len(slow) >= 2 and all(1.0 <= gap < 1.2 for gap in quick)
    assert all(50.5 <= gap < 50.7 for gap in slow)


def test_other_processes_are_silent(tmp_path, hand, monkeypatch):
    monkeypatch.setattr(progress.processes, "first", lambda: False)
    run = begin(tmp_path)
    run.step(1)
    run.say("stopped", 1)
    run.close()
    assert not list(tmp_path.iterdir())


def test_a_process_that_lost_its_folder_says_nothing_more(tmp_path, hand):
    """Else it would leave a heartbeat beside the result of the process that took over."""
    taken = []

    def check():
        if taken:
            raise Held("another has taken it")

    run = begin(tmp_path, check)
    run.close()
    taken.append(True)
    hand.now += 2
    with pytest.raises(Held):
        run.step(1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v5 lite", PEAK_FLOPS["v5e"]),
        ("TPU v5", PEAK_FLOPS["v5p"]),
        ("TPU7x", PEAK_FLOPS["tpu7x"] / 2),  # JAX makes two devices of a chip
        ("NVIDIA H100 80GB HBM3", PEAK_FLOPS["h100"]),
        ("NVIDIA A100-SXM4-40GB", PEAK_FLOPS["a100"]),
        ("NVIDIA H100 PCIe", None),  # another chip than the SXM one we know
        ("TPU v5 something", None),
    ],
)
def test_peak_of_a_device(kind, peak):
    assert hardware.peak_of(kind) == peak


def test_peak_of_this_machine_is_measured():
    """Above what any processor falls short of, below what none reaches."""
    peak = hardware.peak_flops()
    assert peak is not None and 1e8 < peak < 1e14
