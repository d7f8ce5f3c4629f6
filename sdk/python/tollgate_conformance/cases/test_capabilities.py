"""A provider does what it declares, and declares what it does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.domain.outcome import Outcome
from gateway.domain.provider_account import Idempotency
from gateway.domain.resolution import KEY_WINDOW_MARGIN
from gateway.providers.plan import Call, ask
from gateway.providers.registry import origin_of
from gateway.providers.remote import offered
from tollgate_conformance.bench import Bench


def test_what_is_declared_has_a_plan_and_nothing_else_has(bench: Bench) -> None:
    offers, provider = bench.able, bench.provider
    reads = provider.read_notification is not None or provider.ask_reading is not None
    pairs = {
        "read_by_id": (offers.read_by_id, provider.read),
        "lookup": (offers.lookup.value != "NONE", provider.find),
        "manual_capture": (offers.manual_capture, provider.capture),
        "cancel": (offers.cancel, provider.cancel),
        "refund": (offers.refund, provider.refund),
        "refund_read_by_id": (offers.refund_read_by_id, provider.read_refund),
        "refund_lookup": (offers.refund_lookup.value != "NONE", provider.find_refund),
        "customer_object": (offers.customer_object, provider.create_customer),
        "hosted": (offers.hosted_pay or offers.hosted_setup, provider.create_session),
        "hosted, to look at": (offers.hosted_pay or offers.hosted_setup, provider.read_session),
        "list_changes": (offers.list_changes, provider.list_changes),
        "payout_lines": (offers.payout_lines, provider.list_payout_lines),
        "notification_auth": (offers.notification_auth.value != "NONE", reads or None),
    }
    assert {name for name, (flag, plan) in pairs.items() if flag is not (plan is not None)} == set()


def test_a_part_is_offered_only_of_a_whole(bench: Bench) -> None:
    offers = bench.able
    assert offers.manual_capture or not offers.partial_capture
    assert offers.refund or not offers.partial_refund


def test_a_key_is_remembered_for_long_enough_to_be_used(bench: Bench) -> None:
    offers = bench.able
    keys = Idempotency.KEY in (offers.idempotency, offers.refund_idempotency)
    assert not keys or offers.key_window > KEY_WINDOW_MARGIN
    assert offers.visibility >= timedelta(0)


def test_an_outcome_can_be_found_out_in_some_way(bench: Bench) -> None:
    """Without any of these, a lost answer is never known."""
    offers = bench.able
    ways = (
        offers.idempotency is Idempotency.KEY,
        offers.lookup.value != "NONE",
        offers.notification_auth.value != "NONE",
        offers.list_changes,
    )
    assert any(ways)


def test_it_is_called_where_it_is_named_and_nowhere_else(bench: Bench) -> None:
    if bench.provider.target is not None:
        assert bench.line.origins == frozenset()
        return
    for origin in bench.provider.origins:
        assert origin.startswith("https://"), origin
        assert "*" in origin or origin_of(origin), origin


def test_what_it_offers_is_the_same_when_it_is_asked_again(bench: Bench) -> None:
    if bench.provider.target is None:
        assert bench.provider.capabilities(bench.login) == bench.able
        return
    first, second = bench.play(offered()).result, bench.play(offered()).result
    assert not isinstance(first, Outcome)
    assert first == second


def test_what_is_not_declared_is_answered_unimplemented(bench: Bench) -> None:
    if bench.provider.target is None:
        pytest.skip("only a served provider can be asked for what it does not declare")
    undeclared = {
        "Capture": bench.provider.capture,
        "Cancel": bench.provider.cancel,
        "Refund": bench.provider.refund,
        "CreateSession": bench.provider.create_session,
        "CreateCustomer": bench.provider.create_customer,
        "ListPayoutLines": bench.provider.list_payout_lines,
        "ListChanges": bench.provider.list_changes,
    }
    names = [name for name, plan in undeclared.items() if plan is None]
    if not names:
        pytest.skip("everything is declared")
    for name in names:
        path = f"/tollgate.gateway.provider.v1.ProviderService/{name}"
        tried = bench.play(ask(Call("RPC", path, content=b"")))
        assert getattr(tried.result, "cause", "") == "UNIMPLEMENTED", name
