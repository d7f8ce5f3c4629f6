"""Assets and wallets, beside the tables that every service has."""

from __future__ import annotations

from alembic import op

from chassis.migrations import chassis_tables, grant, protect, reveal
from wallet.migrations import statements

revision = "0001"
down_revision = None


def upgrade() -> None:
    chassis_tables(op, "wallet", "wallet_app", across_tenants=True)
    for statement in statements("0001_assets_and_wallets.sql"):
        op.execute(statement)
    for table in ("assets", "wallets"):
        protect(op, "wallet", table)
        reveal(op, "wallet", table, "wallet_ledger")
        grant(op, "wallet_app", f"wallet.{table}", "SELECT, INSERT")
        grant(op, "wallet_ledger", f"wallet.{table}", "SELECT")
    grant(op, "wallet_app", "wallet.wallets", "UPDATE (state)")
    # To lock a wallet's row, a role must be allowed to change something in it.
    grant(op, "wallet_ledger", "wallet.wallets", "UPDATE (state)")
