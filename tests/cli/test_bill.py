"""`tollgate bill run` and `tollgate invoice`: what a person sees of a run, and files on disk."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chassis.auth import mint
from chassis.call import Environment
from kernel.errors import InvalidValue
from tests.invoicing.support import Books, at, fixed
from tests.support.databases import FreshDatabase
from tests.support.services import SERVICE_SECRET, Services, credential
from tollgate.identity.v1 import identity_service_pb2, identity_service_pb2_grpc, tenant_pb2
from tollgate_cli.bill import Action, FileFormat, bill, invoice
from tollgate_cli.installation import SuiteFailed


async def test_a_run_is_watched_and_its_invoices_are_written_as_files(
    database: FreshDatabase,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await services.run("identity", database)
    await services.run("invoicing", database)
    tenants = identity_service_pb2_grpc.TenantServiceStub(await services.channel("identity"))
    made = await tenants.CreateTenant(
        identity_service_pb2.CreateTenantRequest(
            request_id=uuid4().hex, name="Tenant", environment=tenant_pb2.ENVIRONMENT_LIVE
        ),
        metadata=credential(None, environment=None),
    )
    tenant_id = UUID(made.tenant.tenant_id)
    books = Books(await services.channel("invoicing"), tenant_id)
    await books.publish(fixed("5"))
    for name in ("acme", "other"):
        await books.customer(name)
        await books.subscribe(name, start_time=at(2026, 1, 1))
    key = mint(SERVICE_SECRET, "operator", tenant_id, datetime.now(UTC), Environment.LIVE)
    monkeypatch.setenv("TOLLGATE_API_KEY", key)
    monkeypatch.chdir(tmp_path)
    where = f"invoicing={services.addresses['invoicing']}"

    await asyncio.to_thread(bill, Action.RUN, "2026-02-01", tmp_path, where)
    assert "2 invoices for 2 of 2 customers" in capsys.readouterr().out
    await asyncio.to_thread(bill, Action.RUN, "2026-02-01", tmp_path, where)
    assert "0 invoices for 0 of 0 customers" in capsys.readouterr().out
    with pytest.raises(InvalidValue, match="is no time"):
        bill(Action.RUN, "soon", tmp_path, where)

    found = await books.list_invoices("acme")
    number = found[0].number
    write = asyncio.to_thread(invoice, number, FileFormat.PDF, None, False, tmp_path, where)
    await write
    assert (tmp_path / f"{number}.pdf").read_bytes().startswith(b"%PDF")
    path = tmp_path / "mine.pdf"
    await asyncio.to_thread(
        invoice, found[0].invoice_id, FileFormat.PDF, path, False, tmp_path, where
    )
    assert path.read_bytes() == (tmp_path / f"{number}.pdf").read_bytes()
    with pytest.raises(SuiteFailed, match="there is no invoice INV-0"):
        await asyncio.to_thread(invoice, "INV-0", FileFormat.PDF, None, False, tmp_path, where)
