"""What a tenant is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.call import Environment

NAME_MAX = 200

# Tenants are made before there is a tenant to keep request keys for, so the key makes the id.
TENANT_NAMESPACE = UUID("3f0d2f3c-8a63-5d0e-9a35-6d6f5c1f7b11")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who runs billing. Everything but its name is fixed at creation."""

    tenant_id: UUID
    name: str
    environment: Environment
    create_time: datetime
