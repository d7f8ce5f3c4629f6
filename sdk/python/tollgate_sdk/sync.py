"""The same client for code without a loop: calls block, and may come from any thread.

A background thread runs the asynchronous client. Everything is closed by its context manager, or
when the interpreter exits; after a fork, connect anew in the child.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from tollgate.metering.v1 import correction_pb2, event_pb2, gate_pb2
from tollgate.type.v1 import amount_pb2
from tollgate_sdk import backlog, client, gate, producer, streaming, usage
from tollgate_sdk.client import CALL_SECONDS, RETRY_SECONDS, Endpoints
from tollgate_sdk.events import Properties
from tollgate_sdk.gate import GATE_SECONDS, WhenAway
from tollgate_sdk.looping import LoopClosed, LoopThread
from tollgate_sdk.producer import DRAIN_SECONDS, Limits, OnOutcome, WhenFull

__all__ = [
    "Authorized",
    "Delivery",
    "Endpoints",
    "EventStream",
    "Limits",
    "LoopClosed",
    "Producer",
    "Tollgate",
    "Usage",
    "WhenAway",
    "WhenFull",
]


class Tollgate:
    """A connection to all services of one installation under one credential; see tollgate_sdk.

    `with Tollgate(endpoints, credential) as tollgate:`. Stubs are on `stubs`:
    `tollgate.call(tollgate.stubs.wallets.GetBalances, request)`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        credential: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
        tls: grpc.ChannelCredentials | None = None,
    ) -> None:
        async def connect() -> client.Tollgate:
            return client.Tollgate(endpoints, credential, retry_seconds=retry_seconds, tls=tls)

        self._loop = LoopThread("tollgate")
        self.stubs = self._loop.run(connect())
        self._closed = False
        atexit.register(self.close)

    def __enter__(self) -> Tollgate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drain and close the producers, then the channels and the background thread.

        Raises NotDelivered where a producer without a journal could not deliver everything.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self._loop.run(self.stubs.close())
        except LoopClosed:
            return  # forked: the connection is the parent's
        finally:
            self._loop.close()

    def follow_clock(self, version: int) -> None:
        """Make every later call see at least this version of the tenant's test clock."""
        self.stubs.follow_clock(version)

    def call(
        self,
        method: Any,
        request: Any,
        *,
        seconds: float = CALL_SECONDS,
        retry: bool = True,
        retry_seconds: float | None = None,
    ) -> Any:
        """Call one RPC and answer its response, or raise TollgateError; as the asynchronous one."""
        return self._loop.run(
            self.stubs.call(
                method, request, seconds=seconds, retry=retry, retry_seconds=retry_seconds
            )
        )

    def event_stream(self) -> EventStream:
        """Events over one open call: `with tollgate.event_stream() as stream:`."""

        async def open_stream() -> streaming.EventStream:
            return await self.stubs.event_stream().__aenter__()

        return EventStream(self._loop, self._loop.run(open_stream()))

    def ingest_cloud_events(self, document: str | bytes) -> list[event_pb2.EventOutcome]:
        """Send CloudEvents in the JSON format; as the asynchronous one."""
        return self._loop.run(self.stubs.ingest_cloud_events(document))

    def amend_events(
        self, events: Sequence[event_pb2.Event], reason: str
    ) -> list[correction_pb2.CorrectionOutcome]:
        """Put other content in the place of events; as the asynchronous one."""
        return self._loop.run(self.stubs.amend_events(events, reason))

    def deprecate_events(
        self, event_ids: Sequence[str], reason: str
    ) -> list[correction_pb2.CorrectionOutcome]:
        """Declare events never to have happened; as the asynchronous one."""
        return self._loop.run(self.stubs.deprecate_events(event_ids, reason))

    def explain_charge(
        self, *, event_id: str = "", charge_id: str = ""
    ) -> event_pb2.ExplainChargeResponse:
        """Why an event cost what it cost; as the asynchronous one."""
        return self._loop.run(self.stubs.explain_charge(event_id=event_id, charge_id=charge_id))

    def producer(
        self,
        *,
        folder: Path | str | None = None,
        durable: bool = True,
        limits: Limits | None = None,
        when_full: WhenFull = WhenFull.WAIT,
        on_outcome: OnOutcome | None = None,
    ) -> Producer:
        """An open producer, usable from several threads, closed with it or with the client.

        `on_outcome` is called on the background thread: it must be quick and must not call back.
        """
        made = self.stubs.producer(
            folder=folder,
            durable=durable,
            limits=limits,
            when_full=when_full,
            on_outcome=on_outcome,
        )
        self._loop.run(made.open())
        return Producer(self._loop, made)

    def authorized(
        self,
        *,
        customer_id: str,
        estimate: gate_pb2.UsageEstimate | None = None,
        maximum: amount_pb2.Amount | None = None,
        name: str = "",
        subject: str = "",
        feature: str = "",
        time_to_live: timedelta | None = None,
        over_use: gate_pb2.OverUse.ValueType = gate_pb2.OVER_USE_UNSPECIFIED,
        node: str = "",
        partial_allowed: bool = False,
        quantity_property: str = "",
        when_away: WhenAway = WhenAway.DENY,
        report_when_raised: bool = False,
        producer: Producer | None = None,
        gate_seconds: float = GATE_SECONDS,
    ) -> Authorized:
        """Usage behind the gate: `with tollgate.authorized(…) as usage:`; as the asynchronous one.

        Where a producer reports, `usage.delivery` belongs to the background thread; wait for its
        outcome by `producer.flush()`.
        """
        made = self.stubs.authorized(
            customer_id=customer_id,
            estimate=estimate,
            maximum=maximum,
            name=name,
            subject=subject,
            feature=feature,
            time_to_live=time_to_live,
            over_use=over_use,
            node=node,
            partial_allowed=partial_allowed,
            quantity_property=quantity_property,
            when_away=when_away,
            report_when_raised=report_when_raised,
            producer=producer.asynchronous if producer is not None else None,
            gate_seconds=gate_seconds,
        )
        return Authorized(self._loop, made)


class EventStream:
    """Events over one open call, from any thread; see tollgate_sdk.EventStream."""

    def __init__(self, loop: LoopThread, asynchronous: streaming.EventStream) -> None:
        self._loop = loop
        self._asynchronous = asynchronous

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, events: Sequence[event_pb2.Event]) -> list[event_pb2.EventOutcome]:
        """The outcomes of a batch, in order. Raises TollgateError, ProducerClosed."""
        return self._loop.run(self._asynchronous.send(events))

    def close(self) -> None:
        """Send no more, and wait for what is on its way."""
        self._loop.run(self._asynchronous.close())


class Producer:
    """Sends usage events in batches, from any thread; see tollgate_sdk.Producer."""

    def __init__(self, loop: LoopThread, asynchronous: producer.Producer) -> None:
        self.asynchronous = asynchronous
        self._loop = loop

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unsettled(self) -> int:
        """How many events wait, are in flight, or have no final outcome yet."""
        return self.asynchronous.unsettled

    @property
    def trouble(self) -> Exception | None:
        """Why events are not taken at present (a TollgateError); None while all is well."""
        return self.asynchronous.trouble

    def send(self, event: event_pb2.Event, *, when_full: WhenFull | None = None) -> Delivery:
        """Take an event: in the journal, where there is one, when this returns.

        Blocks, or raises BufferFull, while the buffer is full; raises EventTooLarge, JournalBroken,
        ProducerClosed. Events of one customer keep the order in which one thread sends them.
        """
        taken = self._loop.run(self.asynchronous.send(event, when_full=when_full))
        return Delivery(self._loop, taken)

    def flush(self, timeout: float | None = None) -> None:
        """Return when every event that was taken so far has its final outcome.

        Raises TimeoutError after `timeout` seconds; the events stay on their way.
        """
        self._loop.run(self.asynchronous.flush(), timeout)

    def close(self, drain_seconds: float = DRAIN_SECONDS) -> int:
        """Take no more, wait for outcomes at most this long, and answer how many are missing."""
        return self._loop.run(self.asynchronous.close(drain_seconds))


class Delivery:
    """An event that the producer took."""

    def __init__(self, loop: LoopThread, asynchronous: backlog.Delivery) -> None:
        self.event_id = asynchronous.event_id
        self._asynchronous = asynchronous
        self._loop = loop

    @property
    def done(self) -> bool:
        """Whether the outcome is known, or known not to come."""
        return self._asynchronous.done

    def outcome(self, timeout: float | None = None) -> event_pb2.EventOutcome:
        """Wait for what became of it.

        Raises NotDelivered where the producer closes first, TimeoutError after `timeout` seconds.
        """

        async def wait() -> event_pb2.EventOutcome:
            return await self._asynchronous

        return self._loop.run(wait(), timeout)


class Authorized:
    """`with tollgate.authorized(…) as usage:` asks the gate, runs the block, reports."""

    def __init__(self, loop: LoopThread, asynchronous: gate.Authorized) -> None:
        self._asynchronous = asynchronous
        self._loop = loop

    def __enter__(self) -> Usage:
        return Usage(self._loop, self._loop.run(self._asynchronous.__aenter__()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._asynchronous.__aexit__(kind, error, trace))


class Usage:
    """Usage that may run; see tollgate_sdk.Usage."""

    def __init__(self, loop: LoopThread, asynchronous: usage.Usage) -> None:
        self.asynchronous = asynchronous
        self._loop = loop

    @property
    def authorization(self) -> gate_pb2.Authorization | None:
        """What was set aside; None where it was allowed while the gate was away."""
        return self.asynchronous.authorization

    @property
    def allowed_while_away(self) -> bool:
        """Whether nobody was asked."""
        return self.asynchronous.allowed_while_away

    @property
    def granted(self) -> dict[str, str]:
        """The properties of the usage that was granted."""
        return self.asynchronous.granted

    @property
    def final_grant(self) -> bool:
        """Whether this is the last quota: end the use when it is used up."""
        return self.asynchronous.final_grant

    @property
    def event(self) -> event_pb2.Event | None:
        """What will be reported at the end of the block."""
        return self.asynchronous.event

    @property
    def outcome(self) -> event_pb2.EventOutcome | None:
        """After the block, where it was reported directly."""
        return self.asynchronous.outcome

    @property
    def delivery(self) -> backlog.Delivery | None:
        """After the block, where a producer reports; it belongs to the background thread."""
        return self.asynchronous.delivery

    def report(
        self,
        properties: Properties | None = None,
        *,
        event_time: datetime | None = None,
        event_id: str = "",
    ) -> None:
        """Say what was used; it is sent when the block ends."""
        self.asynchronous.report(properties, event_time=event_time, event_id=event_id)

    def withdraw(self) -> None:
        """Take the report back: nothing was used after all."""
        self.asynchronous.withdraw()

    def capture(
        self,
        properties: Properties | None = None,
        *,
        event_time: datetime | None = None,
        event_id: str = "",
    ) -> Delivery | event_pb2.EventOutcome:
        """Report a part of the use now and keep the rest set aside."""
        made = self._loop.run(
            self.asynchronous.capture(properties, event_time=event_time, event_id=event_id)
        )
        return Delivery(self._loop, made) if isinstance(made, backlog.Delivery) else made

    def extend(self, time_to_live: timedelta) -> None:
        """Let the authorization last so long from now."""
        self._loop.run(self.asynchronous.extend(time_to_live))

    def increase(
        self,
        more: gate_pb2.UsageEstimate | amount_pb2.Amount,
        *,
        time_to_live: timedelta | None = None,
        partial_allowed: bool = False,
    ) -> None:
        """Set more aside, beyond what is granted. Raises Denied, and all stays as it was."""
        self._loop.run(
            self.asynchronous.increase(
                more, time_to_live=time_to_live, partial_allowed=partial_allowed
            )
        )
