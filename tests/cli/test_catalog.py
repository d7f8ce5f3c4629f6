"""`tollgate catalog`: what is sold as one file, exported, compared and applied."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import typer

from chassis.auth import mint
from chassis.call import Environment
from kernel.errors import InvalidValue
from tests.invoicing.support import Books, fixed
from tests.support.databases import FreshDatabase
from tests.support.services import SERVICE_SECRET, Services
from tollgate.invoicing.v1 import catalog_pb2
from tollgate.metering.v1 import meter_pb2
from tollgate_cli import catalog as command
from tollgate_cli.catalog import Action, catalog
from tollgate_cli.catalog_file import compare, read, write

FILE = """
meters:
- code: storage
  event_name: stored
  aggregation: WEIGHTED_SUM
  value_expression: bytes / 1000
  property_types: {bytes: NUMBER}
  carry_over: true
  rounding: {mode: CEIL, digits: 2}
  filters:
  - {property: region, operator: NOT_EXISTS}
features:
- code: calls
  name: Calls
  kind: METERED
  meter: calls
- code: regions
  name: Regions
  kind: CONFIG
  merge: MAX
  default_value: {config: 1}
plans:
- code: extra
  name: Extra
  kind: ADD_ON
  quantity_max: 5
  compatible_plans: [pro]
  prices:
  - {code: fee, description: Extra, kind: FIXED, pricing: {asset: USD, flat: {amount: 3}}}
- code: pro
  name: Pro
  features: [priority]
  trial: {length: {count: 14, unit: DAY}, end: PAUSE}
  entitlements:
  - feature_code: calls
    per_price_code: seats
    value:
      limits:
      - {quantity: 1000, enforcement: SOFT}
      - {quantity: 50, reset: ROLLING, rolling_seconds: 18000}
  - {feature_code: regions, value: {config: 3}}
  prices:
  - code: base
    description: Base fee
    kind: FIXED
    pricing:
      asset: USD
      flat: {amount: 49.00}
    currency_pricings:
    - {asset: EUR, flat: {amount: 45}}
  - code: seats
    description: Seats
    kind: SEAT
    timing: ARREARS
    pricing:
      asset: USD
      minimum_prorated: false
      graduated:
        tiers:
        - {up_to: 10, unit_price: 0.1}
        - {unit_price: 0.05}
coupons:
- code: SPRING
  name: Spring offer
  rate: 0.1
  duration: REPEATING
  documents: 3
  plan_codes: [pro]
  redemptions_max: 500
"""


def test_numbers_stay_text_and_what_is_written_is_read_again() -> None:
    wanted = read(FILE)
    pro = wanted.plans["pro"]
    assert pro.prices[0].pricing.flat.amount == "49.00"
    assert pro.prices[1].pricing.graduated.tiers[0].unit_price == "0.1"
    assert not pro.prices[1].pricing.minimum_prorated
    assert pro.prices[1].timing == catalog_pb2.BILLING_TIMING_ARREARS
    assert wanted.coupons["SPRING"].rate == "0.1"
    storage = wanted.meters["storage"]
    assert storage.aggregation == meter_pb2.AGGREGATION_WEIGHTED_SUM
    assert storage.property_types["bytes"] == meter_pb2.PROPERTY_TYPE_NUMBER
    assert storage.rounding.step == "0.01"
    text = write(wanted)
    assert read(text) == wanted
    assert write(read(text)) == text
    assert "kind: SEAT" in text
    assert compare(pro, pro) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("plans: [", "is not YAML"),
        ("- a", "holds no plans"),
        ("products: []", "products"),
        ("plans: 7", "is not a list"),
        ("plans: [7]", "plans[0]: is not a Plan"),
        ("plans: [{code: a, nmae: A}]", "nmae"),
        ("plans: [{code: a}, {code: a}]", "there twice"),
        ("meters: [{code: a, aggregation: MEAN}]", "AGGREGATION_MEAN"),
        ("meters: [{code: a, property_types: {b: DATE}}]", "PROPERTY_TYPE_DATE"),
        ("plans: [{code: a, prices: [{kind: FREE}]}]", "PRICE_KIND_FREE"),
    ],
)
def test_a_file_that_is_none_says_where(text: str, says: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(text)
    assert says in caught.value.message


async def test_a_file_is_applied_once_and_then_says_what_is_there(
    database: FreshDatabase,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tenant_id = uuid4()
    await services.run("invoicing", database)
    await services.run("metering", database, peers={"wallet": "127.0.0.1:9"})  # asked nothing here
    books = Books(await services.channel("invoicing"), tenant_id)
    await books.publish(fixed("5"), code="basic")
    key = mint(SERVICE_SECRET, "operator", tenant_id, datetime.now(UTC), Environment.LIVE)
    monkeypatch.setenv("TOLLGATE_API_KEY", key)
    where = ",".join(f"{name}={services.addresses[name]}" for name in ("invoicing", "metering"))
    file = tmp_path / "catalog.yaml"

    async def run(action: Action, path: Path | None = file) -> str:
        await asyncio.to_thread(catalog, action, path, tmp_path, where)
        return capsys.readouterr().out

    async def versions() -> list[tuple[str, int, int]]:
        answer = await books.call(books.catalog.ListPlans, catalog_pb2.ListPlansRequest())
        return [(one.code, one.version, one.state) for one in answer.plans]

    published = catalog_pb2.PLAN_VERSION_STATE_PUBLISHED
    file.write_text(FILE)
    with pytest.raises(typer.Exit) as left:
        await run(Action.DIFF)
    assert left.value.exit_code == command.CHANGES
    shown = capsys.readouterr().out
    assert "+name: Pro" in shown
    assert await versions() == [("basic", 1, published)]

    applied = await run(Action.APPLY)
    assert "Meter storage is created." in applied
    assert "Plan pro: version 1 is published." in applied
    assert "Nothing to change." in await run(Action.APPLY)
    await run(Action.DIFF)
    exported = await run(Action.EXPORT, None)
    assert set(read(exported).plans) == {"basic", "extra", "pro"}
    assert read(exported).plans["pro"] == read(FILE).plans["pro"]
    assert read(exported).plans["extra"] == read(FILE).plans["extra"]
    assert read(exported).features == read(FILE).features
    assert read(exported).coupons == read(FILE).coupons
    assert read(exported).meters == read(FILE).meters

    # A change is the next version; a draft that an apply left behind is the one to publish.
    changed = FILE.replace("49.00", "59.00").replace("bytes / 1000", "bytes / 1024")
    await books.call(
        books.catalog.CreatePlan,
        catalog_pb2.CreatePlanRequest(plan=read(changed).plans["pro"]),
    )
    file.write_text(changed)
    with pytest.raises(typer.Exit):
        await run(Action.DIFF)
    difference = capsys.readouterr().out
    assert "-      amount: '49.00'" in difference
    assert "+      amount: '59.00'" in difference
    applied = await run(Action.APPLY)
    assert "Meter storage: version 2 is published." in applied
    assert "Plan pro: version 2 is published." in applied
    assert await versions() == [
        ("basic", 1, published),
        ("extra", 1, published),
        ("pro", 1, published),
        ("pro", 2, published),
    ]

    # A coupon never changes, and then nothing else does.
    file.write_text(changed.replace("name: Pro", "name: Prof").replace("rate: 0.1", "rate: 0.2"))
    with pytest.raises(InvalidValue, match="never changes"):
        await run(Action.APPLY)
    assert len(await versions()) == 4
    await run(Action.EXPORT)
    assert read(file.read_text()).plans["pro"] == read(changed).plans["pro"]
