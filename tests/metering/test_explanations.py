"""From an event to what counted it, priced it and paid for it."""

from __future__ import annotations

import grpc
import pytest

from tests.metering.world import World, graduated, unit_price
from tollgate.metering.v1 import event_pb2


async def explain(
    world: World, event_id: str = "", charge_id: str = ""
) -> event_pb2.ExplainChargeResponse:
    request = event_pb2.ExplainChargeRequest(event_id=event_id, charge_id=charge_id)
    answer = await world.call(world.events.ExplainCharge, request)
    assert isinstance(answer, event_pb2.ExplainChargeResponse)
    return answer


async def test_a_charge_is_traced_to_its_tiers_and_its_grants(world: World) -> None:
    await world.asset("USD")
    await world.meter("tokens", value="tokens", dimensions=["model"])
    await world.plan("tiers", {"tokens": graduated("USD", ("10", "3"), ("", "1"))})
    await world.customer("acme", "tiers")
    wallet_id = await world.wallet("acme")
    await world.fund(wallet_id, "USD", "20")
    await world.fund(wallet_id, "USD", "30")
    await world.ingest(world.event("acme", tokens="8", model="m"))
    await world.ingest(world.event("acme", event_id="e", tokens="5", model="m"))

    told = await explain(world, "e")

    (counted,), (price,) = told.counted, told.prices
    assert (counted.meter, dict(counted.dimensions)) == ("tokens", {"model": "m"})
    assert (price.usage_before, price.quantity, price.charged.value) == ("8", "5", "9")
    assert [(c.quantity, c.unit_price, c.amount) for c in price.components] == [
        ("2", "3", "6"),
        ("3", "1", "3"),
    ]
    (paid,) = price.payments
    # Of the first grant 20 is burnt: 24 by the first event, so the second pays from the other.
    assert (paid.amount.value, list(paid.grants.values()), paid.returned) == ("9", ["9"], "0")
    assert '"graduated"' in price.pricing.lower() or "tiers" in price.pricing
    assert (await explain(world, charge_id=told.outcome.charges[0].charge_id)) == told

    await world.amend(world.event("acme", event_id="e", tokens="3", model="m"))
    amended = await explain(world, "e")
    assert (amended.revision, amended.prices[0].charged.value) == (1, "7")
    assert [one.returned for one in amended.prices[0].payments] == ["2"]
    await world.deprecate("e")
    gone = await explain(world, "e")
    assert gone.outcome.state == event_pb2.EVENT_STATE_DEPRECATED
    assert (list(gone.counted), list(gone.prices)) == ([], [])


async def test_usage_billed_on_invoices_has_no_payments_and_no_line_yet(world: World) -> None:
    await world.meter("tokens", value="tokens")
    await world.plan("arrears", {"tokens": unit_price("USD", "2")}, from_wallet=False)
    await world.customer("acme", "arrears")
    await world.ingest(world.event("acme", event_id="e", tokens="5"))

    (price,) = (await explain(world, "e")).prices

    assert [(c.quantity, c.amount) for c in price.components] == [("5", "10")]
    assert (list(price.payments), list(price.billed)) == ([], [])
    for wrong in ({"event_id": "none"}, {"charge_id": "00000000-0000-7000-8000-000000000001"}):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await explain(world, **wrong)
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await explain(world)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
