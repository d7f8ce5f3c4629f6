"""`tollgate bill run` and `tollgate invoice`: bill what is due, and get a document as a file."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kernel.errors import InvalidValue
from tollgate.invoicing.v1 import invoice_pb2 as pb
from tollgate_cli import screen
from tollgate_cli.connecting import find_endpoints, find_key
from tollgate_cli.installation import SuiteFailed
from tollgate_cli.tenancy import render_time
from tollgate_sdk import Endpoints, Tollgate

FAULTS = 3  # exit code of `bill run`: the run goes on, and some customers wait
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # without progress, while faults remain: the run goes on by itself
RETRY_SECONDS = 10.0

Folder = Annotated[
    Path, typer.Option(help="Where the installation's files lie, for its addresses and key.")
]
Addresses = Annotated[str, typer.Option(help="Instead: addresses, as invoicing=host:port,…")]


class Action(StrEnum):
    """What to do."""

    RUN = "run"


class FileFormat(StrEnum):
    """Kinds of file."""

    PDF = "pdf"
    FACTUR_X = "factur-x"
    CII = "cii"
    UBL = "ubl"
    XRECHNUNG = "xrechnung"


def bill(
    action: Annotated[Action, typer.Argument(help="run.")],
    as_of: Annotated[
        str, typer.Option(help="Bill what was due by then, as 2026-03-01T00:00Z. Default: now.")
    ] = "",
    folder: Folder = Path(".tollgate"),
    endpoints: Addresses = "",
) -> None:
    """Bill every customer of whom something is due, and show how far it is.

    The run goes on by itself, and after a crash, whether anybody watches or not: a period is billed
    once. Exit code 3 where customers are left that cannot be billed yet; it tells why.
    """
    instant = _parse_instant(as_of) if as_of else None
    where, key = find_endpoints(folder, endpoints), find_key(folder)
    run = asyncio.run(_run(where, key, instant))
    screen.output.print(
        f"{run.invoices} invoices for {run.customers_done} of {run.customers} customers"
        f" (run {run.run_id})",
        highlight=False,
    )
    for fault in run.faults:
        screen.output.print(f"{fault.customer_id}: {fault.message}", highlight=False, markup=False)
    if run.state != pb.BILLING_RUN_STATE_DONE:
        raise typer.Exit(FAULTS)


async def _run(where: Endpoints, key: str, as_of: datetime | None) -> pb.BillingRun:
    async with Tollgate(where, key, retry_seconds=RETRY_SECONDS) as client:
        asked = pb.StartBillingRunRequest(request_id=str(uuid.uuid4()))
        if as_of is not None:
            asked.as_of.CopyFrom(render_time(as_of))
        answer = await client.call(client.invoices.StartBillingRun, asked)
        with screen.stages() as stage:
            return await watch(client, answer.run, stage)


async def watch(client: Tollgate, run: pb.BillingRun, stage: screen.Stages) -> pb.BillingRun:
    """Follow a run to its end, or until nothing but faults has been left for a minute."""
    advance = stage("customers billed", run.customers)
    seen, moved = 0, asyncio.get_running_loop().time()
    while True:
        found = await client.call(
            client.invoices.GetBillingRun, pb.GetBillingRunRequest(run_id=run.run_id)
        )
        run, present = found.run, asyncio.get_running_loop().time()
        if run.customers_done > seen:
            advance(run.customers_done - seen)
            seen, moved = run.customers_done, present
        stuck = run.faults and present - moved > PATIENCE_SECONDS
        if run.state == pb.BILLING_RUN_STATE_DONE or stuck:
            return run
        await asyncio.sleep(POLL_SECONDS)


def invoice(
    document: Annotated[
        str, typer.Argument(help="Number or id of an invoice, or id of a credit note.")
    ],
    file_format: Annotated[FileFormat, typer.Option("--format", help="Kind of file.")] = (
        FileFormat.PDF
    ),
    output: Annotated[
        Path | None, typer.Option(help="Where to write it. Default: its number, here.")
    ] = None,
    credit_note: Annotated[bool, typer.Option(help="It is a credit note's id.")] = False,
    folder: Folder = Path(".tollgate"),
    endpoints: Addresses = "",
) -> None:
    """Write an issued document as a file: PDF, Factur-X (ZUGFeRD), CII, UBL or XRechnung."""
    where, key = find_endpoints(folder, endpoints), find_key(folder)
    found = asyncio.run(_document(where, key, document, file_format, credit_note=credit_note))
    path = output or Path(found.file_name)
    path.write_bytes(found.content)
    screen.output.print(f"{path} ({len(found.content)} bytes)", highlight=False, markup=False)


async def _document(
    where: Endpoints, key: str, document: str, file_format: FileFormat, *, credit_note: bool
) -> pb.GetInvoiceDocumentResponse:
    name = file_format.value.upper().replace("-", "_")
    asked = pb.GetInvoiceDocumentRequest(format=pb.DocumentFormat.Value(f"DOCUMENT_FORMAT_{name}"))
    async with Tollgate(where, key, retry_seconds=RETRY_SECONDS) as client:
        if credit_note:
            asked.credit_note_id = document
        elif _is_id(document):
            asked.invoice_id = document
        else:
            listed = await client.call(
                client.invoices.ListInvoices, pb.ListInvoicesRequest(number=document)
            )
            if not listed.invoices:
                raise SuiteFailed(f"there is no invoice {document}")
            asked.invoice_id = listed.invoices[0].invoice_id
        answer: pb.GetInvoiceDocumentResponse = await client.call(
            client.invoices.GetInvoiceDocument, asked
        )
        return answer


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _parse_instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue("--as-of", f"{text!r} is no time, as 2026-03-01T00:00Z is") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
