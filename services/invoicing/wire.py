"""What several capabilities read and write alike: codes and intervals."""

from __future__ import annotations

from chassis.wire import parse_member, parse_text
from kernel.errors import InvalidValue
from kernel.period import Every, Unit
from tollgate.invoicing.v1 import catalog_pb2 as pb

CODE = r"[A-Za-z0-9_-]+"
METER_CODE = r"[A-Za-z0-9_.-]+"
CODE_MAX = 64

UNITS = {
    pb.INTERVAL_UNIT_UNSPECIFIED: Unit.MONTH,
    pb.INTERVAL_UNIT_DAY: Unit.DAY,
    pb.INTERVAL_UNIT_WEEK: Unit.WEEK,
    pb.INTERVAL_UNIT_MONTH: Unit.MONTH,
    pb.INTERVAL_UNIT_YEAR: Unit.YEAR,
}
RENDERED_UNITS = {unit: number for number, unit in UNITS.items() if number}


def parse_code(text: str, field: str) -> str:
    return parse_text(text, field, maximum=CODE_MAX, pattern=CODE)


def parse_interval(message: pb.BillingInterval, field: str) -> Every:
    unit = parse_member(message.unit, UNITS, f"{field}.unit")
    try:
        return Every(message.count or 1, unit)
    except InvalidValue as refusal:
        raise InvalidValue(f"{field}.count", refusal.why) from None


def render_interval(every: Every) -> pb.BillingInterval:
    return pb.BillingInterval(count=every.count, unit=RENDERED_UNITS[every.unit])
