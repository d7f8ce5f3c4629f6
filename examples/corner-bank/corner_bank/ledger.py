"""The bank itself: mandates, debits, refunds and letters, in one SQLite file.

It knows nothing of Tollgate. Amounts are whole cents; each change is one transaction, and with it
the answer that its key is given ever after.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS mandate (
    token TEXT PRIMARY KEY, customer TEXT NOT NULL, account_end TEXT NOT NULL,
    balance INTEGER NOT NULL, verdict TEXT NOT NULL DEFAULT '', usable INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS debit (
    id TEXT PRIMARY KEY, reference TEXT NOT NULL, token TEXT NOT NULL, currency TEXT NOT NULL,
    amount INTEGER NOT NULL, taken INTEGER NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,
    due REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS debit_by_reference ON debit (reference);
CREATE TABLE IF NOT EXISTS refund (
    id TEXT PRIMARY KEY, reference TEXT NOT NULL, debit_id TEXT NOT NULL,
    currency TEXT NOT NULL, amount INTEGER NOT NULL, state TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS refund_by_reference ON refund (reference);
CREATE TABLE IF NOT EXISTS answered (key TEXT PRIMARY KEY, asked TEXT NOT NULL, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS happened (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, object_id TEXT NOT NULL,
    time REAL NOT NULL, told INTEGER NOT NULL DEFAULT 0, url TEXT NOT NULL
)
"""

# Mandates for trying things out, and what the bank says to a debit of each.
DEMO_MANDATES = {
    "mandate_ok": "",
    "mandate_slow": "later",
    "mandate_confirm": "ask the payer",
    "mandate_empty": "insufficient_funds",
    "mandate_outage": "core_unavailable",
    "mandate_expired": "mandate_expired",
    "mandate_closed": "account_closed",
    "mandate_stolen": "fraud_suspected",
}
SETTLED_AFTER_SECONDS = 0.3


class Conflict(Exception):
    """A key came again with another request, or a request that the state does not allow."""


class Unknown(Exception):
    """The bank has nothing of that id."""


@dataclass(frozen=True, slots=True)
class Debit:
    id: str
    reference: str
    token: str
    currency: str
    amount: int
    taken: int
    state: str  # taken, reserved, waiting, asking, refused, canceled
    why: str
    due: float


@dataclass(frozen=True, slots=True)
class SentBack:
    id: str
    reference: str
    debit_id: str
    currency: str
    amount: int
    state: str  # sent, refused


@dataclass(frozen=True, slots=True)
class Happening:
    number: int
    kind: str
    object_id: str
    time: float
    url: str


class Ledger:
    """The bank's books. One process writes them; a kill loses nothing that was answered."""

    def __init__(self, path: Path) -> None:
        # Durable before anything is answered; the server is one thread.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def sign_mandate(self, token: str, customer: str, verdict: str = "") -> None:
        """Enter a mandate that a payer signed; one that is there already stays as it is."""
        with self._change() as db:
            db.execute(
                "INSERT OR IGNORE INTO mandate (token, customer, account_end, balance, verdict)"
                " VALUES (?, ?, '0042', 100000000000, ?)",
                (token, customer, verdict),
            )

    def mandates_of(self, customer: str) -> list[tuple[str, str]]:
        """(token, last digits of the account) of a customer's usable mandates."""
        rows = self._db.execute(
            "SELECT token, account_end FROM mandate WHERE customer = ? AND usable ORDER BY token",
            (customer,),
        )
        return [(token, end) for token, end in rows]

    def end_mandate(self, token: str) -> None:
        """Forget a mandate; nothing where it was forgotten before."""
        with self._change() as db:
            db.execute("UPDATE mandate SET usable = 0 WHERE token = ?", (token,))

    # --- debits -------------------------------------------------------------------------------

    def debit(
        self,
        key: str,
        reference: str,
        token: str,
        amount: int,
        currency: str,
        url: str,
        *,
        reserve: bool = False,
    ) -> Debit:
        """Debit a mandate: once for each key. Raises Unknown, Conflict."""
        asked = json.dumps([reference, token, amount, currency, reserve])
        with self._change() as db:
            first = self._answered(key, asked)
            if first:
                return self.find_debit(first)
            row = db.execute(
                "SELECT balance, verdict FROM mandate WHERE token = ? AND usable", (token,)
            ).fetchone()
            if row is None:
                raise Unknown(token)
            balance, verdict = row
            state, due = "reserved" if reserve else "taken", 0.0
            if verdict == "later":
                state, due = "waiting", time.time() + SETTLED_AFTER_SECONDS
            elif verdict == "ask the payer":
                state = "asking"
            elif verdict or balance < amount:
                state, verdict = "refused", verdict or "insufficient_funds"
            taken = amount if state == "taken" else 0
            if taken:
                self._move(token, -taken)
            debit = Debit(
                f"debit_{uuid.uuid4().hex}", reference, token, currency, amount, taken, state,
                verdict if state == "refused" else "", due,
            )  # fmt: skip
            db.execute(
                "INSERT INTO debit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (debit.id, reference, token, currency, amount, taken, state, debit.why, due),
            )
            self._note(key, asked, debit.id, f"debit.{state}", url)
        return debit

    def take(self, key: str, debit_id: str, amount: int, url: str) -> Debit:
        """Take what is reserved, or a part of it. Raises Unknown, Conflict."""
        asked = json.dumps(["take", debit_id, amount])
        with self._change():
            if not self._answered(key, asked):
                debit = self.find_debit(debit_id)
                if debit.state != "reserved" or not 0 < amount <= debit.amount:
                    raise Conflict(f"{debit.state}, {debit.amount} reserved")
                self._move(debit.token, -amount)
                self._become(debit_id, "taken", amount)
                self._note(key, asked, debit_id, "debit.taken", url)
        return self.find_debit(debit_id)

    def release(self, key: str, debit_id: str, url: str) -> Debit:
        """Set free what is not taken yet. Raises Unknown, Conflict."""
        asked = json.dumps(["release", debit_id])
        with self._change():
            debit = self.find_debit(debit_id)
            if not self._answered(key, asked) and debit.state != "canceled":
                if debit.state not in ("reserved", "waiting", "asking"):
                    raise Conflict(f"it is {debit.state}")
                self._become(debit_id, "canceled", 0)
                self._note(key, asked, debit_id, "debit.canceled", url)
        return self.find_debit(debit_id)

    def settle_due(self, url: str) -> None:
        """Take what was to be taken later, once that is now."""
        with self._change() as db:
            due = db.execute(
                "SELECT id, token, amount FROM debit WHERE state = 'waiting' AND due <= ?",
                (time.time(),),
            ).fetchall()
            for debit_id, token, amount in due:
                self._move(token, -amount)
                self._become(debit_id, "taken", amount)
                self._happen("debit.taken", debit_id, url)

    def find_debit(self, debit_id: str) -> Debit:
        """Raises Unknown."""
        row = self._db.execute("SELECT * FROM debit WHERE id = ?", (debit_id,)).fetchone()
        if row is None:
            raise Unknown(debit_id)
        return Debit(*row)

    def debits_of(self, reference: str) -> list[Debit]:
        rows = self._db.execute("SELECT * FROM debit WHERE reference = ?", (reference,))
        return [Debit(*row) for row in rows]

    # --- refunds ------------------------------------------------------------------------------

    def send_back(self, key: str, reference: str, debit_id: str, amount: int, url: str) -> SentBack:
        """Send money back: once for each key, never more than is left. Raises Unknown, Conflict."""
        asked = json.dumps(["back", reference, debit_id, amount])
        with self._change() as db:
            first = self._answered(key, asked)
            if first:
                return self.find_refund(first)
            debit = self.find_debit(debit_id)
            gone = db.execute(
                "SELECT coalesce(sum(amount), 0) FROM refund WHERE debit_id = ?", (debit_id,)
            ).fetchone()[0]
            if debit.state != "taken" or not 0 < amount <= debit.taken - gone:
                raise Conflict(
                    f"{debit.taken - gone} cents are left of a debit that is {debit.state}"
                )
            refund_id = f"back_{uuid.uuid4().hex}"
            db.execute(
                "INSERT INTO refund VALUES (?, ?, ?, ?, ?, 'sent')",
                (refund_id, reference, debit_id, debit.currency, amount),
            )
            self._move(debit.token, amount)
            self._note(key, asked, refund_id, "refund.sent", url)
        return self.find_refund(refund_id)

    def find_refund(self, refund_id: str) -> SentBack:
        """Raises Unknown."""
        row = self._db.execute("SELECT * FROM refund WHERE id = ?", (refund_id,)).fetchone()
        if row is None:
            raise Unknown(refund_id)
        return SentBack(*row)

    def refunds_of(self, reference: str) -> list[SentBack]:
        rows = self._db.execute("SELECT * FROM refund WHERE reference = ?", (reference,))
        return [SentBack(*row) for row in rows]

    # --- what happened ------------------------------------------------------------------------

    def happened_after(self, number: int, count_max: int) -> list[Happening]:
        rows = self._db.execute(
            "SELECT number, kind, object_id, time, url FROM happened WHERE number > ?"
            " ORDER BY number LIMIT ?",
            (number, count_max),
        )
        return [Happening(*row) for row in rows]

    def untold(self) -> list[Happening]:
        """What nobody was told yet that wants to know."""
        rows = self._db.execute(
            "SELECT number, kind, object_id, time, url FROM happened"
            " WHERE told = 0 AND url <> '' ORDER BY number LIMIT 50"
        )
        return [Happening(*row) for row in rows]

    def told(self, number: int) -> None:
        with self._change() as db:
            db.execute("UPDATE happened SET told = 1 WHERE number = ?", (number,))

    # --- inside a change ----------------------------------------------------------------------

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _answered(self, key: str, asked: str) -> str:
        """The id that a key was answered with; raises Conflict where it stood for another."""
        row = self._db.execute("SELECT asked, id FROM answered WHERE key = ?", (key,)).fetchone()
        if row is None:
            return ""
        if row[0] != asked:
            raise Conflict("the key stands for another request")
        return str(row[1])

    def _note(self, key: str, asked: str, object_id: str, kind: str, url: str) -> None:
        self._db.execute("INSERT INTO answered VALUES (?, ?, ?)", (key, asked, object_id))
        self._happen(kind, object_id, url)

    def _happen(self, kind: str, object_id: str, url: str) -> None:
        self._db.execute(
            "INSERT INTO happened (kind, object_id, time, url) VALUES (?, ?, ?, ?)",
            (kind, object_id, time.time(), url),
        )

    def _move(self, token: str, amount: int) -> None:
        self._db.execute(
            "UPDATE mandate SET balance = balance + ? WHERE token = ?", (amount, token)
        )

    def _become(self, debit_id: str, state: str, taken: int) -> None:
        self._db.execute(
            "UPDATE debit SET state = ?, taken = ? WHERE id = ?", (state, taken, debit_id)
        )
