"""How the conformance kit meets the corner bank: its tokens, and a look into its books."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from corner_bank.letters import SIGNATURE, sign

from gateway.providers.commands import Delivery
from kernel.money import Amount, Asset
from tollgate_conformance import Charged, Refunded, Rig, Want

EURO = Asset("EUR", 2)


class CornerRig(Rig):
    """The bank runs already; CORNER_BANK_BOOKS names its file."""

    tokens = {
        Want.OK: "mandate_ok",
        Want.SOFT: "mandate_empty",
        Want.TECHNICAL: "mandate_outage",
        Want.ACTION_REQUIRED: "mandate_expired",
        Want.HARD: "mandate_closed",
        Want.FRAUD: "mandate_stolen",
        Want.NEEDS_ACTION: "mandate_confirm",
        Want.ASYNC: "mandate_slow",
    }
    currencies = {2: "EUR"}

    async def charges(self, reference: str) -> Sequence[Charged]:
        rows = self._rows("SELECT taken FROM debit WHERE reference = ?", reference)
        return [Charged(Amount(EURO, cents)) for cents in rows]

    async def refunds(self, reference: str) -> Sequence[Refunded]:
        rows = self._rows("SELECT amount FROM refund WHERE reference = ?", reference)
        return [Refunded(Amount(EURO, cents)) for cents in rows]

    async def signed_with(self, delivery: Delivery, secret: bytes) -> Delivery:
        signature = sign(delivery.body, secret, delivery.now.timestamp())
        return replace(delivery, headers={SIGNATURE: signature})

    def _rows(self, statement: str, reference: str) -> list[int]:
        books = sqlite3.connect(f"file:{os.environ['CORNER_BANK_BOOKS']}?mode=ro", uri=True)
        try:
            return [int(Decimal(row[0])) for row in books.execute(statement, (reference,))]
        finally:
            books.close()
