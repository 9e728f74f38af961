"""Every second of a run is in one phase, whatever happens to the processes that work on it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.run import goodput
from research.run.goodput import PHASES, Clock


class Time:
    """A clock to set by hand, in place of the module `time`."""

    def __init__(self):
        self.now = 1e9

    def time(self):
        return self.now

    def monotonic(self):
        return self.now - 1e6


@pytest.fixture
def hand(monkeypatch):
    clock = Time()
    monkeypatch.setattr(goodput, "time", clock)
    return clock


WHOLE = st.integers(1, 1000)
WORK = st.tuples(st.sampled_from(("useful", "compile", "data", "checkpoint")), WHOLE)
# A process: seconds nobody worked before it, startup, then work; after each piece of work it may
# save a checkpoint, show a heartbeat, or both. It ends by being killed.
PROCESS = st.tuples(
    WHOLE, WHOLE, st.lists(st.tuples(WORK, st.booleans(), st.booleans()), max_size=6)
)


@given(lives=st.lists(PROCESS, min_size=1, max_size=6))
def test_every_second_is_told_once(lives):
    """Random kills against a ledger kept from outside, which knows all that happened."""
    clock, hand = None, Time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goodput, "time", hand)
        began, saved, seen = hand.now, None, None
        kept = after = dict.fromkeys(PHASES, 0)  # as of the checkpoint, and since then
        lost = away = unseen = 0
        for idle, startup, works in lives:
            if clock is not None:
                hand.now += idle
                away += idle + unseen  # what no heartbeat tells of counts as away
            clock = Clock(seen)
            lost += sum(after.values()) - unseen
            after, unseen = dict.fromkeys(PHASES, 0), 0
            seen = clock.state()
            clock.go_on(saved)
            spend(hand, clock, "startup", startup)
            after["startup"] += startup
            unseen = startup
            for (phase, seconds), checkpoint, beat in works:
                spend(hand, clock, phase, seconds)
                after[phase] += seconds
                unseen += seconds
                if checkpoint:
                    saved, kept = clock.state(), {p: kept[p] + after[p] for p in PHASES}
                    after, unseen = dict.fromkeys(PHASES, 0), 0
                if beat:
                    seen, unseen = clock.state(), 0
        truth = {phase: kept[phase] + after[phase] for phase in PHASES}
        truth |= {"lost": lost, "away": away}
        assert clock is not None
        told = clock.goodput()
        assert {phase: told["seconds"][phase] for phase in PHASES} == truth
        assert told["seconds"]["total"] == sum(truth.values()) == hand.now - began
        assert clock.began == began
        assert told["share"] == truth["useful"] / sum(truth.values())
        in_loop = ("useful", "compile", "data", "checkpoint")
        assert clock.seconds == sum(truth[phase] for phase in in_loop)


def spend(hand: Time, clock: Clock, phase: str, seconds: int) -> None:
    with clock.within(phase):
        hand.now += seconds


def test_machines_whose_clocks_differ(hand):
    """A process that begins before the last was seen, by its clock: nobody was away."""
    state = Clock(None).state()
    hand.now += 5
    clock = Clock(state)
    spend(hand, clock, "useful", 10)
    state = clock.state()
    hand.now -= 7
    clock = Clock(state)
    clock.go_on(state)
    spend(hand, clock, "startup", 1)
    assert clock.spent == dict.fromkeys(PHASES, 0.0) | {"away": 5, "useful": 10, "startup": 1}
