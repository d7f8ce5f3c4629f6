"""Spend caps through gRPC on a real Postgres: trees, holds, refusals, messages, races, proof."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.databases import FreshDatabase
from tests.support.refusals import refuses
from tests.support.services import Services
from tests.wallet.client import WalletClient, debit_item, hold_item, key, reasons
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import budget_pb2, ledger_pb2, messages_pb2, wallet_pb2
from tollgate.wallet.v1 import budget_service_pb2 as pb
from tollgate.wallet.v1 import budget_service_pb2_grpc as pb_grpc
from tollgate.wallet.v1 import ledger_service_pb2 as ledger

MONTH = budget_pb2.CalendarWindow(unit=budget_pb2.CALENDAR_UNIT_MONTH)


class BudgetClient:
    """Budgets of one customer as their callers see them."""

    def __init__(self, client: WalletClient) -> None:
        self._client = client
        self._stub = pb_grpc.BudgetServiceStub(client.channel)

    async def node(self, node: str, parent: str = "", **fields: Any) -> budget_pb2.BudgetNode:
        request = pb.PutNodeRequest(
            request_id=key(), customer_id="c1", key=node, parent_key=parent, **fields
        )
        answer = await self._client.call(self._stub.PutNode, request)
        assert isinstance(answer.node, budget_pb2.BudgetNode)
        return answer.node

    async def tree(self) -> None:
        """c1 → team → ann, bob."""
        await self.node("c1")
        await self.node("team", "c1")
        await self.node("ann", "team")
        await self.node("bob", "team")

    async def cap(self, node: str, limit: str, **fields: Any) -> budget_pb2.Budget:
        asset = fields.pop("asset", "USD")
        if "rolling" not in fields:
            fields.setdefault("calendar", MONTH)
        cap = budget_pb2.SpendCap(limit=Amount(asset=asset, value=limit), **fields)
        request = pb.PutCapRequest(request_id=key(), customer_id="c1", node_key=node, cap=cap)
        answer = await self._client.call(self._stub.PutCap, request)
        assert isinstance(answer.budget, budget_pb2.Budget)
        return answer.budget

    async def budgets(self, node: str) -> list[budget_pb2.Budget]:
        answer = await self._client.call(
            self._stub.GetBudget, pb.GetBudgetRequest(customer_id="c1", node_key=node)
        )
        return list(answer.budgets)

    async def figures(self, node: str) -> list[tuple[str, str, str, str]]:
        """Node, spent, held, left of each cap on a node's path."""
        return [(b.node_key, b.spent, b.held, b.left) for b in await self.budgets(node)]

    async def call(self, method: str, request: Any) -> Any:
        return await self._client.call(getattr(self._stub, method), request)


@pytest.fixture
async def budgets(client: WalletClient) -> BudgetClient:
    """A customer with 1,000 USD and a tree."""
    await client.asset()
    await client.grant(await client.wallet(), "1000")
    budgets = BudgetClient(client)
    await budgets.tree()
    return budgets


async def _alerts(database: FreshDatabase) -> list[messages_pb2.BudgetAlert]:
    connection = await asyncpg.connect(database.superuser_dsn)
    try:
        rows = await connection.fetch(
            "SELECT payload FROM wallet.outbox WHERE kind = 'wallet.budget_alert' ORDER BY sequence"
        )
    finally:
        await connection.close()
    return [messages_pb2.BudgetAlert.FromString(row["payload"]) for row in rows]


async def test_a_debit_fits_every_cap_up_to_the_root_or_is_refused_by_name(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("c1", "100")
    team = await budgets.cap("team", "50")
    await budgets.cap("ann", "30")
    assert reasons([await client.debit("30", node="ann")]) == ["OK"]
    assert reasons([await client.debit("1", node="ann")]) == ["SPEND_CAP_REACHED"]
    refused = await client.debit("21", node="bob")
    facts = dict(refused.refusal.facts)
    reset = facts.pop("reset_time")
    assert reset == team.window_end_time.ToDatetime().isoformat() + "+00:00"
    assert facts == {
        "node": "team",
        "cap_id": team.cap.cap_id,
        "asset": "USD",
        "meter": "",
        "limit": "50",
        "spent": "30",
        "held": "0",
        "left": "20",
        "needed": "21",
    }
    assert reasons([await client.debit("20", node="bob")]) == ["OK"]
    assert reasons([await client.debit("50", node="c1")]) == ["OK"]
    assert reasons([await client.debit("0.01", node="c1")]) == ["SPEND_CAP_REACHED"]
    assert await budgets.figures("ann") == [
        ("c1", "100", "0", "0"),
        ("team", "50", "0", "0"),
        ("ann", "30", "0", "0"),
    ]
    assert reasons([await client.debit("5")]) == ["OK"], "without a node no cap applies"
    assert await client.verify() == []


async def test_an_unknown_node_is_refused_and_another_customers_is_unknown(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await client.grant(await client.wallet("c2"), "10")
    outcomes = await client.post([debit_item("1", node="nobody"), debit_item("1", "c2", node="c1")])
    assert reasons(outcomes) == ["NOT_FOUND", "NOT_FOUND"]
    assert dict(outcomes[1].refusal.facts) == {"what": "node", "name": "c1"}
    (held,) = await client.place([hold_item("1", node="nobody")])
    assert held.refusal.reason == "NOT_FOUND"


async def test_a_hold_counts_at_once_and_what_ends_it_gives_back_or_settles(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("team", "100")
    first = await client.hold("60", node="ann")
    assert await budgets.figures("bob") == [("team", "0", "60", "40")]
    assert (await client.hold("41", node="bob")).refusal.reason == "SPEND_CAP_REACHED"
    second = await client.hold("40", node="bob")
    await client.capture(first.hold.hold_id, "25")
    assert await budgets.figures("bob") == [("team", "25", "75", "0")]
    await client.capture(first.hold.hold_id, "5", final=True)
    assert await budgets.figures("bob") == [("team", "30", "40", "30")]
    await client.void(second.hold.hold_id)
    assert await budgets.figures("bob") == [("team", "30", "0", "70")]
    third = await client.hold("10", node="ann", time_to_live=Duration(seconds=3600))
    captured = debit_item("4", hold_id=third.hold.hold_id, final=True, node="ann")
    assert reasons(await client.post([captured])) == ["OK"]
    assert await budgets.figures("bob") == [("team", "34", "0", "66")]
    assert await client.verify() == []


async def test_a_capture_counts_for_the_node_of_its_hold(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("ann", "100")
    held = await client.hold("10", node="ann")
    plain = await client.hold("10")
    wrong = [
        debit_item("1", hold_id=held.hold.hold_id, node="bob"),
        debit_item("1", hold_id=plain.hold.hold_id, node="ann"),
    ]
    assert reasons(await client.post(wrong)) == ["INVALID_VALUE", "INVALID_VALUE"]
    assert reasons(await client.post([debit_item("1", hold_id=held.hold.hold_id)])) == ["OK"]
    assert await budgets.figures("ann") == [("ann", "1", "9", "90")]


async def test_what_exceeds_a_hold_is_bound_by_the_cap_unless_it_is_forced(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("ann", "20")
    held = await client.hold("10", node="ann")
    used = await client.capture(
        held.hold.hold_id, "25", over_capture=ledger_pb2.OVER_CAPTURE_USE_AVAILABLE, final=True
    )
    assert (used.debit.amount.value, used.debit.shortfall) == ("20", "5")
    other = await client.hold("1", node="bob")
    await client.capture(
        other.hold.hold_id, "9", over_capture=ledger_pb2.OVER_CAPTURE_FORCE, final=True
    )
    await budgets.cap("ann", "40")
    held = await client.hold("10", node="ann")
    await client.capture(
        held.hold.hold_id, "30", over_capture=ledger_pb2.OVER_CAPTURE_FORCE, final=True
    )
    assert await budgets.figures("ann") == [("ann", "50", "0", "0")]
    assert await client.verify() == []


async def test_a_reversal_gives_back_to_the_caps_of_what_was_spent(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await client.grant(await client.wallet(priority=90), "1000")
    await budgets.cap("team", "100")
    debit = (await client.debit("60", node="ann")).debit
    held = await client.hold("30", node="bob")
    captured = (await client.capture(held.hold.hold_id, "30", final=True)).debit

    async def reverse(posted: ledger.Debit, value: str) -> None:
        (share,) = posted.shares
        await client.reverse(f"{share.wallet_id}/{share.sequence}", value)

    await reverse(debit, "20")
    assert await budgets.figures("ann") == [("team", "70", "0", "30")]
    await reverse(captured, "")
    assert await budgets.figures("ann") == [("team", "40", "0", "60")]
    assert reasons([await client.debit("60", node="bob")]) == ["OK"]
    assert (await client.debit("1", node="bob")).refusal.reason == "SPEND_CAP_REACHED"
    assert await client.verify() == []


async def test_an_increase_of_a_hold_needs_room_too(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("team", "30")
    held = await client.hold("10", node="ann")

    async def increase(value: str, **fields: Any) -> ledger.HoldOutcome:
        item = ledger.IncreaseItem(
            request_id=key(), hold_id=held.hold.hold_id, value=value, **fields
        )
        request = ledger.IncreaseHoldsRequest(items=[item])
        answer = await client.call(client.holds.IncreaseHolds, request)
        assert isinstance(answer.outcomes[0], ledger.HoldOutcome)
        return answer.outcomes[0]

    assert (await increase("15")).hold.amount.value == "25"
    assert (await increase("6")).refusal.reason == "SPEND_CAP_REACHED"
    assert (await increase("6", partial_allowed=True)).hold.amount.value == "30"
    assert await budgets.figures("ann") == [("team", "0", "30", "0")]
    await client.capture(held.hold.hold_id, "28", final=True)
    assert await budgets.figures("ann") == [("team", "28", "0", "2")]
    assert await client.verify() == []


async def test_a_partial_hold_takes_what_the_cap_leaves(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("team", "30")
    await client.debit("12.5", node="bob")
    partial = await client.hold("50", node="ann", partial_allowed=True)
    assert partial.hold.amount.value == "17.5"
    assert (await client.hold("50", node="ann", partial_allowed=True)).refusal.reason == (
        "SPEND_CAP_REACHED"
    )


async def test_a_cap_on_a_meter_counts_that_meter_and_a_soft_one_refuses_nothing(
    client: WalletClient, budgets: BudgetClient, wallet_database: FreshDatabase
) -> None:
    await budgets.cap("ann", "10", meter="images")
    await budgets.cap(
        "team", "40", enforcement=budget_pb2.CAP_ENFORCEMENT_SOFT, alert_percents=[50, 100, 150]
    )
    images = ledger.Purpose(meter="images")
    assert reasons([await client.debit("10", node="ann", purpose=images)]) == ["OK"]
    assert reasons([await client.debit("1", node="ann", purpose=images)]) == ["SPEND_CAP_REACHED"]
    assert reasons([await client.debit("1", node="ann", purpose=images)]) == ["SPEND_CAP_REACHED"]
    assert reasons([await client.debit(v, node="ann") for v in ("15", "20", "25")]) == ["OK"] * 3
    told = [(a.node_key, a.percent, a.refused, a.spent) for a in await _alerts(wallet_database)]
    assert told == [
        ("ann", 100, False, "10"),
        ("ann", 0, True, "10"),
        ("team", 50, False, "25"),
        ("team", 100, False, "45"),
        ("team", 150, False, "70"),
    ]


async def test_a_shortfall_that_is_billed_elsewhere_counts_as_spent(
    client: WalletClient, budgets: BudgetClient
) -> None:
    policy = wallet_pb2.ShortfallPolicy(mode=wallet_pb2.SHORTFALL_MODE_ALLOW)
    await client.wallet(shortfall_policy=policy)
    await budgets.cap("ann", "2000")
    outcome = await client.debit("1500", node="ann")
    assert outcome.debit.shortfall == "500"
    assert await budgets.figures("ann") == [("ann", "1500", "0", "500")]
    assert (await client.debit("501", node="ann")).refusal.reason == "SPEND_CAP_REACHED"
    assert await client.verify() == []


async def test_a_group_spends_all_or_nothing(client: WalletClient, budgets: BudgetClient) -> None:
    await budgets.cap("team", "10")
    group = [
        debit_item("6", node="ann", group="g"),
        debit_item("6", node="bob", group="g"),
    ]
    assert reasons(await client.post(group)) == ["GROUP_REFUSED", "SPEND_CAP_REACHED"]
    assert await budgets.figures("ann") == [("team", "0", "0", "10")]
    assert reasons([await client.debit("10", node="ann")]) == ["OK"]
    assert await client.verify() == []


async def test_a_repeated_key_spends_once(client: WalletClient, budgets: BudgetClient) -> None:
    await budgets.cap("ann", "10")
    item = debit_item("4", node="ann")
    first, second = await client.post([item, item])
    (third,) = await client.post([item])
    assert first.debit == second.debit == third.debit
    assert await budgets.figures("ann") == [("ann", "4", "0", "6")]


async def test_of_many_debits_exactly_those_that_fit_pass(
    client: WalletClient, services: Services, wallet_database: FreshDatabase, budgets: BudgetClient
) -> None:
    """300 debits of 1 on a cap of 100, through two processes' worth of lanes at once."""
    await budgets.cap("team", "100")
    other = await services.run("wallet", wallet_database, work=False)
    second = WalletClient(await services.channel(other), client.tenant_id)
    debits = [
        (client, second)[number % 2].debit("1", node=("ann", "bob")[number % 3 == 0])
        for number in range(300)
    ]
    outcomes = await asyncio.gather(*debits)
    assert reasons(outcomes).count("OK") == 100
    assert reasons(outcomes).count("SPEND_CAP_REACHED") == 200
    assert await budgets.figures("ann") == [("team", "100", "0", "0")]
    assert await client.verify() == []


async def test_of_many_holds_exactly_those_that_fit_are_placed_while_caps_change(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.cap("team", "500")
    held, _ = await asyncio.gather(
        asyncio.gather(*[client.hold("75", node="ann") for _ in range(20)]),
        asyncio.gather(*[budgets.cap("c1", f"{n}000") for n in range(2, 12)]),
    )
    assert reasons(held).count("OK") == 6
    assert await budgets.figures("team") == [
        ("c1", "0", "450", (await budgets.budgets("c1"))[0].left),
        ("team", "0", "450", "50"),
    ]
    assert await client.verify() == []


async def test_a_new_cap_counts_what_its_window_has_seen(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await client.debit("7", node="ann")
    await client.hold("3", node="bob")
    month = await budgets.cap("team", "20")
    rolling = await budgets.cap("team", "20", rolling=Duration(seconds=18_000))
    assert [(b.spent, b.held, b.left) for b in (month, rolling)] == [("7", "3", "10")] * 2
    assert month.window_start_time.ToDatetime().day == 1
    assert rolling.next_reset_time.seconds > rolling.window_end_time.seconds
    changed = await budgets.cap("team", "12")
    assert changed.cap.cap_id == month.cap.cap_id
    assert changed.left == "2"
    assert (await client.debit("3", node="ann")).refusal.facts["cap_id"] == month.cap.cap_id
    assert await client.verify() == []


async def test_a_node_moves_with_what_is_below_it_and_past_spending_stays(
    client: WalletClient, budgets: BudgetClient
) -> None:
    await budgets.node("other", "c1")
    await budgets.cap("team", "100")
    await budgets.cap("other", "100")
    await client.debit("10", node="ann")
    held = await client.hold("5", node="ann")
    await budgets.node("squad", "team")
    moved = await budgets.node("ann", "squad", name="Ann")
    assert list(moved.path) == ["c1", "team", "squad", "ann"]
    await budgets.node("squad", "other")
    await client.debit("1", node="ann")
    await client.capture(held.hold.hold_id, "5", final=True)
    assert await budgets.figures("team") == [("team", "15", "0", "85")]
    assert await budgets.figures("ann") == [("other", "1", "0", "99")]
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT):
        await budgets.node("other", "ann")
    assert await client.verify() == []


async def test_a_tree_is_listed_removed_and_bounded(
    client: WalletClient, budgets: BudgetClient
) -> None:
    request = pb.ListNodesRequest(customer_id="c1", page_size=2)
    first = await budgets.call("ListNodes", request)
    request.page_token = first.next_page_token
    second = await budgets.call("ListNodes", request)
    assert [n.key for n in [*first.nodes, *second.nodes]] == ["ann", "bob", "c1", "team"]
    below = await budgets.call(
        "ListNodes", pb.ListNodesRequest(customer_id="c1", parent_key="team")
    )
    assert [node.key for node in below.nodes] == ["ann", "bob"]
    cap = await budgets.cap("ann", "1")

    def remove(node: str) -> pb.RemoveNodeRequest:
        return pb.RemoveNodeRequest(request_id=key(), customer_id="c1", key=node)

    with refuses("NODE_NOT_EMPTY", grpc.StatusCode.FAILED_PRECONDITION):
        await budgets.call("RemoveNode", remove("team"))
    gone = pb.RemoveCapRequest(
        request_id=key(), customer_id="c1", node_key="ann", cap_id=cap.cap.cap_id
    )
    await budgets.call("RemoveCap", gone)
    await budgets.call("RemoveCap", gone)
    await client.debit("5", node="ann")
    gone.request_id = key()
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await budgets.call("RemoveCap", gone)
    await budgets.call("RemoveNode", remove("ann"))
    assert (await client.debit("1", node="ann")).refusal.reason == "NOT_FOUND"
    with refuses("NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await budgets.budgets("ann")
    above = "bob"
    for level in range(5):
        await budgets.node(f"level-{level}", above)
        above = f"level-{level}"
    with refuses("BUDGET_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED) as refused:
        await budgets.node("too-deep", above)
    assert refused.facts == {"what": "levels of a tree", "limit": "8"}


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("cap.limit.value", {"limit": "0.001"}),
        ("cap.window", {"calendar": None}),
        ("cap.calendar.unit", {"calendar": budget_pb2.CalendarWindow()}),
        (
            "cap.calendar.time_zone",
            {
                "calendar": budget_pb2.CalendarWindow(
                    unit=budget_pb2.CALENDAR_UNIT_DAY, time_zone="X"
                )
            },
        ),
        ("cap.rolling", {"rolling": Duration(seconds=59)}),
        ("cap.rolling", {"rolling": Duration(seconds=60, nanos=1)}),
        ("cap.alert_percents", {"alert_percents": [0]}),
        ("cap.enforcement", {"enforcement": 9}),
    ],
)
async def test_a_cap_that_cannot_be_is_refused(
    budgets: BudgetClient, field: str, fields: dict[str, Any]
) -> None:
    with refuses("INVALID_VALUE", grpc.StatusCode.INVALID_ARGUMENT) as refused:
        await budgets.cap("ann", **{"limit": "1", **fields})
    assert refused.facts["field"] == field


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ("UPDATE wallet.budget_caps SET held = held + 1", "budget.held"),
        ("UPDATE wallet.budget_caps SET slot_atoms = '{1}'", "budget.spent"),
        ("UPDATE wallet.holds SET captured = captured + 1", "budget.captured"),
        (
            "UPDATE wallet.budget_caps SET slot_starts = '{}', slot_stops = '{}',"
            " slot_leaves = '{}', slot_atoms = '{}', create_time = 'epoch'",
            "budget.uncounted",
        ),
        (
            "ALTER TABLE wallet.budget_entries DISABLE TRIGGER USER;"
            " UPDATE wallet.budget_entries SET atoms = atoms + 1",
            "budget.entry",
        ),
    ],
)
async def test_the_verifier_names_a_budget_that_is_not_what_the_journals_say(
    client: WalletClient,
    budgets: BudgetClient,
    wallet_database: FreshDatabase,
    change: str,
    figure: str,
) -> None:
    await budgets.cap("team", "100")
    held = await client.hold("10", node="ann")
    await client.capture(held.hold.hold_id, "4")
    await client.debit("3", node="bob")
    assert await client.verify() == []
    connection = await asyncpg.connect(wallet_database.superuser_dsn)
    try:
        await connection.execute(change)
    finally:
        await connection.close()
    assert figure in {found.figure.split()[0] for found in await client.verify()}
