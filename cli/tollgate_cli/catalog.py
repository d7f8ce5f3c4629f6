"""`tollgate catalog`: what is sold as one file that is reviewed, compared and applied."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kernel.errors import InvalidValue
from tollgate.invoicing.v1 import catalog_pb2 as pb
from tollgate.invoicing.v1 import coupon_pb2, entitlement_pb2
from tollgate.metering.v1 import meter_pb2
from tollgate_cli import screen
from tollgate_cli.catalog_file import (
    Catalog,
    compare,
    read,
    stated_coupon,
    stated_feature,
    stated_meter,
    stated_plan,
    write,
)
from tollgate_cli.connecting import find_endpoints, find_key
from tollgate_cli.installation import SuiteFailed
from tollgate_sdk import Endpoints, Tollgate

CHANGES = 2  # exit code of `diff`: the file says something else than the installation
PAGE_SIZE = 200
RETRY_SECONDS = 10.0


class Action(StrEnum):
    """What to do with a catalog."""

    EXPORT = "export"
    DIFF = "diff"
    APPLY = "apply"


@dataclass(frozen=True)
class Installed:
    """What an installation has: what it offers, and drafts of plans that are not published."""

    offered: Catalog
    drafts: Mapping[str, list[pb.Plan]]


def catalog(
    action: Annotated[Action, typer.Argument(help="export, diff or apply.")],
    file: Annotated[
        Path | None, typer.Argument(help="The catalog's YAML file; export without one prints it.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where the installation's files lie, for its addresses and key.")
    ] = Path(".tollgate"),
    endpoints: Annotated[
        str, typer.Option(help="Instead: addresses, as invoicing=host:port,…")
    ] = "",
) -> None:
    """Keep meters, features, plans, add-ons and coupons in a file: export what is offered, show
    what a file would change, or change it. The tenant is that of the API key in TOLLGATE_API_KEY,
    else of the seeded one.

    A plan or meter that differs gets its next version, published; who has a subscription stays
    where it is. What the file does not name is left alone. Applying twice changes nothing. Exit
    code of diff: 0 where nothing would change, 2 where something would.
    """
    where, key = find_endpoints(folder, endpoints), find_key(folder)
    if action is Action.EXPORT:
        text = write(asyncio.run(_look(where, key)).offered)
        if file is None:
            print(text, end="")
        else:
            file.write_text(text, encoding="utf-8")
        return
    if file is None:
        raise SuiteFailed(f"name the file to {action.value}")
    wanted = read(file.read_text(encoding="utf-8"))
    if action is Action.APPLY:
        for sentence in asyncio.run(_apply(where, key, wanted)):
            screen.output.print(sentence, highlight=False)
    elif _show(asyncio.run(_look(where, key)).offered, wanted):
        raise typer.Exit(CHANGES)


async def _look(where: Endpoints, key: str) -> Installed:
    async with Tollgate(where, key, retry_seconds=RETRY_SECONDS) as client:
        return await fetch(client)


async def _apply(where: Endpoints, key: str, wanted: Catalog) -> list[str]:
    async with Tollgate(where, key, retry_seconds=RETRY_SECONDS) as client:
        return await apply(client, await fetch(client), wanted)


async def fetch(client: Tollgate) -> Installed:
    """What an installation offers: of each plan the version that new subscriptions take."""
    published: dict[str, pb.Plan] = {}
    drafts: dict[str, list[pb.Plan]] = {}
    token = ""
    while True:
        plans = await client.call(
            client.catalog.ListPlans, pb.ListPlansRequest(page_size=PAGE_SIZE, page_token=token)
        )
        for plan in plans.plans:
            if plan.state == pb.PLAN_VERSION_STATE_DRAFT:
                drafts.setdefault(plan.code, []).append(plan)
            elif plan.state == pb.PLAN_VERSION_STATE_PUBLISHED:
                published[plan.code] = plan  # versions come in order, so that the last one stays
        token = plans.next_page_token
        if not token:
            break
    coupons: dict[str, coupon_pb2.Coupon] = {}
    while True:
        listed = await client.call(
            client.coupons.ListCoupons,
            coupon_pb2.ListCouponsRequest(page_size=PAGE_SIZE, page_token=token),
        )
        coupons |= {one.code: stated_coupon(one) for one in listed.coupons if not one.archived}
        token = listed.next_page_token
        if not token:
            break
    features: dict[str, entitlement_pb2.Feature] = {}
    while True:
        known = await client.call(
            client.entitlements.ListFeatures,
            entitlement_pb2.ListFeaturesRequest(page_size=PAGE_SIZE, page_token=token),
        )
        features |= {one.code: stated_feature(one) for one in known.features}
        token = known.next_page_token
        if not token:
            break
    offered = {code: stated_plan(plan) for code, plan in published.items()}
    return Installed(Catalog(offered, coupons, await _meters(client), features), drafts)


async def _meters(client: Tollgate) -> dict[str, meter_pb2.Meter]:
    """Meters that count, each in the version that was published last."""
    found: dict[str, meter_pb2.Meter] = {}
    token = ""
    while True:
        listed = await client.call(
            client.meters.ListMeters,
            meter_pb2.ListMetersRequest(page_size=PAGE_SIZE, page_token=token),
        )
        found |= {one.code: stated_meter(one) for one in listed.meters if not one.archived}
        token = listed.next_page_token
        if not token:
            return found


async def apply(client: Tollgate, installed: Installed, wanted: Catalog) -> list[str]:
    """Make an installation offer what a file says; tells what was done.

    Raises InvalidValue, before anything is done, where a coupon would have to change.
    """
    check_coupons(installed.offered, wanted)
    done = [
        await _apply_meter(client, meter, is_new=code not in installed.offered.meters)
        for code, meter in sorted(wanted.meters.items())
        if installed.offered.meters.get(code) != meter
    ]
    for code, feature in sorted(wanted.features.items()):  # before the plans that grant them
        if installed.offered.features.get(code) == feature:
            continue
        await client.call(
            client.entitlements.SetFeature,
            entitlement_pb2.SetFeatureRequest(request_id=uuid.uuid4().hex, feature=feature),
        )
        done.append(f"Feature {code} is set.")
    for code, plan in sorted(wanted.plans.items()):
        if installed.offered.plans.get(code) == plan:
            continue
        version = await _draft(client, installed, plan)
        await client.call(
            client.catalog.PublishPlan,
            pb.PublishPlanRequest(request_id=uuid.uuid4().hex, code=code, version=version),
        )
        done.append(f"Plan {code}: version {version} is published.")
    for code, coupon in sorted(wanted.coupons.items()):
        if code in installed.offered.coupons:
            continue
        await client.call(
            client.coupons.CreateCoupon,
            coupon_pb2.CreateCouponRequest(request_id=uuid.uuid4().hex, coupon=coupon),
        )
        done.append(f"Coupon {code} is created.")
    return done or ["Nothing to change."]


async def _apply_meter(client: Tollgate, meter: meter_pb2.Meter, *, is_new: bool) -> str:
    """Publish a meter, or its next version from now on. Raises what metering refuses."""
    if is_new:
        await client.call(
            client.meters.CreateMeter,
            meter_pb2.CreateMeterRequest(request_id=uuid.uuid4().hex, meter=meter),
        )
        return f"Meter {meter.code} is created."
    await client.call(
        client.meters.CreateMeterDraft,
        meter_pb2.CreateMeterDraftRequest(request_id=uuid.uuid4().hex, meter=meter),
    )
    answer = await client.call(
        client.meters.PublishMeter,
        meter_pb2.PublishMeterRequest(request_id=uuid.uuid4().hex, code=meter.code),
    )
    return f"Meter {meter.code}: version {answer.meter.version} is published."


def check_coupons(present: Catalog, wanted: Catalog) -> None:
    """A coupon never changes. Raises InvalidValue naming one that would have to."""
    for code, coupon in sorted(wanted.coupons.items()):
        if code in present.coupons and present.coupons[code] != coupon:
            raise InvalidValue(f"coupons.{code}", "exists and never changes; give it another code")


async def _draft(client: Tollgate, installed: Installed, plan: pb.Plan) -> int:
    """The version to publish: a draft that an apply before this one left, else a new one."""
    for draft in reversed(installed.drafts.get(plan.code, [])):
        if stated_plan(draft) == plan:
            return int(draft.version)
    created = await client.call(
        client.catalog.CreatePlan,
        pb.CreatePlanRequest(request_id=uuid.uuid4().hex, plan=plan),
    )
    return int(created.plan.version)


def _show(present: Catalog, wanted: Catalog) -> bool:
    """Print what a file would change; False where that is nothing."""
    changed = False
    for kind, before, after in (
        ("meter", present.meters, wanted.meters),
        ("feature", present.features, wanted.features),
        ("plan", present.plans, wanted.plans),
        ("coupon", present.coupons, wanted.coupons),
    ):
        for code, message in sorted(after.items()):
            difference = compare(before.get(code), message)
            if difference:
                changed = True
                print(f"{kind} {code}\n{difference}\n")
        for code in sorted(set(before) - set(after)):
            screen.told.print(f"{kind} {code} is not in the file and stays.", highlight=False)
    if not changed:
        screen.told.print("Nothing would change.")
    return changed
