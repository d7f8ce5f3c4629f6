"""Published price examples come out to the cent."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from kernel.money import format_atoms, round_to_atoms
from rating import Price, State, Tab, Usage, advance, cost, parse_price, rate

FILE = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "data"
    / ("billing_worked_examples.json")
)
CENTS = 2
Case = dict[str, Any]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    if not FILE.exists():
        pytest.skip("../shared/data/billing_worked_examples.json is not beside the repository")
    return {case["id"]: case for case in json.loads(FILE.read_text())["cases"]}


def priced(**document: Any) -> Price:
    return parse_price({"asset": "USD", **document})


def cents(price: Price, state: State) -> str:
    """The cost as printed, with two decimals."""
    atoms = round_to_atoms(rate(price, state).cost, CENTS)
    assert round_to_atoms(cost(price, state), CENTS) == atoms
    return f"{Decimal(format_atoms(atoms, CENTS)):.2f}"


def used(quantity: int | str) -> State:
    return State(quantity=int(quantity), event_count=1)


def ladder(rows: list[list[Any]], **more: str) -> list[dict[str, Any]]:
    """Rows of [up_to, unit price, flat fee]."""
    tiers = []
    for up_to, unit_price, *flat in rows:
        tier = {"up_to": up_to, "unit_price": unit_price, **more}
        tiers.append(tier | ({"flat_fee": flat[0]} if flat else {}))
    return tiers


def graduated(case: Case) -> None:
    given = case["given"]
    price = priced(graduated={"tiers": ladder(given["tiers"])})
    assert cents(price, used(given["units"])) == case["expected"]["total"]
    if "parts" in case["expected"]:
        parts = [part.amount for part in rate(price, used(given["units"])).components]
        assert parts == [Decimal(part) for part in case["expected"]["parts"]]


def volume(case: Case) -> None:
    given = case["given"]
    rows = given.get("tiers") or [[None, given["tier3_unit_price"]]]
    price = priced(volume={"tiers": ladder(rows)})
    assert cents(price, used(given["units"])) == case["expected"]["total"]


def volume_with_a_cliff(case: Case) -> None:
    (below, dear), (_, cheap) = case["given"]["tiers"]
    rows = [[below.removeprefix("<"), dear], [None, cheap]]
    price = priced(volume={"tiers": ladder(rows), "bound": "UPPER_EXCLUSIVE"})
    assert cents(price, used(case["given"]["units"])) == case["expected"]["total"]
    assert cents(price, used(9999)) == case["expected"]["at_9999_units"]


def package(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    body = {"size": given["package_size"], "amount": given["price"], "packages_min": 1}
    price = priced(package=body | {"free_units": given.get("free_units", 0)})
    assert cents(price, used(given["units"])) == expected["total"]
    if "packages" in expected:
        assert rate(price, used(given["units"])).components[0].quantity == expected["packages"]


def volume_package(case: Case) -> None:
    package(case)
    given = case["given"]
    tier = {"unit_price": given["price"], "package_size": given["package_size"]}
    assert cents(priced(volume={"tiers": [tier]}), used(given["units"])) == "5.00"


def transaction_fees(cases: dict[str, Case], name: str) -> None:
    rows = cases["PCT-01"]["given"]["tiers"]
    tiers = [
        {"up_to": up_to, "rate": str(Decimal(rate_.rstrip("%")) / 100), "flat_fee": flat}
        for up_to, rate_, flat in rows
    ]
    tab = Tab(priced(graduated_percentage={"tiers": tiers}), CENTS)
    for each in ("PCT-01", "PCT-02", "PCT-03"):
        given = cases[each]["given"]
        assert tab.state.amount == Decimal(given["cumulative_before"])
        fee = tab.add(Usage(amount=int(given["amount"])))
        if each == name:
            assert f"{Decimal(fee) / 100:.2f}" == cases[name]["expected"]["fee"]


def token_classes(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    fees = []
    for kind in ("input", "output"):
        price = priced(unit={"unit_price": given[f"{kind}_rate"]}, divide_by=given["package_size"])
        fees.append(cents(price, used(given[f"{kind}_tokens"])))
    assert fees == [expected["input_fee"], expected["output_fee"]]
    assert f"{sum(map(Decimal, fees)):.2f}" == expected["total"]


def minutes_by_speed(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    cells = [
        {"values": {"speed": speed}, "unit": {"unit_price": given[f"{speed}_rate"]}}
        for speed in ("fast", "regular")
    ]
    price = priced(matrix={"dimensions": ["speed"], "cells": cells})
    state, fees = State(), []
    for speed in ("fast", "regular"):
        event = Usage(given[f"{speed}_minutes"], properties={"speed": speed})
        fees.append(cents(price, advance(price, State(), event)))
        state = advance(price, state, event)
    assert fees == expected["fees"]
    assert cents(price, state) == expected["total"]


def wildcard(case: Case) -> None:
    given = case["given"]
    cells = [
        {"values": {"model": model}, "unit": {"unit_price": unit_price}}
        for model, unit_price in reversed(given["prices"].items())
    ]
    price = priced(matrix={"dimensions": ["model"], "cells": cells})
    fees = [
        cents(price, advance(price, State(), Usage(properties={"model": model})))
        for model in given["events"]
    ]
    assert fees == case["expected"]["fees"]


def tiered_override(case: Case) -> None:
    given = case["given"]
    tiers, reached = [], 0
    for tier in given["tiers"]:
        reached += tier.get("size", 0)
        unit_price = str(Decimal(given["list"]) * Decimal(tier["multiplier"]))
        tiers.append({"up_to": reached if "size" in tier else None, "unit_price": unit_price})
    price = priced(graduated={"tiers": tiers})
    assert cents(price, used(given["units"])) == case["expected"]["total"]


def overage_surcharge(case: Case) -> None:
    given = case["given"]
    multiplier = 1 + Decimal(given["overage_surcharge_percent"]) / 100
    price = priced(
        unit={"unit_price": given["rate"]},
        included={"quantity": "100"},
        overage_multiplier=str(multiplier),
    )
    one_more = cost(price, used(101)) - cost(price, used(100))
    assert one_more == Decimal(case["expected"]["overage_rate"])
    committed = State(quantity=101, committed=100)
    at_list = priced(unit={"unit_price": given["rate"]}, overage_multiplier=str(multiplier))
    assert cost(at_list, committed) == 100 * 10 + 11


def plan_change(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    left = State(share=1 - Fraction(given["elapsed_fraction"]))
    old = cents(priced(flat={"amount": given["old_price"]}), left)
    new = cents(priced(flat={"amount": given["new_price"]}), left)
    assert f"{Decimal(new) - Decimal(old):.2f}" == expected["net_due"]
    assert new == expected.get("debit", new)
    assert f"-{old}" == expected.get("credit", f"-{old}")


def seats_by_the_month(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    price = priced(seat={"unit": {"unit_price": given["list_price_month"]}})
    assert cents(price, used(given["delta_quantity"])) == expected["order_mrr"]


def partial_month(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    monthly = given.get("mrr") or str(given["delta_quantity"] * Decimal(given["list_price_month"]))
    price = priced(flat={"amount": monthly})
    stub = cents(price, State(share=Fraction(given["partial_days"], given["month_basis_days"])))
    whole = given["full_months"] * Decimal(cents(price, State()))
    assert stub == expected["aug"]
    assert f"{whole:.2f}" == expected["sep_dec"]
    total = expected.get("tcb") or expected.get("tcv") or expected.get("elp")
    assert f"{Decimal(stub) + whole:.2f}" == total


def bought_units(case: Case) -> None:
    given = case["given"]
    price = priced(unit={"unit_price": given["per_unit_cost_basis"]})
    assert cents(price, used(given["amount"])) == case["expected"]["invoice_total"]


def ramp(case: Case) -> None:
    price = priced(seat={"unit": {"unit_price": case["given"]["price_month"]}})
    quantities = [quantity for _, quantity in case["given"]["segments"]]
    amounts = [f"{Decimal(cents(price, used(quantity))):.0f}" for quantity in quantities]
    assert amounts == case["expected"]["subtotals"]


COVERED: dict[str, Callable[[Case], None]] = {
    "TIER-01": graduated,
    "TIER-02": volume,
    "TIER-03": graduated,
    "TIER-04": volume,
    "TIER-05": volume,
    "TIER-06": volume_package,
    "TIER-07": graduated,
    "TIER-08": volume_with_a_cliff,
    "PKG-01": package,
    "PKG-02": package,
    "PKG-03": package,
    "PKG-04": package,
    "PKG-05": package,
    "AI-01": token_classes,
    "AI-02": minutes_by_speed,
    "AI-03": wildcard,
    "CTR-03": tiered_override,
    "CTR-10": overage_surcharge,
    "PRO-01": plan_change,
    "PRO-02": plan_change,
    "PRO-03": seats_by_the_month,
    "PRO-04": partial_month,
    "PRO-05": partial_month,
    "PRO-06": partial_month,
    "BURN-06": bought_units,
    "RAMP-01": ramp,
}
TRANSACTIONS = ("PCT-01", "PCT-02", "PCT-03")


@pytest.mark.parametrize("name", COVERED)
def test_a_published_example_comes_out_to_the_cent(cases: dict[str, Case], name: str) -> None:
    COVERED[name](cases[name])


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_a_transaction_pays_its_rate_and_each_new_tier(cases: dict[str, Case], name: str) -> None:
    transaction_fees(cases, name)


def test_every_case_that_is_a_matter_of_rating_is_covered(cases: dict[str, Case]) -> None:
    """Cases of a rating area must be covered, and no case can drop out unseen."""
    areas = ("graduated", "volume", "package", "token_pricing", "dimensional", "graduated_percent")
    rating_cases = {name for name, case in cases.items() if case["area"].startswith(areas)}
    covered = {*COVERED, *TRANSACTIONS}
    assert rating_cases <= covered <= cases.keys()
    assert len(covered) == 29
