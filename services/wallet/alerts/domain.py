"""When an alert on the use of a wallet fires, and when it is armed again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

DAY = timedelta(days=1)
WINDOW_HOURS_DEFAULT = 7 * 24
ELAPSED_MIN = timedelta(minutes=10)  # a rate over less says nothing
SAMPLES_OF_A_WINDOW = 48


class SpendAlertKind(IntEnum):
    DAYS_LEFT = 1
    BURN_RATE = 2
    GRANT_EXPIRY = 3


@dataclass(frozen=True, slots=True)
class SpendAlert:
    """An alert of one wallet and asset; the threshold is in days, or in atoms a day."""

    wallet_id: str
    asset: str
    scale: int
    kind: SpendAlertKind
    threshold: Decimal
    window_hours: int
    armed: bool

    @property
    def window(self) -> timedelta:
        return timedelta(hours=self.window_hours)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was used until a time and a number, in atoms from some beginning."""

    time: datetime
    sequence: int
    used: int


def burn_rate(base: Sample, now: Sample) -> Fraction | None:
    """Atoms a day between two samples; None where too little time has passed to say."""
    elapsed = now.time - base.time
    if elapsed < ELAPSED_MIN:
        return None
    return (
        Fraction(now.used - base.used)
        / Fraction(elapsed / timedelta(microseconds=1))
        * (DAY // timedelta(microseconds=1))
    )


def is_crossed(alert: SpendAlert, rate: Fraction, available: int) -> bool:
    """Whether the wallet is on the wrong side of the threshold."""
    if alert.kind is SpendAlertKind.BURN_RATE:
        return rate >= Fraction(alert.threshold)
    # At no use at all it lasts for ever.
    return rate > 0 and Fraction(available) <= Fraction(alert.threshold) * rate
