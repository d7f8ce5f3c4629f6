"""Calls to Tollgate's other services: one channel each, our credential, the caller's context."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC
from typing import Any
from uuid import UUID

import grpc
import structlog

from chassis.auth import AUTHORIZATION, Credentials, Principal
from chassis.call import Call, Environment
from chassis.clocks import CLOCK_VERSION, ClockReading
from chassis.refusals import DeadlineTooShort, RemoteRefusal, Unavailable, from_rpc_error
from chassis.settings import Settings
from kernel.errors import Kind
from tollgate.identity.v1 import identity_service_pb2, identity_service_pb2_grpc, tenant_pb2

__all__ = ["IdentityClock", "IdentityResolver", "Peers", "RemoteRefusal"]

CALL_SECONDS = 5.0  # of a call to a peer where the caller does not say
CALL_SECONDS_MIN = 0.005  # with less than this left, asking is not worth a peer's work
TRACEPARENT = "traceparent"

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    # Retrying is for those who know the key: gRPC's own would repeat calls that may have run.
    ("grpc.enable_retries", 0),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A peer that restarts is found again within half a second rather than two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]

log = structlog.get_logger("chassis.peers")


class PeerUnknown(Exception):
    """TOLLGATE_PEERS names no such service: a fault of the configuration, not of the caller."""


class Peers:
    """The other services, by name. Channels connect when first used."""

    def __init__(self, settings: Settings) -> None:
        self._addresses = settings.peers
        self._credentials = Credentials(settings.service_secret.reveal(), settings.service)
        self._channels: dict[str, grpc.aio.Channel] = {}

    def knows(self, service: str) -> bool:
        """Whether the settings name an address of that service."""
        return service in self._addresses

    def channel(self, service: str) -> grpc.aio.Channel:
        """The one channel to a service; make stubs on it once and keep them."""
        channel = self._channels.get(service)
        if channel is None:
            if service not in self._addresses:
                raise PeerUnknown(f"TOLLGATE_PEERS names no address of {service}")
            channel = grpc.aio.insecure_channel(self._addresses[service], options=CHANNEL_OPTIONS)
            self._channels[service] = channel
        return channel

    async def call(
        self,
        stub_method: Callable[..., Any],
        request: Any,
        *,
        tenant_id: UUID | None,
        timeout: float = CALL_SECONDS,
        call: Call | None = None,
    ) -> Any:
        """Call a unary method of a peer, for a tenant, within `timeout` seconds.

        With `call`, the caller's deadline, test clock and trace go on to the peer. Raises
        RemoteRefusal: the peer's own reason and facts, or kind UNAVAILABLE where nothing was done,
        or kind UNKNOWN_OUTCOME where something may have been.
        """
        if call is not None:
            timeout = min(timeout, call.seconds_left())
            if timeout < CALL_SECONDS_MIN:
                raise DeadlineTooShort(round(timeout * 1000), round(CALL_SECONDS_MIN * 1000))
        try:
            return await stub_method(
                request, timeout=timeout, metadata=self.metadata(tenant_id, call)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def metadata(
        self, tenant_id: UUID | None, call: Call | None = None
    ) -> tuple[tuple[str, str], ...]:
        """What every call to a peer carries; for streams, which `call` does not make."""
        environment = call.environment if call is not None and call.tenant == tenant_id else None
        pairs = [(AUTHORIZATION, self._credentials.header(tenant_id, environment))]
        if call is not None:
            if call.clock_version and call.tenant == tenant_id:
                pairs.append((CLOCK_VERSION, str(call.clock_version)))
            if call.trace is not None:
                pairs.append((TRACEPARENT, call.trace))
        return tuple(pairs)

    async def close(self) -> None:
        """Close every channel."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close(None) for channel in channels.values()))


ENVIRONMENTS = {
    tenant_pb2.ENVIRONMENT_LIVE: Environment.LIVE,
    tenant_pb2.ENVIRONMENT_TEST: Environment.TEST,
}


class IdentityResolver:
    """Asks identity whose an API key is."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def resolve(self, credential: str) -> Principal:
        stub = identity_service_pb2_grpc.KeyServiceStub(self._peers.channel("identity"))
        try:
            answer: identity_service_pb2.AuthenticateKeyResponse = await self._peers.call(
                stub.AuthenticateKey,
                identity_service_pb2.AuthenticateKeyRequest(api_key=credential),
                tenant_id=None,
            )
        except RemoteRefusal as refusal:
            if refusal.kind is Kind.UNAUTHENTICATED and refusal.reason != "CREDENTIAL_REFUSED":
                raise
            # Our own credential was refused, or identity is away: no fault of the caller's key.
            raise _identity_away(refusal) from refusal
        expires = answer.HasField("expire_time")
        return Principal(
            caller=f"key:{answer.key_id}",
            service=None,
            tenant_id=UUID(answer.tenant_id),
            environment=ENVIRONMENTS[answer.environment],
            scopes=frozenset(answer.scopes),
            expire_time=answer.expire_time.ToDatetime(tzinfo=UTC) if expires else None,
        )


class IdentityClock:
    """Asks identity for a tenant's test clock."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def read(self, tenant_id: UUID) -> ClockReading:
        stub = identity_service_pb2_grpc.TestClockServiceStub(self._peers.channel("identity"))
        try:
            answer: identity_service_pb2.GetTestClockResponse = await self._peers.call(
                stub.GetTestClock, identity_service_pb2.GetTestClockRequest(), tenant_id=tenant_id
            )
        except RemoteRefusal as refusal:
            if refusal.kind is Kind.NOT_FOUND:
                raise
            raise _identity_away(refusal) from refusal
        environment = ENVIRONMENTS[answer.environment]
        if not answer.HasField("test_clock"):
            return ClockReading(environment, None, 0)
        clock = answer.test_clock
        return ClockReading(environment, clock.time.ToDatetime(tzinfo=UTC), clock.version)


def _identity_away(refusal: RemoteRefusal) -> Unavailable:
    # The caller learns that it may try again; why it has to is for whoever runs this.
    log.warning("identity_did_not_answer", reason=refusal.reason, why=refusal.message)
    return Unavailable("identity")
