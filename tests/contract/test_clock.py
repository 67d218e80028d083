"""What every clock promises."""

from datetime import UTC, datetime, timedelta

import pytest

from collab_server.clock import ManualClock, SystemClock
from collab_server.ports import Clock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["system", "manual"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return SystemClock() if request.param == "system" else ManualClock(NOON)


def test_now_is_utc_and_says_so(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_monotonic_seconds_never_go_back(clock: Clock) -> None:
    seen = [clock.monotonic() for _ in range(100)]
    assert seen == sorted(seen)


def test_the_system_clock_tells_the_time_of_the_machine() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(NOON)
    before = clock.monotonic()
    assert clock.now() == clock.now() == NOON
    clock.advance(1.5)
    assert clock.now() == NOON + timedelta(seconds=1.5)
    assert clock.monotonic() == before + 1.5
