"""Checks that need more than one service, on top of what each service checks of itself.

The wallet re-derives every balance from its journal and metering recounts its events; here the
charges of the one are compared with the debits of the other: one debit for each, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tollgate.metering.v1 import event_pb2 as events
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate_cli.walking import Walk
from tollgate_sdk import Tollgate

FINDINGS_MAX = 20  # the first ones say what is wrong; the rest say it again
UUID_LENGTH = 36
COMPARE_PAGE = 5_000

Progress = Callable[[str, int], None]


@dataclass
class Findings:
    """What was looked at, and what was found wrong. Nothing found means all agrees."""

    wallets: int = 0
    transfers: int = 0
    customers: int = 0
    events: int = 0
    charges: int = 0
    wrong: list[str] = field(default_factory=list)
    first: str = ""  # of the ledger: the first row, by wallet, that disagrees

    @property
    def clean(self) -> bool:
        return not self.wrong

    def add(self, sentence: str) -> None:
        if len(self.wrong) < FINDINGS_MAX:
            self.wrong.append(sentence)


async def verify(
    client: Tollgate, progress: Progress | None = None, walk: Walk | None = None
) -> Findings:
    """Check one tenant: ledger, usage, and charges against debits. The ledger is looked at as
    `walk` says, and from where it stands."""
    told = progress or (lambda _stage, _count: None)
    findings = Findings()
    # Side by side: the wallet replays its journal while metering recounts its events.
    await asyncio.gather(
        _verify_ledger(client, findings, told, walk or Walk()),
        _verify_trial_balance(client, findings),
        _verify_usage(client, findings, told),
        _compare_charges(client, findings, told),
    )
    return findings


async def _verify_ledger(
    client: Tollgate, findings: Findings, progress: Progress, walk: Walk
) -> None:
    await asyncio.gather(*[_verify_shard(client, progress, walk, shard) for shard in walk.left])
    findings.wallets, findings.transfers = walk.wallets, walk.transfers
    findings.first = walk.first
    for _, _, sentence in walk.wrong:
        findings.add(sentence)


async def _verify_shard(client: Tollgate, progress: Progress, walk: Walk, shard: int) -> None:
    request = ledger.VerifyLedgerRequest(
        shard=shard, shards=walk.shards, page_token=walk.token(shard)
    )
    async for page in _pages(client, client.ledger.VerifyLedger, request):
        progress("ledger", page.wallets_checked)
        wrong = [
            (
                found.wallet_id,
                found.figure,
                f"wallet {found.wallet_id}: {found.figure} is {found.stored}, "
                f"the journal says {found.derived}",
            )
            for found in page.disagreements
        ]
        walk.step(shard, page.next_page_token, page.wallets_checked, page.transfers_checked, wrong)


async def _verify_trial_balance(client: Tollgate, findings: Findings) -> None:
    answer = await client.call(
        client.ledger.GetTrialBalance, ledger.GetTrialBalanceRequest(), seconds=60
    )
    sums: dict[str, Decimal] = {}
    for total in answer.totals:
        difference = Decimal(total.debits) - Decimal(total.credits)
        sums[total.asset] = sums.get(total.asset, Decimal(0)) + difference
    for asset, difference in sums.items():
        if difference != 0:
            findings.add(f"ledger of {asset}: debits and credits differ by {difference}")


async def _verify_usage(client: Tollgate, findings: Findings, progress: Progress) -> None:
    request = events.VerifyUsageRequest()
    async for page in _pages(client, client.events.VerifyUsage, request):
        findings.customers += page.customers_checked
        findings.events += page.events_checked
        progress("usage", page.customers_checked)
        if page.batches_pending:
            findings.add(f"{page.batches_pending} batches of charges are still being settled")
        for wrong in page.disagreements:
            findings.add(
                f"usage of {wrong.customer_id}: {wrong.figure} is {wrong.stored}, "
                f"the events say {wrong.derived}"
            )


async def _compare_charges(client: Tollgate, findings: Findings, progress: Progress) -> None:
    """Walk charges and debits side by side, both in byte order of their key. What was charged for
    archived events is left to the archive."""
    first = await client.call(
        client.events.ListCharges, events.ListChargesRequest(page_size=1), seconds=60
    )
    charges = _charges(client)
    debits = _debits(client, first.archived_before)
    charge = await anext(charges, None)
    debit = await anext(debits, None)
    while charge is not None or debit is not None:
        if debit is None or (charge is not None and charge.charge_id < debit.request_id):
            assert charge is not None
            findings.add(f"charge {charge.charge_id} of event {charge.event_id} has no debit")
            charge = await anext(charges, None)
        elif charge is None or debit.request_id < charge.charge_id:
            if debit.reference:
                findings.add(f"debit {debit.request_id} for {debit.reference} has no charge")
            debit = await anext(debits, None)
        else:
            findings.charges += 1
            if findings.charges % COMPARE_PAGE == 0:
                progress("charges", COMPARE_PAGE)
            _compare(charge, debit, findings)
            charge = await anext(charges, None)
            debit = await anext(debits, None)


def _compare(charge: events.EventCharge, debit: ledger.PostedDebit, findings: Findings) -> None:
    taken = Decimal(charge.amount.value) - Decimal(charge.shortfall or 0)
    if charge.amount.asset != debit.amount.asset or taken != Decimal(debit.amount.value):
        findings.add(
            f"event {charge.event_id}: charged {taken} {charge.amount.asset}, "
            f"debited {debit.amount.value} {debit.amount.asset}"
        )
    if charge.state != events.EVENT_STATE_ACCEPTED:
        state = events.EventState.Name(charge.state)
        findings.add(f"event {charge.event_id} was debited although it is {state}")
    if charge.customer_id != debit.customer_id:
        findings.add(
            f"event {charge.event_id} of {charge.customer_id} was paid by {debit.customer_id}"
        )


async def _charges(client: Tollgate) -> AsyncIterator[events.EventCharge]:
    request = events.ListChargesRequest(page_size=COMPARE_PAGE)
    async for page in _pages(client, client.events.ListCharges, request):
        for charge in page.charges:
            yield charge


async def _debits(client: Tollgate, archived_before: str) -> AsyncIterator[ledger.PostedDebit]:
    request = ledger.ListDebitsRequest(page_size=COMPARE_PAGE)
    async for page in _pages(client, client.ledger.ListDebits, request):
        for debit in page.debits:
            if not (_is_charge(debit.request_id) and debit.request_id < archived_before):
                yield debit


def _is_charge(key: str) -> bool:
    """Whether a debit's key is one that metering makes: a UUID."""
    return len(key) == UUID_LENGTH and key[8] == key[13] == key[18] == key[23] == "-"


async def _pages(client: Tollgate, method: Any, request: Any) -> AsyncIterator[Any]:
    while True:
        page = await client.call(method, request, seconds=60)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
