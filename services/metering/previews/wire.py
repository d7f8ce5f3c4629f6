"""Previews between protobuf and the domain."""

from __future__ import annotations

from chassis.wire import parse_member, parse_text, parse_time, render_time
from kernel.errors import InvalidValue
from kernel.period import Period, parse_zone
from metering.events.domain.event import BatchTooLarge
from metering.events.wire import ID_MAX
from metering.previews.domain import Preview, check_span
from metering.previews.operations import PreviewQuestion
from metering.queries.domain import Window
from metering.usage.domain import text_of
from tollgate.metering.v1 import meter_pb2
from tollgate.type.v1 import amount_pb2

NAMES_MAX = 1_000

PERIODS = {
    meter_pb2.PREVIEW_PERIOD_UNSPECIFIED: Window.WHOLE,
    meter_pb2.PREVIEW_PERIOD_HOUR: Window.HOUR,
    meter_pb2.PREVIEW_PERIOD_DAY: Window.DAY,
    meter_pb2.PREVIEW_PERIOD_MONTH: Window.MONTH,
}


def parse_preview(request: meter_pb2.PreviewMeterRequest) -> PreviewQuestion:
    """What is to be previewed; raises InvalidValue naming the field."""
    if request.HasField("meter") == bool(request.code):
        raise InvalidValue("meter", "exactly one of meter and code is required")
    if len(request.customer_ids) > NAMES_MAX:
        raise BatchTooLarge("customer_ids", NAMES_MAX, len(request.customer_ids))
    if not request.HasField("interval"):
        raise InvalidValue("interval", "is required")
    try:
        interval = Period(
            parse_time(request.interval, "start_time"), parse_time(request.interval, "end_time")
        )
    except InvalidValue as error:
        raise error.inside("interval") from None
    check_span(interval)
    return PreviewQuestion(
        [
            parse_text(name, f"customer_ids[{index}]", maximum=ID_MAX)
            for index, name in enumerate(request.customer_ids)
        ],
        interval,
        parse_member(request.period, PERIODS, "period"),
        parse_zone(request.time_zone or "UTC"),
    )


def render_preview(preview: Preview) -> meter_pb2.PreviewMeterResponse:
    """What a meter would have counted. Raises PreviewTooLarge."""
    return meter_pb2.PreviewMeterResponse(
        rows=[
            meter_pb2.PreviewRow(
                customer_id=figure.customer_id,
                period=amount_pb2.Interval(
                    start_time=render_time(figure.period.start),
                    end_time=render_time(figure.period.end),
                ),
                dimensions=figure.dimensions,
                quantity=text_of(figure.quantity),
                events=figure.event_count,
            )
            for figure in preview.figures()
        ],
        events_read=preview.events_read,
        events_counted=preview.events_counted,
        events_unusable=preview.events_unusable,
        unusable=[
            meter_pb2.UnusableEvent(event_id=each.event_id, why=each.why)
            for each in preview.unusable
        ],
    )
