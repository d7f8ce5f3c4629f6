"""The gRPC server: binds servicers by their descriptors and carries calls to the one chain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from chassis.chain import Chain, Failure, Method, Rule, Shape
from chassis.health import Health
from chassis.refusals import DETAILS_KEY, Draining
from chassis.settings import split_address
from tollgate.type.v1 import access_pb2

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 16 * 1024
CONNECTION_AGE_MS = 600_000  # so that new processes are found by old clients
CONNECTION_GRACE_MS = 60_000

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.so_reuseport", 1),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_MS),
    ("grpc.max_connection_idle_ms", 900_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
]


class PortInUse(Exception):
    """The address to listen on belongs to another program. The message says so in a sentence."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A servicer's methods with their access rules, ready to be served."""

    service: str  # full name, for example "tollgate.wallet.v1.WalletService"
    methods: tuple[Method, ...]


def bind(servicer: object, descriptor: ServiceDescriptor) -> Binding:
    """Join a plain servicer to its service: one coroutine method per RPC, under the RPC's name.

    Unary: `async def Name(self, request, call) -> response`. Server stream: an async generator
    `Name(self, request, call)`. Both ways: the same, its first argument an async iterator.
    The access rule is read from the proto; an RPC without one is refused to everybody. Raises
    TypeError where the servicer lacks a method.
    """
    methods = tuple(_bind_method(servicer, descriptor, method) for method in descriptor.methods)
    return Binding(descriptor.full_name, methods)


def _bind_method(
    servicer: object, descriptor: ServiceDescriptor, method: MethodDescriptor
) -> Method:
    function = getattr(servicer, method.name, None)
    if not callable(function):
        raise TypeError(f"{type(servicer).__name__} lacks {descriptor.full_name}/{method.name}")
    match (method.client_streaming, method.server_streaming):
        case (False, False):
            shape = Shape.UNARY
        case (False, True):
            shape = Shape.SERVER_STREAM
        case (True, True):
            shape = Shape.BIDI
        case _:
            # A drain could not tell such a caller how much of its stream was read.
            raise TypeError(f"{descriptor.full_name}/{method.name} streams requests to one answer")
    options = method.GetOptions()
    rule = None
    if options.HasExtension(access_pb2.access):
        access = options.Extensions[access_pb2.access]
        rule = Rule(frozenset(access.scopes), frozenset(access.services), access.tenantless)
    return Method(
        descriptor.full_name, method.name, shape, rule, function, GetMessageClass(method.input_type)
    )


class Server:
    """One process's gRPC server. `start` it, then `drain` it once."""

    def __init__(
        self,
        bindings: list[Binding],
        chain: Chain,
        health: Health,
        listen: str,
        health_listen: str = "",
    ) -> None:
        self.address = listen
        self.health_address = health_listen
        self._chain = chain
        self._health = health
        self._streams: set[_Stream] = set()
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((health.handlers(),))
        for binding in bindings:
            self._server.add_generic_rpc_handlers((self._handlers(binding),))
        health.add_services(binding.service for binding in bindings)
        self._health_server = grpc.aio.server(options=OPTIONS) if health_listen else None
        if self._health_server is not None:
            self._health_server.add_generic_rpc_handlers((health.handlers(),))

    async def start(self, *, shared: bool = False) -> None:
        """Listen. Raises PortInUse; with `shared`, sister processes may have the port too."""
        self.address = _open(self._server, self.address, shared)
        if self._health_server is not None:
            self.health_address = _open(self._health_server, self.health_address, shared)
            await self._health_server.start()
        await self._server.start()

    async def drain(self, seconds: float) -> None:
        """Stop taking calls, let those under way finish within `seconds`, end streams kindly."""
        self._health.set("drain", "is stopping")
        self._chain.draining = True
        for stream in list(self._streams):
            stream.interrupt()
        await self._server.stop(seconds)
        if self._health_server is not None:
            await self._health_server.stop(0)

    def _handlers(self, binding: Binding) -> grpc.GenericRpcHandler[Any, Any]:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in binding.methods:
            read = method.request_class.FromString
            match method.shape:
                case Shape.UNARY:
                    made = grpc.unary_unary_rpc_method_handler(self._unary(method), read, _write)
                case Shape.SERVER_STREAM:
                    made = grpc.unary_stream_rpc_method_handler(
                        self._server_stream(method), read, _write
                    )
                case Shape.BIDI:
                    made = grpc.stream_stream_rpc_method_handler(self._bidi(method), read, _write)
            handlers[method.name] = made
        return grpc.method_handlers_generic_handler(binding.service, handlers)

    def _unary(self, method: Method) -> Any:
        answer = self._chain.answer

        async def serve_unary(request: Any, context: Any) -> Any:
            try:
                return await answer(
                    method, request, context.invocation_metadata(), context.time_remaining()
                )
            except Failure as failure:
                await _abort(context, failure)

        return serve_unary

    def _server_stream(self, method: Method) -> Any:
        async def serve_server_stream(request: Any, context: Any) -> AsyncIterator[Any]:
            stream = _Stream(self._chain)
            responses = self._chain.stream(
                method, request, context.invocation_metadata(), context.time_remaining()
            )
            async for response in self._carry(stream, method, stream.answers(responses), context):
                yield response

        return serve_server_stream

    def _bidi(self, method: Method) -> Any:
        async def serve_bidi(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            stream = _Stream(self._chain)
            responses = self._chain.stream(
                method,
                stream.requests(requests),
                context.invocation_metadata(),
                context.time_remaining(),
            )
            async for response in self._carry(stream, method, responses, context):
                yield response

        return serve_bidi

    async def _carry(
        self, stream: _Stream, method: Method, responses: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        self._streams.add(stream)
        try:
            async for response in responses:
                yield response
            if stream.cut:
                raise Draining
        except Draining as refusal:
            await _abort(context, self._chain.fail(method, refusal))
        except Failure as failure:
            await _abort(context, failure)
        finally:
            self._streams.discard(stream)


@asynccontextmanager
async def serving_health(health: Health, address: str) -> AsyncIterator[str]:
    """Answer health and nothing else, for a process that only works; yields the address."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((health.handlers(),))
    opened = _open(server, address, shared=False)
    await server.start()
    try:
        yield opened
    finally:
        await server.stop(0)


class _Stream:
    """An open stream, which a drain interrupts where it only waits.

    A stream of requests ends as if the caller had half-closed, so that what has been read is still
    answered; then the stream ends as UNAVAILABLE. A stream of answers is cut between two of them.
    """

    def __init__(self, chain: Chain) -> None:
        self.cut = False  # requests may have been left unread
        self._chain = chain
        self._waiting: asyncio.Task[Any] | None = None

    def interrupt(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def requests(self, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            try:
                yield await self._next(source)
            except Draining:
                self.cut = True
                return
            except StopAsyncIteration:
                return

    async def answers(self, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            try:
                yield await self._next(source)
            except StopAsyncIteration:
                return

    async def _next(self, source: AsyncIterator[Any]) -> Any:
        if self._chain.draining:
            raise Draining
        self._waiting = asyncio.current_task()
        try:
            return await anext(source)
        except asyncio.CancelledError:
            if not self._chain.draining or self._waiting is None:
                raise
            self._waiting.uncancel()
            raise Draining from None
        finally:
            self._waiting = None


def _write(message: Any) -> bytes:
    return bytes(message.SerializeToString())


async def _abort(context: Any, failure: Failure) -> None:
    await context.abort(failure.code, failure.message, ((DETAILS_KEY, failure.details),))


def _open(server: grpc.aio.Server, address: str, shared: bool) -> str:
    host, port = split_address(address)
    if port and not shared:
        _assert_free(host.strip("[]"), port)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise PortInUse(f"cannot listen on {address}: it is in use or not ours")
    return f"{host}:{bound}"


def _assert_free(host: str, port: int) -> None:
    # SO_REUSEPORT would let a second program share the port in silence; a plain bind tells.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "it is not ours"
            raise PortInUse(f"cannot listen on {host}:{port}: {reason.lower()}") from None
