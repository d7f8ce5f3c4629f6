"""Test clocks between protobuf and domain."""

from __future__ import annotations

from chassis.wire import render_time
from identity.clocks.domain import TestClock
from tollgate.identity.v1 import tenant_pb2


def render_clock(clock: TestClock) -> tenant_pb2.TestClock:
    return tenant_pb2.TestClock(
        time=render_time(clock.instant),
        version=clock.version,
        create_time=render_time(clock.create_time),
    )
