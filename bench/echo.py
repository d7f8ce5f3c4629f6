"""A service that answers what it is asked, on the same server, chain and credentials as the rest.

Run as a program it serves; imported, it measures. The contract is built here, since no product
needs it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO
from uuid import UUID

import grpc.aio
import uvloop
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bench.load import LATENCY_CALLERS, RATE_CALLERS, drive
from bench.records import Records
from chassis.auth import mint
from chassis.call import Call, Environment
from chassis.clocks import ClockReading
from chassis.platform import Platform
from chassis.server import bind
from chassis.service import App, ServiceDefinition, running
from chassis.settings import Settings
from tollgate.type.v1 import access_pb2

SECRET = "a secret of the benchmark alone, forty characters"
TENANT = UUID(int=1)
PAYLOAD = "x" * 200  # about as much as an authorization carries


def _descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="bench/echo.proto", package="bench", syntax="proto3"
    )
    message = file.message_type.add(name="Text")
    message.field.add(
        name="text",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )
    method = file.service.add(name="EchoService").method.add(
        name="Echo", input_type=".bench.Text", output_type=".bench.Text"
    )
    method.options.Extensions[access_pb2.access].services.append("operator")
    return file


_FILE = descriptor_pool.Default().AddSerializedFile(_descriptor().SerializeToString())
_FILE = descriptor_pool.Default().FindFileByName("bench/echo.proto")
Text = message_factory.GetMessageClass(_FILE.message_types_by_name["Text"])


class Echo:
    """The servicer."""

    async def Echo(self, request: object, call: Call) -> object:
        return request


class _RealTime:
    async def read(self, tenant_id: UUID) -> ClockReading:
        return ClockReading(Environment.TEST, None, 0)


@asynccontextmanager
async def _open(platform: Platform) -> AsyncIterator[App]:
    binding = bind(Echo(), _FILE.services_by_name["EchoService"])
    yield App(bindings=[binding], jobs=[], clock_source=_RealTime())


async def _serve() -> None:
    settings = Settings(
        service="echo",
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1",
        service_secret=SECRET,
        listen="127.0.0.1:0",
    )
    definition = ServiceDefinition(
        name="echo", config=Settings, open=_open, migrations="identity.migrations"
    )
    async with running(definition, settings, work=False) as service:
        print(json.dumps({"listening": service.address}), flush=True)
        await asyncio.Event().wait()


async def measure(records: Records) -> None:
    """Unary calls a second with the server saturated, and their durations at 64 callers and at one.

    Rates are taken at 256 callers, durations at 64: in a closed loop of 64 a service that gathers
    calls into durable batches waits for its callers part of the time, and the rate is theirs.
    """
    process = _start()
    try:
        assert process.stdout is not None
        address = await asyncio.to_thread(_await_address, process.stdout)
        token = mint(SECRET, "operator", TENANT, datetime.now(UTC), Environment.TEST)
        metadata = (("authorization", f"Bearer {token}"),)
        async with grpc.aio.insecure_channel(address) as channel:
            echo = channel.unary_unary(
                "/bench.EchoService/Echo",
                request_serializer=Text.SerializeToString,
                response_deserializer=Text.FromString,
            )
            request = Text(text=PAYLOAD)

            async def call(_: int) -> None:
                await echo(request, metadata=metadata, timeout=10)

            full = await drive(call, callers=RATE_CALLERS, warm_up=20)
            records.add("echo.unary", full.rate(), "calls/s")
            load = await drive(call, callers=LATENCY_CALLERS, seconds=3.0)
            records.add_latency("echo.unary", load.durations)
            single = await drive(call, callers=1, seconds=1.5, warm_up=20)
            records.add_latency("echo.unary.one_caller", single.durations)
    finally:
        process.kill()
        process.wait()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.echo"], stdout=subprocess.PIPE)


def _await_address(output: IO[bytes]) -> str:
    # The service logs that its database is away, which is so.
    for line in output:
        if line.startswith(b'{"listening"'):
            return str(json.loads(line)["listening"])
    raise RuntimeError("the echo service did not start")


if __name__ == "__main__":
    uvloop.run(_serve())
