"""Undoing what members of a group did, where a later member was refused."""

from __future__ import annotations

from operator import attrgetter

from wallet.budgets.domain.counting import Memory
from wallet.ledger.domain.books import Alert, Balance, Books, Grant, Hold, Wallet
from wallet.recharge.domain import Rule

_BALANCE = (
    "credited",
    "debited",
    "held",
    "overdrawn",
    "held_unbacked",
    "dormant",
    "forced",
    "restricted_grants",
    "next_change",
    "sequence",
    "change_time",
    "truncated",
    "dirty",
)
_GRANT = ("remaining", "held", "dormant", "lost")
_HOLD = ("captured", "state", "pins", "end_time")
_RULE = ("generation", "in_flight", "month", "month_bought")

_balance_of = attrgetter(*_BALANCE)
_grant_of = attrgetter(*_GRANT)
_hold_of = attrgetter(*_HOLD)
_rule_of = attrgetter(*_RULE)


class Savepoint:
    """One customer's part of the books as it was; `restore` puts it back."""

    def __init__(self, books: Books, wallets: list[Wallet], holds: list[Hold]) -> None:
        self._books = books
        self._wallets = [(wallet, wallet.sequence, wallet.change_time) for wallet in wallets]
        self._balances: list[tuple[Balance, tuple[object, ...], list[Grant]]] = []
        self._grants: list[tuple[Grant, tuple[object, ...]]] = []
        self._rules: list[tuple[Rule, tuple[object, ...]]] = []
        self._alerts: list[tuple[Alert, bool]] = []
        for wallet in wallets:
            self._grants += [(grant, _grant_of(grant)) for grant in wallet.grants.values()]
            for balance in wallet.balances.values():
                self._balances.append((balance, _balance_of(balance), list(balance.grants)))
                if balance.rule is not None:
                    self._rules.append((balance.rule, _rule_of(balance.rule)))
                if balance.alert is not None:
                    self._alerts.append((balance.alert, balance.alert.armed))
        owned = [(wallet.tenant_id, wallet.customer_id) for wallet in wallets]
        self._budgets = Memory(books.budgets, owned)
        self._holds = [(hold, _hold_of(hold)) for hold in holds]
        self._changed_grants = dict(books.changed_grants)
        self._changed_holds = dict(books.changed_holds)
        self._grants_of = [(wallet, set(wallet.grants)) for wallet in wallets]
        self._lengths = [
            (rows, len(rows))
            for rows in (
                books.transfers,
                books.recharges,
                books.alerts,
                books.rearmed,
                books.new_grants,
            )
        ]

    def restore(self) -> None:
        for wallet, sequence, change_time in self._wallets:
            wallet.sequence, wallet.change_time = sequence, change_time
        for balance, values, grants in self._balances:
            _put(balance, _BALANCE, values)
            balance.grants = grants
        for grant, values in self._grants:
            _put(grant, _GRANT, values)
        for wallet, known in self._grants_of:
            for grant_id in set(wallet.grants) - known:
                del wallet.grants[grant_id]  # rolled over into, while a member was decided
        for hold, values in self._holds:
            _put(hold, _HOLD, values)
        for rule, values in self._rules:
            _put(rule, _RULE, values)
        for alert, armed in self._alerts:
            alert.armed = armed
        self._budgets.restore()
        self._books.changed_grants = self._changed_grants
        self._books.changed_holds = self._changed_holds
        for rows, length in self._lengths:
            del rows[length:]


def _put(target: object, names: tuple[str, ...], values: tuple[object, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(target, name, value)
