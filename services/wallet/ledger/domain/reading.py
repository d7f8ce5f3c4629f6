"""Books from rows: what `open_batch` answers, column by column, becomes the values of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from wallet.budgets.domain.counting import NodeName
from wallet.budgets.domain.reading import make_budgets
from wallet.ledger.domain.books import Alert, Balance, Books, Grant, Hold, Wallet
from wallet.ledger.domain.details import Rollover
from wallet.ledger.domain.items import WalletItem
from wallet.ledger.domain.outcomes import restrictions_of
from wallet.ledger.domain.values import (
    NEVER,
    HoldState,
    OverCapture,
    Restrictions,
    ShortfallMode,
    WalletState,
)
from wallet.recharge.domain import RechargeMode, Rule

# Grants read of each balance at first. Most debits need one; the rest is loaded where they run out.
GRANTS_READ = 4

Row: TypeAlias = Sequence[Any]


@dataclass(slots=True)
class Wanted:
    """What a batch must lock and look at."""

    customers: set[tuple[str, str]] = field(default_factory=set)
    wallets: set[tuple[str, str]] = field(default_factory=set)
    holds: set[tuple[str, str]] = field(default_factory=set)
    keys: set[tuple[str, str]] = field(default_factory=set)
    adjustments: list[WalletItem] = field(default_factory=list)
    nodes: set[NodeName] = field(default_factory=set)
    # Nodes of what is reversed: their caps are wanted though no item names them.
    spent_nodes: set[NodeName] = field(default_factory=set)
    assets: set[str] = field(default_factory=set)
    clocks: dict[str, datetime] = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """What `open_batch` answered, from which books are made as often as need be."""

    wanted: Wanted
    row: Any
    # Further grants, where the first few did not do, and the balances that they are all of.
    grants: list[Row] = field(default_factory=list)
    whole: set[tuple[str, str, str]] = field(default_factory=set)
    # What few items need: single grants and their history, reversals, rates, closed periods.
    details: list[tuple[str, Sequence[Row]]] = field(default_factory=list)
    # What grants roll over and what is done with captures, of some wallets.
    terms: list[Row] = field(default_factory=list)
    policies: list[Row] = field(default_factory=list)
    terms_of: set[tuple[str, str]] = field(default_factory=set)
    # Nodes and caps, where an item or a hold names a node.
    budgets: list[Any] = field(default_factory=list)


def make_books(page: Page) -> Books:
    """Fresh books from what was read."""
    row = page.row
    books = Books(clock=row["clock"])
    _make_wallets(books, page)
    _make_balances(books, page)
    _make_grants(books, page)
    _make_holds(books, row)
    _add_details(books, page)
    if page.budgets:
        books.budgets = make_budgets(page.budgets)
    for tenant, key, fingerprint, outcome in _rows(row, "k_"):
        books.answers[tenant, key] = (fingerprint, outcome)
    for tenant, wallet_id, asset, *rule in _rows(row, "r_"):
        books.wallets[tenant, wallet_id].balance(asset).rule = _make_rule(rule)
    for tenant, wallet_id, asset, threshold, armed, scale in _rows(row, "a_"):
        alert = Alert(int(threshold), armed, scale)
        books.wallets[tenant, wallet_id].balance(asset).alert = alert
    return books


def _add_details(books: Books, page: Page) -> None:
    details = books.details
    for what, rows in page.details:
        for values in rows:
            match what:
                case "grants":
                    _add_single(books, values)
                case "reversed":
                    details.reversed[values[0], values[1], values[2]] = int(values[3])
                case "rates":
                    rate = (values[3], Decimal(values[4]))
                    details.rates[values[0], values[1], values[2]] = rate
                case "closed":
                    details.closed[values[0]] = values[1]
    for tenant, wallet_id, grant_id, *terms in page.terms:
        grant = books.wallets[tenant, wallet_id].grants.get(grant_id)
        if grant is not None:
            grant.rollover = _read_rollover(terms[:3])
            grant.cost_asset, grant.source = terms[3:]
    for tenant, wallet_id, over_capture in page.policies:
        books.wallets[tenant, wallet_id].over_capture = OverCapture(over_capture)
    for key in page.terms_of:
        books.wallets[key].terms_known = True


def _add_single(books: Books, values: Row) -> None:
    _add_grant(books, values[:17], listed=False)
    grant = books.wallets[values[1], values[2]].grants[values[4]]
    grant.cost_asset, grant.source, grant.void_time = values[17:20]
    grant.lost = int(values[20])
    first_use = values[21]
    if first_use is not None:
        zoned = first_use if first_use.tzinfo is not None else first_use.replace(tzinfo=UTC)
        books.details.first_uses[grant.grant_id] = zoned
    grant.rollover = _read_rollover(values[22:25])
    grant.rolled_from = values[25] or ""


def _read_rollover(values: Row) -> Rollover | None:
    fraction, cap, seconds = values
    if fraction is None:
        return None
    return Rollover(Decimal(fraction), None if cap is None else int(cap), seconds)


_SPANS: dict[str, slice] = {}


def _rows(row: Any, prefix: str) -> Iterable[Row]:
    """The rows of one kind: its columns stand side by side and share a prefix."""
    span = _SPANS.get(prefix)
    if span is None:
        places = [place for place, name in enumerate(row.keys()) if name.startswith(prefix)]
        span = _SPANS[prefix] = slice(places[0], places[-1] + 1)
    columns = row[span]
    return zip(*columns, strict=True) if columns[0] is not None else ()


def _make_wallets(books: Books, page: Page) -> None:
    for tenant, wallet_id, customer, priority, restrictions, mode, late, state in _rows(
        page.row, "w_"
    ):
        wallet = Wallet(
            tenant,
            wallet_id,
            customer,
            priority,
            _read_restrictions(restrictions),
            _SHORTFALL_MODES[mode],
            late,
            _WALLET_STATES[state],
        )
        books.wallets[tenant, wallet_id] = wallet
    # A customer is there only where all of its wallets are locked.
    for key in page.wanted.customers:
        books.customers[key] = []
    for wallet in books.wallets.values():
        owned = books.customers.get((wallet.tenant_id, wallet.customer_id))
        if owned is not None:
            owned.append(wallet)
    for owned in books.customers.values():
        if len(owned) > 1:
            owned.sort(key=_turn)


def _turn(wallet: Wallet) -> tuple[int, str]:
    return wallet.priority, wallet.wallet_id


def _make_balances(books: Books, page: Page) -> None:
    for values in _rows(page.row, "b_"):
        tenant, wallet_id, asset = values[:3]
        wallet = books.wallets[tenant, wallet_id]
        sequence, change_time = values[13], values[14]
        wallet.balances[asset] = Balance(
            wallet,
            asset,
            int(values[3]),
            int(values[4]),
            int(values[5]),
            int(values[6]),
            int(values[7]),
            int(values[8]),
            int(values[9]),
            int(values[10]),
            values[11],
            read_end(values[12]),
            sequence,
            sequence,
            change_time,
            truncated=asset not in page.wanted.assets,
        )
        if sequence > wallet.sequence:
            wallet.sequence = sequence
        if wallet.change_time is None or change_time > wallet.change_time:
            wallet.change_time = change_time


def _make_grants(books: Books, page: Page) -> None:
    for values in _rows(page.row, "g_"):
        tenant, wallet_id, asset = values[1:4]
        # A balance whose grants were all loaded later takes those instead.
        listed = values[0] and (tenant, wallet_id, asset) not in page.whole
        _add_grant(books, values, listed)
    for wallet in books.wallets.values():
        for balance in wallet.balances.values():
            if len(balance.grants) >= GRANTS_READ and not balance.restricted_grants:
                now = page.wanted.clocks.get(wallet.tenant_id, books.clock)
                balance.truncated = balance.next_change > now
    for values in page.grants:
        _add_grant(books, values, listed=True)
    for tenant, wallet_id, asset in page.whole:
        books.wallets[tenant, wallet_id].balances[asset].truncated = False


def _add_grant(books: Books, values: Row, listed: bool) -> None:
    (_, tenant, wallet_id, asset, grant_id, kind, amount, remaining, held, priority, breadth) = (
        values[:11]
    )
    restrictions, effective, expire, cost, create_time, dormant = values[11:]
    wallet = books.wallets[tenant, wallet_id]
    grant = wallet.grants.get(grant_id)
    if grant is None:
        grant = wallet.grants[grant_id] = Grant(
            grant_id,
            kind,
            int(amount),
            int(remaining),
            int(held),
            priority,
            breadth,
            _read_restrictions(restrictions),
            effective,
            read_end(expire),
            Decimal(cost),
            create_time,
            dormant,
        )
    if listed:
        wallet.balances[asset].grants.append(grant)


def _make_holds(books: Books, row: Any) -> None:
    for (
        tenant,
        hold_id,
        customer,
        wallet_id,
        asset,
        amount,
        captured,
        state,
        meter,
        feature,
        product,
        reference,
        create_time,
        expire,
        shares,
        pins,
        path,
    ) in _rows(row, "h_"):
        books.holds[tenant, hold_id] = Hold(
            tenant,
            hold_id,
            customer,
            wallet_id,
            asset,
            int(amount),
            int(captured),
            _HOLD_STATES[state],
            (meter, feature, product),
            reference,
            create_time,
            expire,
            [(wallet, int(part), int(number)) for wallet, part, number in _triples(shares)],
            [
                (wallet, None if grant == "-" else grant, int(part))
                for wallet, grant, part in _triples(pins)
            ],
            path=tuple(json.loads(path)) if path is not None else (),
        )


def _make_rule(values: Row) -> Rule:
    return Rule(
        threshold=int(values[0]),
        mode=RechargeMode(values[1]),
        value=int(values[2]),
        unit_price=Decimal(values[3]),
        price_asset=values[4],
        price_scale=values[5],
        monthly_cap=int(values[6]),
        payment_method_id=values[7],
        generation=values[8],
        in_flight=values[9],
        pause_until=values[10],
        month=values[11],
        month_bought=int(values[12]),
        scale=values[13],
    )


def _triples(text: str) -> Iterable[tuple[str, str, str]]:
    """Three lists of one length: "w,w|g,g|1,2"; "||" where they are empty."""
    if text == "||":
        return ()
    first, second, third = text.split("|")
    if "," not in first:
        return ((first, second, third),)
    return zip(first.split(","), second.split(","), third.split(","), strict=True)


_HOLD_STATES = {int(state): state for state in HoldState}
_SHORTFALL_MODES = {int(mode): mode for mode in ShortfallMode}
_WALLET_STATES = {int(state): state for state in WalletState}


def read_end(instant: datetime) -> datetime:
    """When something ends. Postgres' infinity arrives as the last instant, without a zone."""
    return instant if instant.tzinfo is not None else NEVER


def _read_restrictions(text: str | None) -> Restrictions | None:
    return None if text is None else restrictions_of(json.loads(text))
