"""Who calls, for which tenant, at what time, until when: all a handler may know of its caller."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from kernel.errors import Kind, Refusal


class Environment(Enum):
    """Whether a tenant's money is real."""

    LIVE = "LIVE"
    TEST = "TEST"


class TenantMissing(Refusal):
    """The RPC acts for a tenant and the credential names none."""

    reason = "TENANT_MISSING"
    kind = Kind.DENIED

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} acts for a tenant; the credential names none", method=method)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as its handler sees it. Made by the chassis; tests may make their own."""

    method: str  # full name, for example "tollgate.wallet.v1.WalletService/CreateWallet"
    tenant: UUID | None  # None for a call without a tenant; handlers read `tenant_id`
    caller: str  # "key:<id>" or "service:<name>"
    scopes: frozenset[str]
    environment: Environment
    now: datetime  # the tenant's test clock, or the machine's
    clock_version: int  # 0 where the tenant has no test clock
    deadline: float  # asyncio loop time after which nobody waits for the answer
    trace: str | None = None  # W3C traceparent of the caller, or of our span for it

    @property
    def tenant_id(self) -> UUID:
        """The tenant; raises TenantMissing in a call that has none."""
        if self.tenant is None:
            raise TenantMissing(self.method)
        return self.tenant

    @property
    def service(self) -> str | None:
        """Name of the calling program of ours, or None for an API key."""
        return self.caller[8:] if self.caller.startswith("service:") else None

    def seconds_left(self) -> float:
        """Time left to answer in; never negative."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())
