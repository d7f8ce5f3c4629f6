"""Debits through gRPC on a real Postgres: batches, keys, bad items, groups, races."""

from __future__ import annotations

import asyncio

import grpc

from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.support.services import Services
from tests.wallet.client import WalletClient, debit_item, grant_item, key, reasons
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

NOBODY = "00000000-0000-4000-8000-000000000000"


async def test_a_debit_takes_what_it_says_and_answers_what_is_left(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "100")
    outcome = await client.debit("12.34")
    assert outcome.debit.amount.value == "12.34"
    assert outcome.debit.available == "87.66"
    assert outcome.debit.shortfall == "0"
    assert [(s.wallet_id, s.value, s.sequence) for s in outcome.debit.shares] == [
        (wallet_id, "12.34", 2)
    ]
    assert await client.available() == "87.66"


async def test_bad_items_are_refused_one_by_one_and_the_others_stand(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    outcomes = await client.post(
        [
            debit_item("1"),
            debit_item("0.001"),
            debit_item("0"),
            debit_item("-1"),
            debit_item("1e3"),
            debit_item("1", asset="EUR"),
            debit_item("1", customer="nobody"),
            debit_item("1", wallet_id=NOBODY),
            debit_item("1", hold_id=NOBODY),
            debit_item("1", request_id=""),
            debit_item("11"),
            debit_item("2", over_capture=9),
            debit_item("2"),
        ]
    )
    assert reasons(outcomes) == [
        "OK",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "NOT_FOUND",
        "NO_WALLET",
        "NOT_FOUND",
        "NOT_FOUND",
        "INVALID_VALUE",
        "INSUFFICIENT_FUNDS",
        "INVALID_VALUE",
        "OK",
    ]
    assert outcomes[1].refusal.facts["field"] == "amount.value"
    assert dict(outcomes[10].refusal.facts) == {"available": "9", "needed": "11", "asset": "USD"}
    assert await client.available() == "7"


async def test_a_batch_takes_1_to_1000_items(client: WalletClient) -> None:
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT):
        await client.post([])
    with refuses("BATCH_TOO_LARGE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await client.post([debit_item("1")] * 1001)
    assert refused.facts == {"limit": "1000", "count": "1001"}


async def test_a_key_answers_the_same_for_ever_denials_included(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    paid, denied = debit_item("4"), debit_item("100")
    unknown = debit_item("1", asset="EUR")
    first = await client.post([paid, denied, unknown, paid])
    assert reasons(first) == ["OK", "INSUFFICIENT_FUNDS", "NOT_FOUND", "OK"]
    assert [outcome.replayed for outcome in first] == [False, False, False, True]
    assert first[3].debit == first[0].debit

    await client.grant(wallet_id, "1000")
    await client.asset("EUR")
    again = await client.post([paid, denied, unknown])
    assert all(outcome.replayed for outcome in again)
    assert [o.debit for o in again] == [o.debit for o in first[:3]]
    assert [o.refusal for o in again] == [o.refusal for o in first[:3]]

    other = debit_item("5", request_id=paid.request_id)
    (conflict,) = await client.post([other])
    assert conflict.refusal.reason == "IDEMPOTENCY_CONFLICT"
    assert conflict.refusal.facts["key"] == paid.request_id
    assert await client.available() == "1006"


async def test_keys_of_one_batch_that_conflict_leave_the_first(client: WalletClient) -> None:
    await client.asset()
    for customer in ("c1", "c2", "c3", "c4"):
        await client.grant(await client.wallet(customer), "10")
    same = key()
    outcomes = await client.post(
        [debit_item("1", customer, request_id=same) for customer in ("c1", "c2", "c3", "c4")]
    )
    assert reasons(outcomes) == ["OK"] + ["IDEMPOTENCY_CONFLICT"] * 3
    assert await client.available("c1") == "9"
    assert await client.available("c4") == "10"


async def test_one_key_from_many_callers_at_once_is_debited_once(client: WalletClient) -> None:
    await client.asset()
    for number in range(8):
        await client.grant(await client.wallet(f"c{number}"), "10")
    same = key()
    outcomes = await asyncio.gather(
        *[client.debit("1", f"c{number}", request_id=same) for number in range(8)]
    )
    assert sorted(reasons(outcomes)) == ["IDEMPOTENCY_CONFLICT"] * 7 + ["OK"]


async def test_of_300_concurrent_debits_of_1_on_100_exactly_100_pass(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "60")
    await client.grant(wallet_id, "40")
    outcomes = await asyncio.gather(*[client.debit("1") for _ in range(300)])
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 200 + ["OK"] * 100
    sequences = sorted(o.debit.shares[0].sequence for o in outcomes if o.HasField("debit"))
    assert sequences == list(range(3, 103)), "numbers rise without gaps"
    assert await client.available() == "0"
    assert await client.verify() == []


async def test_two_processes_on_one_wallet_never_overspend(
    services: Services, wallet_database: FreshDatabase
) -> None:
    first = await services.run("wallet", wallet_database, work=False)
    second = await services.run("wallet", wallet_database, work=False)
    one = WalletClient(await services.channel(first))
    two = WalletClient(await services.channel(second), one.tenant_id)
    await one.asset()
    await one.grant(await one.wallet(), "50")
    outcomes = await asyncio.gather(
        *[client.debit("1") for _ in range(60) for client in (one, two)]
    )
    assert sorted(reasons(outcomes)) == ["INSUFFICIENT_FUNDS"] * 70 + ["OK"] * 50
    assert await two.verify() == []


async def test_after_a_restart_repeated_keys_are_answered_and_not_applied(
    services: Services, wallet_database: FreshDatabase
) -> None:
    before = await services.run("wallet", wallet_database, work=False)
    client = WalletClient(await services.channel(before))
    await client.asset()
    await client.grant(await client.wallet(), "100")
    items = [debit_item("1") for _ in range(50)]
    answered = await client.post(items)

    after = await services.run("wallet", wallet_database, work=False)
    restarted = WalletClient(await services.channel(after), client.tenant_id)
    again = await restarted.post(items)
    assert [o.debit for o in again] == [o.debit for o in answered]
    assert all(outcome.replayed for outcome in again)
    assert await restarted.available() == "50"


async def test_wallets_pay_by_priority_and_only_for_what_they_may(client: WalletClient) -> None:
    await client.asset()
    late = await client.wallet(priority=90)
    early = await client.wallet(
        priority=10, restrictions=wallet_pb2.Restrictions(meters=["tokens"])
    )
    await client.grant(late, "10")
    await client.grant(early, "10")
    tokens = ledger.Purpose(meter="tokens")
    spanning = await client.debit("12", purpose=tokens)
    assert [(s.wallet_id, s.value) for s in spanning.debit.shares] == [(early, "10"), (late, "2")]
    assert spanning.debit.available == "8"
    other = await client.debit("9", purpose=ledger.Purpose(meter="images"))
    assert other.refusal.reason == "INSUFFICIENT_FUNDS"
    named = await client.debit("1", wallet_id=early, purpose=ledger.Purpose(meter="images"))
    assert named.refusal.reason == "NO_WALLET"


async def test_grants_burn_in_the_stated_order(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    narrow = wallet_pb2.Restrictions(meters=["tokens"])
    soon, later = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"
    grants = [
        grant_item(wallet_id, "1", priority=60, source="last by priority"),
        grant_item(wallet_id, "1", source="never expires, paid", cost_basis="1", cost_asset="USD"),
        grant_item(wallet_id, "1", source="never expires, given"),
        grant_item(wallet_id, "1", source="expires later"),
        grant_item(wallet_id, "1", source="expires soon"),
        grant_item(wallet_id, "1", source="narrow", restrictions=narrow),
        grant_item(wallet_id, "1", priority=40, source="first by priority"),
    ]
    grants[3].expire_time.FromJsonString(later)
    grants[4].expire_time.FromJsonString(soon)
    assert reasons(await client.create_grants(grants)) == ["OK"] * 7
    order = []
    for _ in range(7):
        await client.debit("1", purpose=ledger.Purpose(meter="tokens"))
        left = {g.source for g in await client.list_grants(wallet_id) if g.remaining != "0"}
        (burnt,) = {g.source for g in grants} - left - set(order)
        order.append(burnt)
    assert order == [
        "first by priority",
        "narrow",
        "expires soon",
        "expires later",
        "never expires, given",
        "never expires, paid",
        "last by priority",
    ]
    assert await client.verify() == []


async def test_one_debit_may_span_a_hundred_grants(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.create_grants([grant_item(wallet_id, "1") for _ in range(100)])
    assert (await client.debit("99.5")).debit.available == "0.5"
    (transfer,) = [
        t for t in await client.transfers(wallet_id) if t.kind == ledger_pb2.TRANSFER_KIND_DEBIT
    ]
    assert len(transfer.grants) == 100
    assert await client.verify() == []


async def test_overdraft_goes_to_its_limit_and_the_next_grant_settles_it(
    client: WalletClient,
) -> None:
    await client.asset()
    wallet_id = await client.overdraft_wallet("50")
    await client.grant(wallet_id, "10")
    assert (await client.debit("40")).debit.available == "20"
    (balance,) = await client.balances()
    assert (balance.available, balance.debt) == ("20", "30")
    assert (await client.debit("21")).refusal.reason == "INSUFFICIENT_FUNDS"
    grant = await client.grant(wallet_id, "100")
    assert grant.remaining == "70"
    (balance,) = await client.balances()
    assert (balance.available, balance.debt) == ("120", "0")
    assert await client.verify() == []


async def test_a_wallet_that_allows_shortfalls_gives_what_it_has(client: WalletClient) -> None:
    await client.asset()
    policy = wallet_pb2.ShortfallPolicy(mode=wallet_pb2.SHORTFALL_MODE_ALLOW)
    wallet_id = await client.wallet(shortfall_policy=policy)
    await client.grant(wallet_id, "10")
    outcome = await client.debit("12")
    assert (outcome.debit.amount.value, outcome.debit.shortfall) == ("10", "2")
    empty = await client.debit("5")
    assert (empty.debit.amount.value, empty.debit.shortfall) == ("0", "5")
    assert len(empty.debit.shares) == 0


async def test_debits_of_a_group_post_all_or_none(client: WalletClient) -> None:
    await client.asset()
    await client.grant(await client.wallet(), "10")
    good = [debit_item("2", group="g1"), debit_item("3", group="g1")]
    bad = [debit_item("4", group="g2"), debit_item("4", group="g2"), debit_item("1", group="g2")]
    malformed = [debit_item("1", group="g3"), debit_item("0.001", group="g3")]
    outcomes = await client.post([*good, *bad, debit_item("1"), *malformed])
    assert reasons(outcomes) == [
        "OK",
        "OK",
        "GROUP_REFUSED",
        "INSUFFICIENT_FUNDS",
        "GROUP_REFUSED",
        "OK",
        "GROUP_REFUSED",
        "INVALID_VALUE",
    ]
    assert outcomes[2].refusal.facts["request_id"] == bad[1].request_id
    assert await client.available() == "4"
    again = await client.post([*good, *bad])
    assert all(outcome.replayed for outcome in again)
    assert await client.verify() == []


async def test_a_group_stands_together_and_is_one_customers(client: WalletClient) -> None:
    await client.asset()
    for customer in ("c1", "c2"):
        await client.grant(await client.wallet(customer), "10")
    outcomes = await client.post(
        [
            debit_item("1", "c1", group="g"),
            debit_item("1", "c2", group="g"),
            debit_item("1", "c1", group="h"),
            debit_item("1", "c1"),
            debit_item("1", "c1", group="h"),
        ]
    )
    assert reasons(outcomes) == ["INVALID_VALUE", "INVALID_VALUE", "OK", "OK", "INVALID_VALUE"]


async def test_large_and_tiny_amounts_are_exact(client: WalletClient) -> None:
    await client.asset("atom", 18)
    await client.asset("byte", 0)
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "1", "atom")
    await client.grant(wallet_id, "1000000000000000", "byte")
    tiny = await client.debit("0.000000000000000001", asset="atom")
    assert tiny.debit.available == "0.999999999999999999"
    large = await client.debit("999999999999999", asset="byte")
    assert large.debit.available == "1"
    assert await client.verify() == []


async def test_another_tenants_wallet_is_not_there(client: WalletClient) -> None:
    await client.asset()
    wallet_id = await client.wallet()
    await client.grant(wallet_id, "10")
    stranger = WalletClient(client.channel)
    await stranger.asset()
    debit = await stranger.debit("1", wallet_id=wallet_id)
    assert debit.refusal.reason == "NOT_FOUND"
    (grant,) = await stranger.create_grants([grant_item(wallet_id, "1")])
    assert grant.refusal.reason == "NOT_FOUND"
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stranger.transfers(wallet_id)
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await stranger.list_grants(wallet_id)
    assert await stranger.balances("c1") == []
    assert await client.available() == "10"


async def test_debits_are_listed_in_byte_order_of_their_keys(client: WalletClient) -> None:
    await client.asset()
    await client.grant(await client.wallet(), "100")
    keys = ["b", "A", "ä", "a", "B-1", "zz"]
    items = [debit_item("1.5", request_id=k, reference=f"event {k}") for k in keys]
    await client.post([*items, debit_item("1000", request_id="denied")])
    hold = await client.hold("10")
    await client.capture(hold.hold.hold_id, "3", request_id="capture", final=True)
    found: list[ledger.PostedDebit] = []
    token = ""
    while True:
        page = await client.call(
            client.ledger.ListDebits, ledger.ListDebitsRequest(page_size=3, page_token=token)
        )
        found += page.debits
        token = page.next_page_token
        if not token:
            break
    expected = sorted([*keys, "capture"], key=str.encode)
    assert [debit.request_id for debit in found] == expected
    by_key = {debit.request_id: debit for debit in found}
    assert by_key["a"].amount == Amount(asset="USD", value="1.5")
    assert (by_key["a"].customer_id, by_key["a"].reference) == ("c1", "event a")
    assert by_key["capture"].amount.value == "3"
