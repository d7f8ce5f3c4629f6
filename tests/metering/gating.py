"""Words for tests of the gate: entitlements with limits, budgets, and changes of authorizations."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.metering.world import World, unit_price
from tollgate.invoicing.v1 import catalog_pb2, entitlement_pb2
from tollgate.metering.v1 import gate_pb2
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import budget_pb2
from tollgate.wallet.v1 import budget_service_pb2 as budgets

MONTH = {"reset": catalog_pb2.LIMIT_RESET_CALENDAR}
REMEDIES = gate_pb2.RemedyKind


async def prepaid(world: World, price: str = "1") -> None:
    """A meter of tokens, and a plan that charges each token in USD."""
    await world.asset("USD")
    await world.meter("tokens", value="tokens")
    await world.plan("prepaid", {"tokens": unit_price("USD", price)})


async def limit(world: World, customer: str, quantity: str, **fields: Any) -> None:
    """Let a customer use so much of the tokens meter; by calendar month unless said otherwise."""
    await world.call(
        world.entitlements.SetFeature,
        entitlement_pb2.SetFeatureRequest(
            request_id=world.key("feature"),
            feature=entitlement_pb2.Feature(
                code="quota", name="Quota", kind=catalog_pb2.FEATURE_KIND_METERED, meter="tokens"
            ),
        ),
    )
    chosen = catalog_pb2.UsageLimit(quantity=quantity, **(MONTH | fields))
    await world.call(
        world.entitlements.SetEntitlementOverride,
        entitlement_pb2.SetEntitlementOverrideRequest(
            request_id=world.key("override"),
            override=entitlement_pb2.EntitlementOverride(
                customer_id=customer,
                feature_code="quota",
                value=catalog_pb2.EntitlementValue(limits=[chosen]),
            ),
        ),
    )


async def budget(world: World, customer: str, node: str, value: str, parent: str = "") -> None:
    """A node of a customer's budgets with a cap for each month."""
    await world.call(
        world.budgets.PutNode,
        budgets.PutNodeRequest(
            request_id=world.key("node"), customer_id=customer, key=node, parent_key=parent
        ),
    )
    month = budget_pb2.CalendarWindow(unit=budget_pb2.CALENDAR_UNIT_MONTH)
    cap = budget_pb2.SpendCap(limit=Amount(asset="USD", value=value), calendar=month)
    await world.call(
        world.budgets.PutCap,
        budgets.PutCapRequest(
            request_id=world.key("cap"), customer_id=customer, node_key=node, cap=cap
        ),
    )


async def spent(world: World, customer: str, node: str) -> list[tuple[str, str, str]]:
    """Node, spent, held of each cap on a node's path."""
    answer = await world.call(
        world.budgets.GetBudget, budgets.GetBudgetRequest(customer_id=customer, node_key=node)
    )
    return [(each.node_key, each.spent, each.held) for each in answer.budgets]


async def extend(world: World, named: str, seconds: int, key: str = "") -> gate_pb2.Authorization:
    answer = await world.call(
        world.gate.ExtendAuthorization,
        gate_pb2.ExtendAuthorizationRequest(
            request_id=key or world.key("extend"),
            authorization_id=named,
            time_to_live=Duration(seconds=seconds),
        ),
    )
    found: gate_pb2.Authorization = answer.authorization
    return found


async def increase(
    world: World, named: str, *, key: str = "", seconds: int = 0, partial: bool = False, **more: str
) -> gate_pb2.IncreaseAuthorizationResponse:
    request = gate_pb2.IncreaseAuthorizationRequest(
        request_id=key or world.key("increase"),
        authorization_id=named,
        estimate=gate_pb2.UsageEstimate(name="call", properties=more),
        partial_allowed=partial,
    )
    if seconds:
        request.time_to_live.seconds = seconds
    answer = await world.call(world.gate.IncreaseAuthorization, request)
    assert isinstance(answer, gate_pb2.IncreaseAuthorizationResponse)
    return answer


async def look(world: World, named: str) -> gate_pb2.Authorization:
    answer = await world.call(
        world.gate.GetAuthorization, gate_pb2.GetAuthorizationRequest(authorization_id=named)
    )
    found: gate_pb2.Authorization = answer.authorization
    return found


def reasons(answer: Any) -> list[str]:
    """Why not; empty where the answer is yes."""
    return [reason.reason for reason in answer.denied.reasons]


def remedies(answer: Any) -> list[tuple[str, str]]:
    """What to do, and how much of it."""
    return [
        (
            REMEDIES.Name(each.kind).removeprefix("REMEDY_KIND_"),
            each.amount.value or each.quantity or each.subject,
        )
        for each in answer.denied.remedies
    ]
