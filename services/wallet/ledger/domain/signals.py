"""What a change of a balance sets off: a recharge, an alert."""

from __future__ import annotations

from datetime import datetime

from wallet.ledger.domain.books import Balance, Books, RechargeStart


def watch(books: Books, balances: list[Balance], now: datetime) -> None:
    """Look at rules and alerts of balances that an item touched, denied items included."""
    for balance in balances:
        if balance.rule is not None or balance.alert is not None:
            _look(books, balance, now)


def _look(books: Books, balance: Balance, now: datetime) -> None:
    available = balance.available
    if balance.rule is not None:
        rule = balance.rule
        atoms = rule.due(available, now)
        if atoms > 0:
            rule.start(atoms, now)
            books.recharges.append(
                RechargeStart(balance, atoms, now, rule.generation, rule.month, rule.month_bought)
            )
    alert = balance.alert
    if alert is not None:
        if alert.armed and available <= alert.threshold:
            alert.armed = False
            books.alerts.append((balance, available))
        elif not alert.armed and available > alert.threshold:
            alert.armed = True
            books.rearmed.append(balance)
