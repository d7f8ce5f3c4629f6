"""Budgets through gRPC under a test clock, against a list of what was spent and is held."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.wallet.test_budgets import BudgetClient
from tests.wallet.test_time import START, TimedClient, timed  # noqa: F401
from tollgate.wallet.v1 import budget_pb2
from wallet.budgets.domain.windows import (
    CalendarUnit,
    CalendarWindow,
    RollingWindow,
    Window,
    first_anchor,
)

STEPS = 150
PATHS = {"c1": ("c1",), "team": ("c1", "team"), "ann": ("c1", "team", "ann"), "bob": ("c1", "bob")}
ZONE = "Europe/Paris"


@dataclass
class ModelHold:
    hold_id: str
    node: str
    atoms: int
    expire: datetime


@dataclass
class Model:
    """Every cap is asked anew by looking at all that ever happened."""

    caps: list[tuple[str, int, Window]]
    spent: list[tuple[str, int, datetime]] = field(default_factory=list)
    holds: dict[str, ModelHold] = field(default_factory=dict)

    def left(self, node: str, limit: int, window: Window, now: datetime) -> int:
        used = sum(
            atoms
            for by, atoms, time in self.spent
            if node in PATHS[by] and window.slot_of(time).leave > now
        )
        return limit - used - sum(h.atoms for h in self.holds.values() if node in PATHS[h.node])

    def fits(self, node: str, atoms: int, now: datetime) -> bool:
        return all(
            self.left(of, limit, window, now) >= atoms
            for of, limit, window in self.caps
            if of in PATHS[node]
        )


async def _open(client: TimedClient) -> tuple[BudgetClient, Model]:
    budgets = BudgetClient(client)
    await client.grant(await client.wallet(), "100000")
    for node, path in PATHS.items():
        await budgets.node(node, path[-2] if len(path) > 1 else "")
    day = budget_pb2.CalendarWindow(unit=budget_pb2.CALENDAR_UNIT_DAY, time_zone=ZONE)
    week = budget_pb2.CalendarWindow(unit=budget_pb2.CALENDAR_UNIT_WEEK, time_zone=ZONE)
    await budgets.cap("c1", "90", calendar=week)
    await budgets.cap("team", "30", calendar=day)
    await budgets.cap("ann", "12", rolling=Duration(seconds=5 * 3600))
    await budgets.cap("bob", "40", rolling=Duration(seconds=7 * 86_400))
    anchor = first_anchor(ZONE)
    model = Model(
        [
            ("c1", 9000, CalendarWindow(CalendarUnit.WEEK, 1, ZONE, anchor)),
            ("team", 3000, CalendarWindow(CalendarUnit.DAY, 1, ZONE, anchor)),
            ("ann", 1200, RollingWindow(timedelta(hours=5))),
            ("bob", 4000, RollingWindow(timedelta(days=7))),
        ]
    )
    return budgets, model


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_budgets_answer_as_the_list_does(timed: TimedClient, seed: int) -> None:  # noqa: F811
    chance = random.Random(seed)
    budgets, model = await _open(timed)
    now = START
    answers: list[bool] = []
    for _ in range(STEPS):
        now += timedelta(minutes=chance.choice([0, 0, 1, 30, 200]))
        await timed.advance(now)
        node, atoms = chance.choice(list(PATHS)), chance.randint(1, 900)
        value = f"{atoms / 100:.2f}"
        match chance.choice(["debit", "debit", "debit", "hold", "capture", "void"]):
            case "debit":
                fits = model.fits(node, atoms, now)
                outcome = await timed.debit(value, node=node)
                assert outcome.HasField("debit") == fits, outcome
                answers.append(fits)
                if fits:
                    model.spent.append((node, atoms, now))
            case "hold":
                fits = model.fits(node, atoms, now)
                minutes = chance.choice([10, 600, 6000])
                lasts = Duration(seconds=minutes * 60)
                held = await timed.hold(value, node=node, time_to_live=lasts)
                assert held.HasField("hold") == fits, held
                if fits:
                    expire = now + timedelta(minutes=minutes)
                    model.holds[held.hold.hold_id] = ModelHold(
                        held.hold.hold_id, node, atoms, expire
                    )
            case "capture" if model.holds:
                hold = chance.choice(list(model.holds.values()))
                part, final = chance.randint(1, hold.atoms), chance.random() < 0.5
                captured = await timed.capture(hold.hold_id, f"{part / 100:.2f}", final=final)
                if hold.expire <= now:
                    assert captured.refusal.reason == "HOLD_ENDED"
                    del model.holds[hold.hold_id]
                    continue
                model.spent.append((hold.node, part, now))
                hold.atoms -= part
                if final:
                    del model.holds[hold.hold_id]
            case "void" if model.holds:
                hold = chance.choice(list(model.holds.values()))
                await timed.void(hold.hold_id)
                del model.holds[hold.hold_id]
    assert min(answers.count(True), answers.count(False)) >= 10, "some fit and some do not"
    for node, limit, window in model.caps:
        found = [b for b in await budgets.budgets(node) if b.node_key == node]
        left = max(0, model.left(node, limit, window, now))
        assert [b.left for b in found] == [f"{left / 100:.2f}".rstrip("0").rstrip(".")]
    assert await timed.verify() == []
