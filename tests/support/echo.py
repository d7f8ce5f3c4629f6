"""A service of every call shape, written down in `probe`'s table; runs in process or as a program.

`python -m tests.support.echo serve` is the program whose end the drain tests watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue

from chassis.call import Call
from chassis.platform import Platform
from chassis.program import main
from chassis.server import bind
from chassis.service import App, Job, ServiceDefinition
from chassis.settings import Settings
from kernel.errors import InvalidValue, Kind, Refusal
from tests.support.probe import PACKAGES
from tollgate.type.v1 import access_pb2

SERVICE_NAME = "tollgate.echo.v1.EchoService"
STREAM_ITEMS_MAX = 1_000_000


def _describe() -> Any:
    """The contract: each method takes and answers google.protobuf.StringValue."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tollgate/echo/v1/echo_service.proto",
        package="tollgate.echo.v1",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto", "tollgate/type/v1/access.proto"],
    )
    service = file.service.add(name="EchoService")
    open_to_all = access_pb2.Access(scopes=["echo:read"], services=["operator", "gateway"])
    _add(service, "Echo", open_to_all)
    _add(service, "Note", open_to_all)
    _add(service, "Describe", open_to_all)
    _add(service, "Greet", access_pb2.Access(services=["operator"], tenantless=True))
    _add(service, "Forgotten", None)
    _add(service, "Count", open_to_all, server_streaming=True)
    _add(service, "Chat", open_to_all, client_streaming=True, server_streaming=True)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(SERVICE_NAME)


def _add(
    service: descriptor_pb2.ServiceDescriptorProto,
    name: str,
    access: access_pb2.Access | None,
    **streaming: bool,
) -> None:
    kind = ".google.protobuf.StringValue"
    method = service.method.add(name=name, input_type=kind, output_type=kind, **streaming)
    if access is not None:
        method.options.Extensions[access_pb2.access].CopyFrom(access)


DESCRIPTOR = _describe()


class Broke(Refusal):
    reason = "BROKE"
    kind = Kind.EXHAUSTED


class EchoService:
    """Says things back; `entered` and `released` let a test hold a call in the middle."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database
        self._clocks = platform.clocks
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = 0

    async def Echo(self, request: StringValue, call: Call) -> StringValue:
        match request.value:
            case "refuse":
                raise Broke("nothing left", left=0, asset="USD")
            case "invalid":
                raise InvalidValue("value", "is invalid")
            case "bug":
                raise KeyError("the password is hunter2")
            case "hold":
                self.entered.set()
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
        return request

    async def Note(self, request: StringValue, call: Call) -> StringValue:
        """Write a note durably, then answer."""
        await self._write(call.tenant_id, request.value)
        return request

    async def Describe(self, request: StringValue, call: Call) -> StringValue:
        words = [call.caller, str(call.tenant_id), call.environment.value, call.now.isoformat()]
        return StringValue(value=" ".join([*words, str(call.clock_version), str(call.trace)]))

    async def Greet(self, request: StringValue, call: Call) -> StringValue:
        return StringValue(value="hello")

    async def Forgotten(self, request: StringValue, call: Call) -> StringValue:
        return request

    async def Count(self, request: StringValue, call: Call) -> AsyncIterator[StringValue]:
        for number in range(int(request.value)):
            yield StringValue(value=str(number))
        self.entered.set()
        if request.value == "3":
            raise Broke("at three", left=0)
        if request.value == "2":
            await self.released.wait()

    async def Chat(
        self, requests: AsyncIterator[StringValue], call: Call
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            self.entered.set()
            await self._write(call.tenant_id, request.value)
            yield request

    async def _write(self, tenant_id: UUID, note: str) -> None:
        async with self._database.transaction(tenant_id) as tx:
            await tx.execute("INSERT INTO note VALUES ($1, $2)", tenant_id, note)


class ActingAsGateway(Settings):
    """Settings of a service that identity's rules know by name."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **fixed: object) -> Self:
        return super().load(environ, **(fixed | {"service": "gateway"}))


def definition(
    servicers: list[EchoService] | None = None,
    jobs: list[Job] | None = None,
    config: type[Settings] = Settings,
) -> ServiceDefinition:
    """The service; each servicer that is made is added to `servicers`."""

    @asynccontextmanager
    async def open_app(platform: Platform) -> AsyncIterator[App]:
        servicer = EchoService(platform)
        if servicers is not None:
            servicers.append(servicer)
        yield App([bind(servicer, DESCRIPTOR)], jobs or [])

    return ServiceDefinition("probe", config, open_app, PACKAGES["probe"])


class EchoStub:
    """Multi-callables of the service on a channel, by name."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        write, read = StringValue.SerializeToString, StringValue.FromString
        for name in ("Echo", "Note", "Describe", "Greet", "Forgotten"):
            setattr(self, name, channel.unary_unary(f"/{SERVICE_NAME}/{name}", write, read))
        self.Count = channel.unary_stream(f"/{SERVICE_NAME}/Count", write, read)
        self.Chat = channel.stream_stream(f"/{SERVICE_NAME}/Chat", write, read)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def text(value: str) -> StringValue:
    return StringValue(value=value)


if __name__ == "__main__":
    main(definition())
