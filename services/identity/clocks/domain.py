"""A tenant's test clock: it stands still, and goes forward when told to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from kernel.errors import Kind, Refusal


class LiveTenantKeepsRealTime(Refusal):
    """Real money moves in real time."""

    reason = "LIVE_TENANT_KEEPS_REAL_TIME"


class TestClockExists(Refusal):
    """A tenant has one clock, so that all of its services agree on the time."""

    __test__ = False  # the name is the domain's; no test runner's business
    reason = "TEST_CLOCK_EXISTS"
    kind = Kind.CONFLICT


class TestClockGoesForward(Refusal):
    """What was billed at one time cannot be unbilled by an earlier one."""

    __test__ = False
    reason = "TEST_CLOCK_GOES_FORWARD"


@dataclass(frozen=True, slots=True)
class TestClock:
    """The present instant of a tenant. `version` is 1 at first and rises by one per advance."""

    instant: datetime
    version: int
    create_time: datetime  # in real time


def advance(clock: TestClock, instant: datetime) -> TestClock:
    """The clock at a later instant; raises TestClockGoesForward."""
    if instant <= clock.instant:
        raise TestClockGoesForward(
            "a test clock only goes forward",
            time=clock.instant.isoformat(),
            asked=instant.isoformat(),
        )
    return replace(clock, instant=instant, version=clock.version + 1)
