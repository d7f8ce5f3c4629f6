"""The verifier: whatever stored row is changed, lost or made up, it is found and named."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from proof.claims import Layer, Options
from proof.stage import Stage
from tests.support.services import Services
from tests.wallet.client import WalletClient, debit_item, key
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import wallet_service_pb2 as wallets

CUSTOMERS = 12
SHARDS = 5


@dataclass(frozen=True)
class Corruption:
    """A change that no role of ours can make, and the figure that must be named."""

    table: str
    statement: str
    figure: str


CORRUPTIONS = (
    Corruption("balances", "SET credited = credited + 1", "balance.credited"),
    Corruption("balances", "SET debited = debited - 1 WHERE debited > 0", "balance.debited"),
    Corruption("balances", "SET held = held + 1", "balance.held"),
    Corruption("balances", "SET overdrawn = overdrawn + 1", "balance.overdrawn"),
    Corruption("balances", "SET sequence = sequence + 1", "balance.sequence"),
    Corruption("balances", "DELETE", "balance."),
    Corruption("grants", "SET amount = amount + 1", "grant.amount"),
    Corruption("grants", "SET remaining = remaining - 1 WHERE remaining > held", "grant.remaining"),
    Corruption("grants", "SET held = held - 1 WHERE held > 0", "grant.held"),
    Corruption("grants", "DELETE", "grant."),
    Corruption("holds", "SET pin_atoms = ARRAY[1]::numeric[] WHERE state = 1", "grant.pinned"),
    Corruption("holds", "SET amount = amount + 1 WHERE state = 1", "hold.amount"),
    Corruption("holds", "SET captured = 0 WHERE state = 1 AND captured > 0", "hold.captured"),
    Corruption("holds", "DELETE WHERE state = 1", "grant.pinned"),
    Corruption("transfers", "SET atoms = atoms + 1 WHERE kind = 2", "balance.debited"),
    Corruption("transfers", "SET asset = 'token' WHERE kind = 2", "balance.debited"),
    Corruption("transfers", "DELETE WHERE sequence = 2", "wallet.sequence"),
    Corruption("operations", "DELETE WHERE kind = 2", "operation.row"),
    Corruption(
        "operations",
        "SET outcome = replace(outcome, ',3,', ',2,') WHERE kind = 2",
        "operation.posted",
    ),
    Corruption(
        "operations",
        'SET outcome = \'R["X","refused","",{}]\' WHERE kind = 2',
        "operation.refused",
    ),
    Corruption("assets", "SET scale = scale + 1", "asset.scale"),
    Corruption("assets", "DELETE WHERE code = 'USD'", "asset.row"),
    Corruption("wallets", "DELETE", "wallet.row"),
    Corruption("recharge_rules", "SET generation = generation + 1", "recharge_rule.generation"),
    Corruption("recharges", "DELETE", "recharge_rule.generation"),
)


async def run(layer: Layer, options: Options, stage: Stage) -> None:
    """Some history, then one corruption after another, each taken back."""
    database = await stage.database("wallet")
    async with AsyncExitStack() as stack:
        services = Services(stack, stage.redis.url)
        await services.run("wallet", database, work=False, drain_seconds=0)
        client = WalletClient(await services.channel("wallet"))
        await _make_history(client)
        superuser = await asyncpg.connect(database.superuser_dsn)
        stack.push_async_callback(superuser.close)
        with layer.claiming("where nothing was changed, nothing is found"):
            assert await client.verify() == []
        wrong = []
        for corruption in CORRUPTIONS:
            found = await _corrupt(client, superuser, corruption)
            if not any(figure.startswith(corruption.figure) for figure in found):
                wrong.append(
                    f"{corruption.table} {corruption.statement}: found {sorted(set(found))[:4]}"
                )
        layer.figure("corruptions", len(CORRUPTIONS))
        layer.figure("tables", len({corruption.table for corruption in CORRUPTIONS}))
        layer.claim("a corruption of any stored table is found and named", wrong)
        with layer.claiming("shards are all wallets, each in one, and may be resumed"):
            await _check_shards(client)
        with layer.claiming("where every corruption was taken back, nothing is found"):
            assert await client.verify() == []


async def _make_history(client: WalletClient) -> None:
    await client.asset()
    await client.asset("token", 0)
    for number in range(CUSTOMERS):
        customer = f"v{number}"
        wallet_id = await client.wallet(customer)
        await client.grant(wallet_id, "100")
        await client.post([debit_item("0.03", customer) for _ in range(5)])
        hold_id = (await client.hold("20", customer)).hold.hold_id
        await client.capture(hold_id, "5")
        ended = (await client.hold("7", customer)).hold.hold_id
        await client.capture(ended, "3", final=True)
    rule = wallets.RechargeRule(
        wallet_id=wallet_id,
        threshold=Amount(asset="USD", value="50"),
        mode=wallets.RECHARGE_MODE_FIXED,
        value="10",
        unit_price="1",
        price_asset="USD",
        monthly_cap="100",
        enabled=True,
    )
    await client.call(
        client.recharges.SetRechargeRule,
        wallets.SetRechargeRuleRequest(request_id=key(), rule=rule),
    )
    await client.debit("40", f"v{CUSTOMERS - 1}")


async def _corrupt(
    client: WalletClient, superuser: asyncpg.Connection[asyncpg.Record], corruption: Corruption
) -> list[str]:
    """Corrupt, look, and put everything back; the figures that the verifier named."""
    table = f"wallet.{corruption.table}"
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute(f"CREATE TEMP TABLE saved AS SELECT * FROM {table}")
    verb, _, rest = corruption.statement.partition(" ")
    if verb == "DELETE":
        await superuser.execute(f"DELETE FROM {table} {rest}")
    else:
        await superuser.execute(f"UPDATE {table} {corruption.statement}")
    try:
        return [disagreement.figure for disagreement in await client.verify()]
    finally:
        await superuser.execute(f"DELETE FROM {table}")
        await superuser.execute(f"INSERT INTO {table} SELECT * FROM saved")
        await superuser.execute("DROP TABLE saved")


async def _check_shards(client: WalletClient) -> None:
    checked = moved = pages = 0
    for shard in range(SHARDS):
        token = ""
        while True:
            answer = await client.call(
                client.ledger.VerifyLedger,
                ledger.VerifyLedgerRequest(
                    page_size=1, page_token=token, shard=shard, shards=SHARDS
                ),
            )
            assert list(answer.disagreements) == []
            checked += answer.wallets_checked
            moved += answer.transfers_checked
            pages += 1
            token = answer.next_page_token
            if not token:
                break
    whole = await client.call(
        client.ledger.VerifyLedger, ledger.VerifyLedgerRequest(page_size=1000)
    )
    assert (checked, moved) == (whole.wallets_checked, whole.transfers_checked)
    assert pages > SHARDS
