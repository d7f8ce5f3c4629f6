"""A tenant of one's own: made by the operator, then used with nothing but its API key."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.auth import mint
from chassis.call import Environment
from tollgate.identity.v1 import identity_service_pb2 as identity
from tollgate.identity.v1 import tenant_pb2 as tenants
from tollgate_sdk import Endpoints, Tollgate

# An owner's key: all that selling, metering and collecting take.
OWNER_SCOPES = (
    "catalog:admin",
    "customers:admin",
    "events:admin",
    "identity:admin",
    "invoices:admin",
    "meters:admin",
    "payments:admin",
    "subscriptions:admin",
    "usage:admin",
    "wallet:admin",
)


async def create_tenant(endpoints: Endpoints, service_secret: str, name: str) -> str:
    """Create a test tenant and answer an API key of its owner."""
    run = uuid.uuid4().hex
    operator = mint(service_secret, "operator", None, datetime.now(UTC))
    async with Tollgate(endpoints, operator) as client:
        created = await client.call(
            client.tenants.CreateTenant,
            identity.CreateTenantRequest(
                request_id=f"tenant-{run}", name=name, environment=tenants.ENVIRONMENT_TEST
            ),
        )
    tenant_id = UUID(created.tenant.tenant_id)
    operator = mint(service_secret, "operator", tenant_id, datetime.now(UTC), Environment.TEST)
    async with Tollgate(endpoints, operator) as client:
        key = await client.call(
            client.keys.CreateApiKey,
            identity.CreateApiKeyRequest(
                request_id=f"key-{run}", name="owner", scopes=OWNER_SCOPES
            ),
        )
    return str(key.secret)


class TenantClock:
    """The tenant's test clock; every later call of the client sees what it was moved to."""

    def __init__(self, client: Tollgate) -> None:
        self._client = client

    async def start(self, instant: datetime) -> None:
        """Let the tenant live by a clock that stands at `instant`."""
        answer = await self._client.call(
            self._client.test_clocks.CreateTestClock,
            identity.CreateTestClockRequest(request_id="clock", time=render_time(instant)),
        )
        self._client.follow_clock(answer.test_clock.version)

    async def advance(self, instant: datetime) -> None:
        """Move the clock on. It never goes back."""
        answer = await self._client.call(
            self._client.test_clocks.AdvanceTestClock,
            identity.AdvanceTestClockRequest(
                request_id=f"advance-{instant.isoformat()}", time=render_time(instant)
            ),
        )
        self._client.follow_clock(answer.test_clock.version)


def render_time(instant: datetime) -> Timestamp:
    """An instant as a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
