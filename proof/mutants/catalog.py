"""The seeded bugs, each with the check that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "services/wallet/ledger/domain"


@dataclass(frozen=True)
class Patch:
    """Words of a file, which stand there once, and what the mutant has instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Rewrite:
    """Words of a function in the database, and what the mutant has instead."""

    function: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One bug: in code, in functions, in the schema, or in several at once."""

    name: str
    check: str
    patches: tuple[Patch, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    statements: tuple[str, ...] = ()  # {database} is the database's name


def _core(name: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, check, (Patch(f"{DOMAIN}/{file}", old, new),))


EXPIRES = "        if grant.expire_time <= now:\n            roll_over(books, balance, grant, now)"
UNKNOWN = '            raise OutcomeUnknown("the connection was lost during COMMIT") from error'
GUARD = "current_setting('synchronous_commit') = 'off'"

MUTANTS = (
    _core(
        "burn order ignores priority",
        "core",
        "books.py",
        "            self.priority,\n            self.breadth,",
        "            self.breadth,",
    ),
    _core(
        "burn order puts cost before expiry",
        "core",
        "books.py",
        "            self.expire_time,\n            self.cost_basis,",
        "            self.cost_basis,\n            self.expire_time,",
    ),
    _core(
        "grants never expire",
        "model",
        "ripening.py",
        EXPIRES,
        EXPIRES.replace("<= now", "is None"),
    ),
    _core(
        "a grant lives one instant too long",
        "model",
        "ripening.py",
        EXPIRES,
        EXPIRES.replace("<=", "<"),
    ),
    Mutant(
        "amounts are read as floats",
        "core",
        (
            Patch(
                "libs/kernel/money.py",
                '    atoms = int(whole + fraction.ljust(scale, "0"))\n    if atoms > ATOMS_MAX:',
                '    atoms = int(float(f"{whole}.{fraction or 0}") * 10**scale)\n'
                "    if atoms > ATOMS_MAX:",
            ),
        ),
    ),
    Mutant(
        "a value finer than the scale is rounded",
        "core",
        (
            Patch(
                "libs/kernel/money.py",
                "    if len(fraction) > scale:\n",
                "    fraction = fraction[:scale]\n    if len(fraction) > scale:\n",
            ),
        ),
    ),
    _core(
        "a hold is released twice",
        "live",
        "holds.py",
        "    pins, hold.pins = hold.pins, []",
        "    pins = hold.pins",
    ),
    _core(
        "the overdraft has no floor",
        "core",
        "books.py",
        "        return max(0, self.floor - self.overdrawn)",
        "        return 10**9",
    ),
    _core(
        "a twin inside a batch is done again",
        "core",
        "batch.py",
        "    books.answers[item.tenant_id, item.request_id] = (item.fingerprint, outcome)\n",
        "",
    ),
    _core(
        "the fingerprint of a repeated key is not compared",
        "model",
        "batch.py",
        "    if fingerprint != item.fingerprint:",
        "    if fingerprint is None:",
    ),
    _core(
        "what a key was answered is not looked up",
        "model",
        "batch.py",
        "    known = books.answers.get((item.tenant_id, item.request_id))\n",
        "    known: tuple[bytes, str | Outcome] | None = None\n",
    ),
    _core(
        "denials are not kept",
        "model",
        "batch.py",
        "        outcome = Refused.by(refusal)\n    _keep(books, item, outcome)",
        "        return Refused.by(refusal)\n    _keep(books, item, outcome)",
    ),
    _core(
        "time goes back in a wallet",
        "core",
        "ripening.py",
        "            instant = wallet.change_time\n",
        "            pass\n",
    ),
    _core(
        "a tombstone keeps no hold away",
        "model",
        "holds.py",
        "    if known is not None:\n        if not known.customer_id:",
        "    if known is not None and known.customer_id:\n        if not known.customer_id:",
    ),
    _core(
        "a capture above what is held is not refused",
        "model",
        "captures.py",
        "    if excess > 0 and policy is OverCapture.REJECT:",
        "    if excess > 10**9 and policy is OverCapture.REJECT:",
    ),
    _core(
        "numbers have gaps",
        "model",
        "books.py",
        "        wallet.sequence = number = wallet.sequence + 1",
        "        wallet.sequence = number = wallet.sequence + 2",
    ),
    _core(
        "holds never expire",
        "model",
        "holds.py",
        "    if instant < hold.expire_time:",
        "    if instant is not None:",
    ),
    _core(
        "a voided hold is captured",
        "model",
        "holds.py",
        "    if hold.state is not HoldState.OPEN:\n        raise HoldEnded",
        "    if hold.state is HoldState.CAPTURED:\n        raise HoldEnded",
    ),
    _core(
        "debt is never settled",
        "model",
        "ripening.py",
        "    if debt <= 0:\n        return",
        "    if debt <= 10**9:\n        return",
    ),
    _core(
        "a frozen wallet pays",
        "model",
        "spending.py",
        "        if wallet.state is WalletState.ACTIVE\n",
        "        if wallet.state is not WalletState.CLOSED\n",
    ),
    _core(
        "restrictions restrict nothing",
        "model",
        "values.py",
        "        (not meters or purpose[0] in meters)",
        "        (purpose[0] in meters or purpose is not None)",
    ),
    _core(
        "a refused group is not undone",
        "model",
        "savepoint.py",
        "    def restore(self) -> None:\n",
        "    def restore(self) -> None:\n        return\n",
    ),
    _core(
        "what an expired grant gave to a hold comes back",
        "expiry",
        "holds.py",
        "            if released is not None and released.expire_time <= now:",
        "            if released is not None and released.expire_time is None:",
    ),
    _core(
        "an answer forgets its shortfall",
        "core",
        "outcomes.py",
        "{outcome.atoms}|{outcome.shortfall}",
        "{outcome.atoms}|0",
    ),
    _core(
        "a late answer is kept as a timely one",
        "core",
        "outcomes.py",
        "{'L' if outcome.late else ''}",
        "",
    ),
    _core(
        "the wallet's priority is ignored",
        "live",
        "reading.py",
        "    return wallet.priority, wallet.wallet_id",
        "    return -wallet.priority, wallet.wallet_id",
    ),
    Mutant(
        "a commit that was lost is acknowledged",
        "lost commit",
        (
            Patch(
                "libs/chassis/database.py",
                UNKNOWN,
                "            return",
            ),
        ),
    ),
    Mutant(
        "commits are not durable",
        "power cut",
        (
            Patch(
                "libs/chassis/database.py",
                'current_setting(\'synchronous_commit\')") == "off"',
                'current_setting(\'synchronous_commit\')") == "never"',
            ),
        ),
        (
            Rewrite("open_batch", GUARD, "false"),
            Rewrite("record_batch", GUARD, "false"),
            Rewrite("weigh_plain", GUARD, "false"),
        ),
        ("ALTER ROLE wallet_app IN DATABASE {database} SET synchronous_commit = off",),
    ),
    Mutant(
        "wallets are not locked",
        "races",
        rewrites=(
            Rewrite("open_batch", "            FOR UPDATE\n", ""),
            Rewrite("weigh_plain", "                        FOR UPDATE\n", ""),
        ),
    ),
    Mutant(
        "the clock is read before the lock",
        "clock",
        rewrites=(
            Rewrite("open_batch", "clock := clock_timestamp();", "clock := now();"),
            Rewrite("weigh_plain", "clock := clock_timestamp();", "clock := now();"),
        ),
    ),
    Mutant(
        "a repeat waits for nothing",
        "repeat waits",
        rewrites=(
            Rewrite("record_batch", "PERFORM pg_logical_emit_message(true, 'wallet', '');", ""),
        ),
    ),
    Mutant(
        "keys that were answered are not looked up in the store",
        "live",
        rewrites=(
            Rewrite(
                "open_batch",
                "WHERE u.tenant_id = i.first_id::uuid AND u.request_id = i.second_id",
                "WHERE u.tenant_id = i.first_id::uuid AND u.request_id IS NULL",
            ),
        ),
    ),
    Mutant(
        "the short way leaves gaps in the numbers",
        "races",
        rewrites=(
            Rewrite(
                "spend_plain",
                "p_sequences[i.purse] + row_number()",
                "p_sequences[i.purse] + 1 + row_number()",
            ),
        ),
    ),
    Mutant(
        "the short way forgets to debit the grant",
        "races",
        rewrites=(
            Rewrite(
                "spend_plain",
                "SET remaining = g.remaining - e.debits",
                "SET remaining = g.remaining",
            ),
        ),
    ),
    Mutant(
        "the short way takes a capture for a hold whose time is over",
        "clock",
        rewrites=(
            Rewrite(
                "capture_plain",
                "AND least(h.expire_time, g.expire_time) > i.last_time",
                "AND h.expire_time IS NOT NULL",
            ),
        ),
    ),
    Mutant(
        "a balance may go below zero",
        "schema",
        statements=("ALTER TABLE wallet.balances DROP CONSTRAINT available_is_never_negative",),
    ),
    Mutant(
        "the journal may be changed",
        "schema",
        statements=("DROP TRIGGER journal_is_append_only ON wallet.transfers",),
    ),
    Mutant(
        "the verifier finds everything in order",
        "verifier",
        (
            Patch(
                "services/wallet/journal/store.py",
                " WHERE coalesce(f.stored, 0) <> coalesce(f.derived, 0) OR",
                " WHERE",
            ),
        ),
    ),
)
