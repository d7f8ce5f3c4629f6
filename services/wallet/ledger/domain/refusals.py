"""Why the ledger says no."""

from __future__ import annotations

from datetime import datetime

from kernel.errors import Kind, Refusal
from kernel.money import format_atoms


class InsufficientFunds(Refusal):
    """Available funds do not cover it."""

    reason = "INSUFFICIENT_FUNDS"

    def __init__(self, available: int, needed: int, asset: str, scale: int) -> None:
        have, need = format_atoms(available, scale), format_atoms(needed, scale)
        super().__init__(
            f"{need} {asset} needed, {have} available", available=have, needed=need, asset=asset
        )


class NoWallet(Refusal):
    """No wallet of the customer may pay for this."""

    reason = "NO_WALLET"

    def __init__(self, customer_id: str) -> None:
        super().__init__(
            f"no wallet of customer {customer_id!r} may pay for this", customer_id=customer_id
        )


class WalletClosed(Refusal):
    """Neither pays nor receives, for ever."""

    reason = "WALLET_CLOSED"

    def __init__(self, wallet_id: str) -> None:
        super().__init__(f"wallet {wallet_id} is closed", wallet_id=wallet_id)


class WalletFrozen(Refusal):
    """Does not pay until it is thawed."""

    reason = "WALLET_FROZEN"

    def __init__(self, wallet_id: str) -> None:
        super().__init__(f"wallet {wallet_id} is frozen", wallet_id=wallet_id)


class HoldEnded(Refusal):
    """A hold ends once."""

    reason = "HOLD_ENDED"

    def __init__(self, hold_id: str, state: str) -> None:
        super().__init__(f"hold {hold_id} is {state}", hold_id=hold_id, state=state)


class OverCaptured(Refusal):
    """More than is held, and the caller said to refuse that."""

    reason = "OVER_CAPTURE"

    def __init__(self, held: int, needed: int, scale: int) -> None:
        have, need = format_atoms(held, scale), format_atoms(needed, scale)
        super().__init__(f"{need} to capture, {have} held", held=have, needed=need)


class HoldVoidedBefore(Refusal):
    """The void overtook the hold."""

    reason = "HOLD_VOIDED_BEFORE"

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"hold {hold_id} was voided before it arrived", hold_id=hold_id)


class AlreadyExists(Refusal):
    """Something of that name is there already."""

    reason = "ALREADY_EXISTS"
    kind = Kind.CONFLICT

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"{what} {name!r} exists already", what=what, name=name)


class GroupRefused(Refusal):
    """Another member of the group was refused."""

    reason = "GROUP_REFUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"not posted, since {request_id!r} of its group was refused", request_id=request_id
        )


class GrantEnded(Refusal):
    """A grant that was voided or has expired is not changed."""

    reason = "GRANT_ENDED"

    def __init__(self, grant_id: str, state: str) -> None:
        super().__init__(f"grant {grant_id} is {state}", grant_id=grant_id, state=state)


class GrantHeld(Refusal):
    """Open holds pin a part of the grant: capture or void them first."""

    reason = "GRANT_HELD"

    def __init__(self, grant_id: str, held: int, asset: str, scale: int) -> None:
        value = format_atoms(held, scale)
        super().__init__(
            f"{value} {asset} of grant {grant_id} is held",
            grant_id=grant_id,
            held=value,
            asset=asset,
        )


class GrantNotCovered(Refusal):
    """Other grants do not suffice for what this one paid for."""

    reason = "GRANT_NOT_COVERED"

    def __init__(self, grant_id: str, available: int, needed: int, asset: str, scale: int) -> None:
        have, need = format_atoms(available, scale), format_atoms(needed, scale)
        super().__init__(
            f"grant {grant_id} paid for {need} {asset}; other grants may pay {have}",
            grant_id=grant_id,
            available=have,
            needed=need,
            asset=asset,
        )


class PeriodClosed(Refusal):
    """It would change what a closed accounting period says."""

    reason = "PERIOD_CLOSED"

    def __init__(self, through: datetime) -> None:
        super().__init__(
            f"the books are closed until {through.isoformat()}", closed_through=through.isoformat()
        )


class NotReversible(Refusal):
    """Only debits and captures are reversed."""

    reason = "TRANSFER_NOT_REVERSIBLE"

    def __init__(self, transfer_id: str, kind: str) -> None:
        super().__init__(
            f"transfer {transfer_id} is of kind {kind}", transfer_id=transfer_id, kind=kind
        )


class ReversedAlready(Refusal):
    """More would be given back than was taken."""

    reason = "OVER_REVERSAL"

    def __init__(self, transfer_id: str, left: int, needed: int, scale: int) -> None:
        have, need = format_atoms(left, scale), format_atoms(needed, scale)
        super().__init__(
            f"{need} to reverse, {have} of transfer {transfer_id} is left",
            transfer_id=transfer_id,
            reversible=have,
            needed=need,
        )


class NoExchangeRate(Refusal):
    """No rate between the two assets is in force."""

    reason = "NO_EXCHANGE_RATE"

    def __init__(self, from_asset: str, to_asset: str) -> None:
        super().__init__(
            f"no rate from {from_asset} to {to_asset} is in force",
            from_asset=from_asset,
            to_asset=to_asset,
        )
