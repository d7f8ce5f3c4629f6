"""Renewal: what happens when the term that was agreed on is over (SUB-11)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

from kernel.period import Every

# A renewal at other prices is prepared a day ahead, so that usage is priced right from its first
# second although billing looks only every hour.
LEAD = timedelta(days=1)


class RenewalMode(Enum):
    """Whether a term is followed by another one."""

    AUTO = "AUTO"
    NONE = "NONE"
    AUTO_UNTIL = "AUTO_UNTIL"


class RateSource(Enum):
    """Which prices the next term has."""

    LOCKED = "LOCKED"
    CURRENT = "CURRENT"


@dataclass(frozen=True)
class Renewal:
    """Terms of `every`; None: there are none, the subscription goes on from period to period."""

    mode: RenewalMode = RenewalMode.AUTO
    every: Every | None = None
    until: datetime | None = None
    notice_days: int = 0
    uplift_percent: Decimal = Decimal(0)
    rate_source: RateSource = RateSource.LOCKED
    term_end: datetime | None = None  # of the running term
    number: int = 0  # of terms that are over

    @property
    def changes_prices(self) -> bool:
        return bool(self.uplift_percent) or self.rate_source is RateSource.CURRENT

    @property
    def prepare_time(self) -> datetime | None:
        """When the next term is to be written down; None where nothing changes with it."""
        if self.term_end is None or self.mode is RenewalMode.NONE or not self.changes_prices:
            return None
        return self.term_end - max(LEAD, timedelta(days=self.notice_days))


LOCKED_FOREVER = Renewal()
