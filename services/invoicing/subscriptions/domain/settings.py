"""Endings, pauses and renewals as they are kept: documents in which absent means the default."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from invoicing.subscriptions.domain.renewal import RateSource, Renewal, RenewalMode
from invoicing.subscriptions.domain.subscription import Ending, PausedUsage, Pausing, Unused
from kernel.money import format_decimal
from kernel.period import Every, Unit


def ending_document(ending: Ending) -> dict[str, Any]:
    """How a cancellation is settled, as it is kept."""
    if ending == Ending():
        return {}
    return {
        "unused": ending.unused.value,
        "waives_usage": ending.waives_usage,
        "skips_invoice": ending.skips_invoice,
        "bills_last_day": ending.bills_last_day,
    }


def ending_of(document: Mapping[str, Any]) -> Ending:
    """The ending of a document that `ending_document` made."""
    return Ending(**{**document, "unused": Unused(document["unused"])}) if document else Ending()


def pausing_document(pausing: Pausing) -> dict[str, Any]:
    """How a pause is settled, as it is kept."""
    if pausing == Pausing():
        return {}
    return {
        "keeps_billing": pausing.keeps_billing,
        "usage": pausing.usage.value,
        "extends_period": pausing.extends_period,
    }


def pausing_of(document: Mapping[str, Any]) -> Pausing:
    """The pause of a document that `pausing_document` made."""
    if not document:
        return Pausing()
    return Pausing(**{**document, "usage": PausedUsage(document["usage"])})


def renewal_document(renewal: Renewal) -> dict[str, Any]:
    """A renewal as it is kept; empty where there is no term."""
    if renewal.every is None:
        return {}
    return {
        "mode": renewal.mode.value,
        "count": renewal.every.count,
        "unit": renewal.every.unit.value,
        "until": _text(renewal.until),
        "notice_days": renewal.notice_days,
        "uplift_percent": format_decimal(renewal.uplift_percent),
        "rate_source": renewal.rate_source.value,
        "term_end": _text(renewal.term_end),
        "number": renewal.number,
    }


def renewal_of(document: Mapping[str, Any]) -> Renewal:
    """The renewal of a document that `renewal_document` made."""
    if not document:
        return Renewal()
    return Renewal(
        mode=RenewalMode(document["mode"]),
        every=Every(document["count"], Unit(document["unit"])),
        until=_time(document["until"]),
        notice_days=document["notice_days"],
        uplift_percent=Decimal(document["uplift_percent"]),
        rate_source=RateSource(document["rate_source"]),
        term_end=_time(document["term_end"]),
        number=document["number"],
    )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
