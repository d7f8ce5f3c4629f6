"""Reading what limits are decided by: nothing where a batch falls under none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from chassis.database import Database
from metering.aggregates.domain.tally import ADDS_UP, Aggregation
from metering.events import store as events
from metering.limits import store
from metering.limits.domain import Count, Limit, LimitBook, Reset, window_key
from metering.meters.domain import Meter, MeterSet
from metering.queries.domain import Window
from metering.queries.operations import Question as UsageQuestion
from metering.queries.operations import query
from metering.usage.operations import hours_of
from metering.usage.store import read_number
from rating.exact import Number


class Question(NamedTuple):
    """Usage that limits are to be asked for."""

    customer_id: str
    limits: Mapping[str, Sequence[Limit]]  # of the customer, by meter
    measured: Sequence[tuple[Meter, Number]]
    now: datetime

    @property
    def falling(self) -> list[Limit]:
        """The limits that it counts against."""
        return [each for meter, _ in self.measured for each in self.limits.get(meter.code, ())]


async def read_book(
    database: Database, tenant_id: UUID, meters: MeterSet, questions: Iterable[Question]
) -> LimitBook:
    """What the limits of these questions are decided by. Without limits, nothing is read."""
    asked = [(question, question.falling) for question in questions if question.limits]
    asked = [(question, falling) for question, falling in asked if falling]
    if not asked:
        return LimitBook()
    rolling = {
        question.customer_id
        for question, falling in asked
        if any(limit.reset is Reset.ROLLING for limit in falling)
    }
    opened = {}
    if rolling:
        async with database.transaction(tenant_id) as tx:
            opened = await store.list_windows(tx, tenant_id, rolling)
    counts = list(
        dict.fromkeys(
            Count(
                question.customer_id,
                limit.meter,
                limit.window(question.now, opened.get(window_key(question.customer_id, limit))),
            )
            for question, falling in asked
            for limit in falling
        )
    )
    customers = sorted({question.customer_id for question, _ in asked})
    now = max(question.now for question, _ in asked)
    book = await store.read(database, tenant_id, now, customers, counts)
    book.opened = opened
    plain = [count for count in counts if meters.meters[count.meter].is_additive_by_hour]
    await _leave_out_what_was_before(database, tenant_id, meters, book, plain)
    await _ask_for_others(database, tenant_id, meters, book, set(counts) - set(plain), now)
    return book


async def _ask_for_others(
    database: Database,
    tenant_id: UUID,
    meters: MeterSet,
    book: LimitBook,
    counts: Iterable[Count],
    now: datetime,
) -> None:
    """What hours do not add up to, such as distinct keys, is asked for as usage queries ask."""
    asked = [count for count in counts if meters.meters[count.meter].aggregation in ADDS_UP]
    if not asked:
        return
    async with database.transaction(tenant_id) as tx:
        for count in asked:
            question = UsageQuestion(
                [count.customer_id], [count.meter], count.window, Window.WHOLE, "UTC",
                ZoneInfo("UTC"), [],
            )  # fmt: skip
            rows = await query(tx, tenant_id, meters, question, (), 1, now)
            book.used[count].total = read_number(rows[0].quantity) if rows else 0


async def _leave_out_what_was_before(
    database: Database,
    tenant_id: UUID,
    meters: MeterSet,
    book: LimitBook,
    counts: Sequence[Count],
) -> None:
    """Usage is summed up by hours: what the first one has of before the window goes."""
    partial = [(count, before) for count in counts if (before := count.before) is not None]
    if not partial:
        return
    async with database.transaction(tenant_id) as tx:
        for count, before in partial:
            stored = await events.list_between(tx, tenant_id, [count.customer_id], [before])
            for each in stored:
                for (_, meter, _, _), aggregation, value in hours_of(each, meters):
                    if meter == count.meter and aggregation is not Aggregation.MAX:
                        book.used[count].total -= value
