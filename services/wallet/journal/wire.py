"""The journal on the wire."""

from __future__ import annotations

from chassis.wire import render_time
from kernel.money import format_atoms
from tollgate.type.v1 import amount_pb2
from tollgate.wallet.v1 import ledger_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as pb
from wallet.journal.domain import (
    AccountTotal,
    Disagreement,
    PostedDebit,
    Transfer,
    account_name,
)


def render_transfer(transfer: Transfer) -> ledger_pb2.Transfer:
    scale = transfer.scale
    return ledger_pb2.Transfer(
        transfer_id=f"{transfer.wallet_id}/{transfer.sequence}",
        kind=ledger_pb2.TransferKind.ValueType(int(transfer.kind)),
        wallet_id=transfer.wallet_id,
        sequence=transfer.sequence,
        debit_account=account_name(transfer.debit, transfer.wallet_id),
        credit_account=account_name(transfer.credit, transfer.wallet_id),
        amount=amount_pb2.Amount(asset=transfer.asset, value=format_atoms(transfer.atoms, scale)),
        request_id=transfer.request_id,
        reference=transfer.reference,
        grants=[
            ledger_pb2.GrantShare(grant_id=grant_id, value=format_atoms(atoms, scale))
            for grant_id, atoms in transfer.grants
        ],
        create_time=render_time(transfer.create_time),
    )


def render_posted(debit: PostedDebit) -> pb.PostedDebit:
    return pb.PostedDebit(
        request_id=debit.request_id,
        customer_id=debit.customer_id,
        amount=amount_pb2.Amount(asset=debit.asset, value=format_atoms(debit.atoms, debit.scale)),
        reference=debit.reference,
    )


def render_total(total: AccountTotal) -> pb.AccountTotal:
    return pb.AccountTotal(
        account=total.account,
        asset=total.asset,
        debits=format_atoms(total.debits, total.scale),
        credits=format_atoms(total.credits, total.scale),
    )


def render_disagreement(found: Disagreement) -> pb.Disagreement:
    scale = found.scale or 0
    return pb.Disagreement(
        wallet_id=found.wallet_id,
        figure=found.figure,
        stored=format_atoms(found.stored, scale),
        derived=format_atoms(found.derived, scale),
    )
