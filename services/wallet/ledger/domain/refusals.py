"""Why the ledger says no."""

from __future__ import annotations

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
