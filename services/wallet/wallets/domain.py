"""What a wallet is, and how its state moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kernel.errors import Refusal
from kernel.money import Amount
from wallet.ledger.domain.refusals import WalletClosed
from wallet.ledger.domain.values import OverCapture, Restrictions, ShortfallMode, WalletState

WALLETS_OF_A_CUSTOMER_MAX = 100  # all of them are locked together by a debit
CODES_MAX = 100  # in one list of restrictions

# From state to state, by SetWalletState; CLOSED is for ever.
MOVES = {
    WalletState.ACTIVE: {WalletState.ACTIVE, WalletState.FROZEN, WalletState.CLOSED},
    WalletState.FROZEN: {WalletState.ACTIVE, WalletState.FROZEN, WalletState.CLOSED},
    WalletState.CLOSED: {WalletState.CLOSED},
}


class WalletNotEmpty(Refusal):
    """Value, debt or open holds are left in it."""

    reason = "WALLET_NOT_EMPTY"

    def __init__(self, wallet_id: str, asset: str) -> None:
        super().__init__(f"wallet {wallet_id} still has {asset}", wallet_id=wallet_id, asset=asset)


class TooManyWallets(Refusal):
    """A customer's wallets are locked together, so they are bounded."""

    reason = "TOO_MANY_WALLETS"

    def __init__(self, customer_id: str) -> None:
        super().__init__(
            f"customer {customer_id!r} has {WALLETS_OF_A_CUSTOMER_MAX} wallets already",
            customer_id=customer_id,
            limit=WALLETS_OF_A_CUSTOMER_MAX,
        )


@dataclass(frozen=True, slots=True)
class Wallet:
    """A purse. `overdraft_limits` are only given when it is made; balances keep them as floors."""

    wallet_id: str
    customer_id: str
    name: str
    priority: int
    restrictions: Restrictions | None
    shortfall_mode: ShortfallMode
    late_capture_allowed: bool
    state: WalletState
    create_time: datetime
    overdraft_limits: tuple[Amount, ...] = ()
    over_capture: OverCapture = OverCapture.REJECT
    state_cause: str = ""
    state_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class BalanceView:
    """A balance as of the last committed change, in atoms; `scale` says what one is."""

    wallet_id: str
    customer_id: str
    asset: str
    scale: int
    credited: int
    debited: int
    held: int
    dormant: int
    floor: int
    debt: int
    sequence: int

    @property
    def available(self) -> int:
        return self.credited - self.debited - self.held - self.dormant + self.floor


def check_move(wallet: Wallet, state: WalletState, balances: list[BalanceView]) -> None:
    """Raise WalletClosed, WalletNotEmpty where a wallet may not go to a state."""
    if state not in MOVES[wallet.state]:
        raise WalletClosed(wallet.wallet_id)
    if state is WalletState.CLOSED:
        for balance in balances:
            if balance.credited != balance.debited or balance.held or balance.debt:
                raise WalletNotEmpty(wallet.wallet_id, balance.asset)
