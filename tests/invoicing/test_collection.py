"""Collection: paid at once, dunned by a schedule, stopped by a hard decline, recharged wallets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.collection.domain import (
    ATTEMPTS_MAX,
    OFFSETS_DAYS,
    WINDOW,
    Collection,
    DunningState,
    Outcome,
    ask,
    begin,
    decide,
    expire,
    resume,
)
from tests.gateway.support import SandboxProcess
from tests.invoicing.company import WAIT_SECONDS_MAX, Company
from tests.invoicing.support import at, fixed, moment, usage
from tests.support.waiting import until
from tollgate.gateway.v1 import payment_service_pb2
from tollgate.invoicing.v1 import catalog_pb2, invoice_pb2
from tollgate.type.v1 import amount_pb2, price_pb2
from tollgate.wallet.v1 import ledger_service_pb2, wallet_pb2, wallet_service_pb2

# The same examples in every run of the tests.
claims = settings(derandomize=True, deadline=None, database=None, max_examples=100)

START = datetime(2025, 1, 1, tzinfo=UTC)
OPEN, PAID = invoice_pb2.INVOICE_STATE_OPEN, invoice_pb2.INVOICE_STATE_PAID


# --- the rules ------------------------------------------------------------------------------------


def test_soft_declines_are_retried_at_the_offsets_and_then_given_up() -> None:
    collection, days = begin(START), []
    while collection.next_attempt_time is not None:
        now = collection.next_attempt_time
        days.append((now - START).days)
        collection = decide(ask(collection, now), Outcome.DECLINED_SOFT, now)
    assert tuple(days) == OFFSETS_DAYS
    assert collection.state is DunningState.EXHAUSTED
    assert collection.attempts == ATTEMPTS_MAX


def test_a_question_without_an_answer_is_asked_again_as_the_same_question() -> None:
    asked = ask(begin(START), START)
    assert ask(asked, START + timedelta(days=1)) == asked
    assert decide(asked, Outcome.PENDING, START) == asked
    answered = decide(asked, Outcome.DECLINED_SOFT, START)
    assert ask(answered, START + timedelta(days=1)).asks == 2


@pytest.mark.parametrize("outcome", [Outcome.DECLINED_HARD, Outcome.DECLINED_FRAUD])
def test_a_hard_decline_waits_for_the_customer_until_the_window_is_over(outcome: Outcome) -> None:
    stopped = decide(ask(begin(START), START), outcome, START)
    assert (stopped.state, stopped.next_attempt_time) == (DunningState.WAITING_FOR_CUSTOMER, None)
    assert expire(stopped, START + WINDOW - timedelta(seconds=1)) == stopped
    assert expire(stopped, START + WINDOW).state is DunningState.EXHAUSTED
    again = resume(stopped, START + timedelta(days=2))
    assert again.state is DunningState.RETRYING
    paid = decide(ask(again, START + timedelta(days=2)), Outcome.PAID, START)
    assert paid.state is DunningState.RECOVERED


def test_nobody_is_counted_as_asked_where_there_is_no_way_to_pay() -> None:
    left = decide(ask(begin(START), START), Outcome.NO_METHOD, START)
    assert (left.attempts, left.state) == (0, DunningState.WAITING_FOR_CUSTOMER)


@claims
@given(st.lists(st.tuples(st.sampled_from(Outcome), st.integers(0, 20)), max_size=30))
def test_attempts_never_exceed_the_most_and_plans_lie_in_the_window(
    story: list[tuple[Outcome, int]],
) -> None:
    collection: Collection = begin(START)
    now = START
    for outcome, days in story:
        now += timedelta(days=days)
        due = collection.next_attempt_time
        if not collection.ask_open and (due is None or due > now):
            continue
        collection = decide(ask(collection, now), outcome, now)
        assert collection.attempts <= ATTEMPTS_MAX
        planned, first = collection.next_attempt_time, collection.first_attempt_time
        if planned is not None and first is not None:
            assert now < planned <= first + WINDOW
            assert collection.state is DunningState.RETRYING
        if outcome is Outcome.PAID:
            break


# --- through the gateway --------------------------------------------------------------------------


async def owing(company: Company, token: str | None) -> invoice_pb2.Invoice:
    """A customer who owes 10 dollars and has a method of that behaviour, billed."""
    await company.customer()
    if token is not None:
        await company.payment_method(token)
    await company.publish(fixed("10"))
    await company.subscribe()
    await company.bill()
    (invoice,) = await company.list_invoices()
    return invoice


async def settled(company: Company, invoice_id: str, **wanted: Any) -> invoice_pb2.Invoice:
    """The invoice once its fields are what is wanted."""

    async def reached() -> invoice_pb2.Invoice | None:
        invoice = await company.invoice(invoice_id)
        same = all(getattr(invoice, name) == value for name, value in wanted.items())
        return invoice if same else None

    found = await until(reached, what=f"invoice {wanted}", seconds_max=WAIT_SECONDS_MAX)
    assert found is not None
    return found


async def test_a_declined_invoice_is_retried_when_its_day_comes(
    company: Company, sandbox: SandboxProcess
) -> None:
    invoice = await owing(company, "pm_insufficient_funds")
    assert (invoice.state, invoice.amount_due) == (OPEN, "10")
    assert invoice.dunning_state == invoice_pb2.DUNNING_STATE_RETRYING
    assert invoice.dunning_attempts == 1
    assert moment(invoice.next_attempt_time) == START + timedelta(days=1)
    await company.advance(at(2025, 1, 2))
    second = await settled(company, invoice.invoice_id, dunning_attempts=2)
    assert moment(second.next_attempt_time) == START + timedelta(days=2)
    # Another method pays at the third attempt, three days late.
    await company.payment_method("pm_ok")
    await company.advance(at(2025, 1, 4))
    third = await settled(company, invoice.invoice_id, state=PAID)
    assert third.dunning_state == invoice_pb2.DUNNING_STATE_RECOVERED
    assert (third.dunning_attempts, third.amount_due) == (3, "0")
    assert third.payment_id == invoice.payment_id
    assert await sandbox.taken() == 1


async def test_a_lost_card_waits_for_another_which_is_then_asked_for(
    company: Company, sandbox: SandboxProcess
) -> None:
    invoice = await owing(company, "pm_expired")
    assert invoice.dunning_state == invoice_pb2.DUNNING_STATE_WAITING_FOR_CUSTOMER
    assert not invoice.HasField("next_attempt_time")
    await company.payment_method("pm_ok")
    request = invoice_pb2.CollectInvoiceRequest(invoice_id=invoice.invoice_id)
    await company.call(company.invoices.CollectInvoice, request)
    paid = await settled(company, invoice.invoice_id, state=PAID)
    assert paid.dunning_state == invoice_pb2.DUNNING_STATE_RECOVERED
    assert await sandbox.taken() == 1
    request.request_id = ""
    refusal = await company.refused(company.invoices.CollectInvoice, request)
    assert refusal.reason == "INVOICE_NOT_OPEN"


async def test_who_has_no_way_to_pay_is_waited_for_until_the_window_is_over(
    company: Company,
) -> None:
    invoice = await owing(company, None)
    assert invoice.dunning_state == invoice_pb2.DUNNING_STATE_WAITING_FOR_CUSTOMER
    assert (invoice.dunning_attempts, invoice.payment_id) == (0, "")
    await company.advance(at(2025, 1, 15))
    given_up = await settled(
        company, invoice.invoice_id, dunning_state=invoice_pb2.DUNNING_STATE_EXHAUSTED
    )
    assert given_up.state == OPEN


async def test_an_unclear_answer_charges_once(company: Company, sandbox: SandboxProcess) -> None:
    await sandbox.script("hang_after")
    invoice = await owing(company, "pm_ok")
    assert invoice.state == PAID
    assert await sandbox.taken() == 1
    answer = await company.call(
        company.payments.ListPayments, payment_service_pb2.ListPaymentsRequest()
    )
    assert len(answer.payments) == 1


# --- recharges ------------------------------------------------------------------------------------

UNIT = price_pb2.Price(asset="token", unit=price_pb2.UnitModel(unit_price="1"))


async def recharging(company: Company, token: str) -> str:
    """A customer whose wallet of tokens recharges at 50, for half a cent a token."""
    await company.asset("USD", 9)
    await company.asset("token", 0, wallet_pb2.ASSET_KIND_UNIT)
    await company.meter()
    await company.tax("GB", "0.2")
    await company.customer()
    await company.payment_method(token)
    await company.publish(usage(UNIT, meter="tokens", settlement=catalog_pb2.SETTLEMENT_WALLET))
    wallet_id = await company.wallet("token", "100")
    await company.subscribe()
    await company.call(
        company.recharges.SetRechargeRule,
        wallet_service_pb2.SetRechargeRuleRequest(
            rule=wallet_service_pb2.RechargeRule(
                wallet_id=wallet_id,
                threshold=amount_pb2.Amount(asset="token", value="50"),
                mode=wallet_service_pb2.RECHARGE_MODE_FIXED,
                value="1000",
                unit_price="0.005",
                price_asset="USD",
                monthly_cap="10000",
                enabled=True,
            )
        ),
    )
    return wallet_id


async def ended_recharge(company: Company) -> wallet_service_pb2.Recharge:
    async def ended() -> wallet_service_pb2.Recharge | None:
        answer = await company.call(
            company.recharges.ListRecharges, wallet_service_pb2.ListRechargesRequest()
        )
        over = [
            one
            for one in answer.recharges
            if one.state != wallet_service_pb2.RECHARGE_STATE_IN_FLIGHT
        ]
        return over[0] if over else None

    found = await until(ended, what="the recharge", seconds_max=WAIT_SECONDS_MAX)
    assert found is not None
    return found


async def test_a_recharge_is_invoiced_with_tax_paid_and_granted(
    company: Company, sandbox: SandboxProcess
) -> None:
    wallet_id = await recharging(company, "pm_ok")
    await company.use(at(2025, 1, 1), tokens="60")
    recharge = await ended_recharge(company)
    assert recharge.state == wallet_service_pb2.RECHARGE_STATE_GRANTED
    assert await company.available() == {"token": "1040"}
    (invoice,) = await company.list_invoices()
    assert (invoice.kind, invoice.state) == (invoice_pb2.INVOICE_KIND_TOP_UP, PAID)
    assert (invoice.subtotal, invoice.total) == ("5", "6")
    assert invoice.lines[0].description == "Top-up of 1000 token"
    granted = await company.call(
        company.grants.ListGrants, ledger_service_pb2.ListGrantsRequest(wallet_id=wallet_id)
    )
    bought = max(granted.grants, key=lambda grant: int(grant.amount.value))
    assert (bought.cost_basis, bought.cost_asset) == ("0.005", "USD")
    assert invoice.payment_id in bought.source
    assert await sandbox.taken() == 1


async def test_a_recharge_that_is_declined_ends_and_its_invoice_is_void(
    company: Company, sandbox: SandboxProcess
) -> None:
    await recharging(company, "pm_stolen")
    await company.use(at(2025, 1, 1), tokens="60")
    recharge = await ended_recharge(company)
    assert recharge.state == wallet_service_pb2.RECHARGE_STATE_FAILED
    assert await company.available() == {"token": "40"}
    (invoice,) = await company.list_invoices()
    assert invoice.state == invoice_pb2.INVOICE_STATE_VOID
    assert (invoice.amount_due, invoice.number) == ("0", "INV-2025-000001")
    rules = await company.call(
        company.recharges.ListRechargeRules, wallet_service_pb2.ListRechargeRulesRequest()
    )
    assert not rules.rules[0].enabled
    assert await sandbox.taken() == 0
