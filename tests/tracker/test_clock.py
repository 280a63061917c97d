"""Time that a sleep of the process does not advance."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from roost.tracker.clock import Clock

STEP = 3.0

instants = st.lists(st.floats(0, 1_000), min_size=1, max_size=20)


def test_a_clock_begins_at_0_and_goes_with_the_callers():
    """Whatever the caller's clock says at first, what passes on it passes here."""
    clock = Clock(100.0, max_step=STEP)
    assert clock.now == 0.0

    clock.advance(101.0)
    clock.advance(103.5)

    assert clock.now == 3.5


def test_a_sleep_is_one_step():
    """An hour without a call is as much as the longest step, and no more."""
    clock = Clock(100.0, max_step=STEP)

    clock.advance(3_700.0)
    assert clock.now == STEP

    clock.advance(3_701.0)
    assert clock.now == STEP + 1


def test_a_clock_never_goes_back():
    """What arrives with an earlier time has no effect."""
    clock = Clock(100.0, max_step=STEP)
    clock.advance(102.0)

    clock.advance(101.0)

    assert clock.now == 2.0


def test_no_time_passes_twice():
    """After an earlier time the clock goes on only beyond the latest that it has seen."""
    clock = Clock(100.0, max_step=STEP)
    for now in (102.0, 101.0, 102.0):
        clock.advance(now)

    assert clock.now == 2.0


@given(instants)
def test_a_clock_goes_no_faster_than_the_callers(callers):
    """In any order of calls, no more passes than the latest says, nor more than a step a call."""
    clock = Clock(0.0, max_step=STEP)
    seen = [clock.now]
    for now in callers:
        clock.advance(now)
        seen.append(clock.now)

    assert clock.now <= max(callers) + 1e-9
    assert all(0 <= after - before <= STEP + 1e-9 for before, after in pairwise(seen))


def test_an_instant_is_due_when_it_comes():
    """Before it is not, at it and after it is."""
    clock = Clock(0.0, max_step=STEP)
    clock.advance(1.0)

    assert [clock.is_due(at) for at in (0.5, 1.0, 1.5)] == [True, True, False]


def test_a_deadline_is_not_missed_by_a_rounding():
    """A timer that comes at the sum of two floats is not early by the last bit of it."""
    clock = Clock(0.0, max_step=STEP)
    clock.advance(0.3)

    assert 0.1 + 0.2 > 0.3
    assert clock.is_due(0.1 + 0.2)


def test_an_instant_comes_on_the_callers_clock_as_well():
    """A sleep puts it off: what was due after a second is due a second after the sleep."""
    clock = Clock(100.0, max_step=STEP)
    clock.advance(3_700.0)

    assert clock.on_callers(STEP + 1) == 3_701.0


def test_an_instant_that_is_past_comes_now():
    """No timer is set to the past."""
    clock = Clock(100.0, max_step=STEP)
    clock.advance(102.0)

    assert clock.on_callers(0.5) == 102.0
