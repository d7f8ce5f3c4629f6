"""The wallet as its callers see it, with the words that tests are written in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID, uuid4

import grpc

from tests.support.services import credential
from tollgate.type.v1.amount_pb2 import Amount
from tollgate.wallet.v1 import adjustment_service_pb2 as adjusting
from tollgate.wallet.v1 import adjustment_service_pb2_grpc as adjusting_grpc
from tollgate.wallet.v1 import exchange_service_pb2_grpc as exchange_grpc
from tollgate.wallet.v1 import ledger_pb2, wallet_pb2
from tollgate.wallet.v1 import ledger_service_pb2 as ledger
from tollgate.wallet.v1 import ledger_service_pb2_grpc as ledger_grpc
from tollgate.wallet.v1 import wallet_service_pb2 as wallets
from tollgate.wallet.v1 import wallet_service_pb2_grpc as wallets_grpc

_numbers = itertools.count(1)


def key() -> str:
    """A request id that nobody used before."""
    return f"key-{next(_numbers)}-{uuid4().hex[:8]}"


class WalletClient:
    """Calls of one tenant. Every method answers what the service answered."""

    def __init__(
        self, channel: grpc.aio.Channel, tenant_id: UUID | None = None, *, metadata: Any = None
    ) -> None:
        self.channel = channel
        self.tenant_id = tenant_id or uuid4()
        self._metadata = {
            service: metadata or credential(self.tenant_id, service=service)
            for service in ("operator", "invoicing")
        }
        self.assets = wallets_grpc.AssetServiceStub(channel)
        self.wallets = wallets_grpc.WalletServiceStub(channel)
        self.recharges = wallets_grpc.RechargeServiceStub(channel)
        self.alerts = wallets_grpc.AlertServiceStub(channel)
        self.grants = ledger_grpc.GrantServiceStub(channel)
        self.debits = ledger_grpc.DebitServiceStub(channel)
        self.holds = ledger_grpc.HoldServiceStub(channel)
        self.adjustments = adjusting_grpc.AdjustmentServiceStub(channel)
        self.exchange = exchange_grpc.ExchangeServiceStub(channel)
        self.ledger = ledger_grpc.LedgerServiceStub(channel)

    async def call(self, method: Any, request: Any, *, by: str = "operator") -> Any:
        return await method(request, metadata=self._metadata[by], timeout=30)

    async def asset(self, code: str = "USD", scale: int = 2) -> None:
        kind = wallet_pb2.ASSET_KIND_CURRENCY if code == "USD" else wallet_pb2.ASSET_KIND_UNIT
        await self.call(
            self.assets.CreateAsset,
            wallets.CreateAssetRequest(request_id=key(), code=code, scale=scale, kind=kind),
        )

    async def wallet(self, customer: str = "c1", **fields: Any) -> str:
        request = wallets.CreateWalletRequest(request_id=key(), customer_id=customer, **fields)
        answer = await self.call(self.wallets.CreateWallet, request)
        return str(answer.wallet.wallet_id)

    async def overdraft_wallet(self, limit: str, customer: str = "c1", **fields: Any) -> str:
        policy = wallet_pb2.ShortfallPolicy(
            mode=wallet_pb2.SHORTFALL_MODE_OVERDRAFT,
            overdraft_limits=[Amount(asset="USD", value=limit)],
        )
        return await self.wallet(customer, shortfall_policy=policy, **fields)

    async def set_state(self, wallet_id: str, state: wallet_pb2.WalletState.ValueType) -> Any:
        return await self.call(
            self.wallets.SetWalletState,
            wallets.SetWalletStateRequest(request_id=key(), wallet_id=wallet_id, state=state),
        )

    async def create_grants(
        self, items: Sequence[ledger.GrantItem]
    ) -> Sequence[ledger.GrantOutcome]:
        answer = await self.call(self.grants.CreateGrants, ledger.CreateGrantsRequest(items=items))
        return list(answer.outcomes)

    async def grant(
        self, wallet_id: str, value: str, asset: str = "USD", **fields: Any
    ) -> ledger_pb2.Grant:
        (outcome,) = await self.create_grants([grant_item(wallet_id, value, asset, **fields)])
        assert outcome.HasField("grant"), outcome.refusal
        return outcome.grant

    async def post(self, items: Sequence[ledger.DebitItem]) -> list[ledger.DebitOutcome]:
        answer = await self.call(self.debits.PostDebits, ledger.PostDebitsRequest(items=items))
        return list(answer.outcomes)

    async def debit(self, value: str, customer: str = "c1", **fields: Any) -> ledger.DebitOutcome:
        (outcome,) = await self.post([debit_item(value, customer, **fields)])
        return outcome

    async def place(self, items: Sequence[ledger.HoldItem]) -> list[ledger.HoldOutcome]:
        answer = await self.call(self.holds.PlaceHolds, ledger.PlaceHoldsRequest(items=items))
        return list(answer.outcomes)

    async def hold(self, value: str, customer: str = "c1", **fields: Any) -> ledger.HoldOutcome:
        (outcome,) = await self.place([hold_item(value, customer, **fields)])
        return outcome

    async def capture(self, hold_id: str, value: str, **fields: Any) -> ledger.DebitOutcome:
        item = ledger.CaptureItem(
            **{"request_id": key(), "hold_id": hold_id, "value": value, **fields}
        )
        answer = await self.call(self.holds.CaptureHolds, ledger.CaptureHoldsRequest(items=[item]))
        (outcome,) = answer.outcomes
        assert isinstance(outcome, ledger.DebitOutcome)
        return outcome

    async def increase(self, hold_id: str, value: str, **fields: Any) -> ledger.HoldOutcome:
        item = ledger.IncreaseItem(
            **{"request_id": key(), "hold_id": hold_id, "value": value, **fields}
        )
        request = ledger.IncreaseHoldsRequest(items=[item])
        answer = await self.call(self.holds.IncreaseHolds, request)
        (outcome,) = answer.outcomes
        assert isinstance(outcome, ledger.HoldOutcome)
        return outcome

    async def void(self, hold_id: str, request_id: str = "") -> ledger.HoldOutcome:
        item = ledger.VoidItem(request_id=request_id or key(), hold_id=hold_id)
        answer = await self.call(self.holds.VoidHolds, ledger.VoidHoldsRequest(items=[item]))
        (outcome,) = answer.outcomes
        assert isinstance(outcome, ledger.HoldOutcome)
        return outcome

    async def void_grant(
        self, grant_id: str, wallet_id: str, *, replay: bool = False, **fields: Any
    ) -> ledger.VoidGrantResponse:
        mode = ledger.VOID_MODE_REPLAY if replay else ledger.VOID_MODE_UNUSED
        chosen = {"request_id": key(), "mode": mode, "reason": "charged back"} | fields
        request = ledger.VoidGrantRequest(wallet_id=wallet_id, grant_id=grant_id, **chosen)
        answer = await self.call(self.grants.VoidGrant, request)
        assert isinstance(answer, ledger.VoidGrantResponse)
        return answer

    async def reverse(
        self, transfer_id: str, value: str = "", **fields: Any
    ) -> adjusting.ReverseTransferResponse:
        chosen = {"request_id": key(), "reason": "outage"} | fields
        request = adjusting.ReverseTransferRequest(transfer_id=transfer_id, value=value, **chosen)
        answer = await self.call(self.adjustments.ReverseTransfer, request)
        assert isinstance(answer, adjusting.ReverseTransferResponse)
        return answer

    async def balances(self, *customers: str) -> list[wallet_pb2.Balance]:
        answer = await self.call(
            self.wallets.GetBalances,
            wallets.GetBalancesRequest(customer_ids=customers or ("c1",)),
        )
        return list(answer.balances)

    async def available(self, customer: str = "c1", asset: str = "USD") -> str:
        (balance,) = [b for b in await self.balances(customer) if b.asset == asset]
        return balance.available

    async def list_grants(self, wallet_id: str) -> list[ledger_pb2.Grant]:
        answer = await self.call(
            self.grants.ListGrants, ledger.ListGrantsRequest(wallet_id=wallet_id, page_size=1000)
        )
        return list(answer.grants)

    async def transfers(self, wallet_id: str) -> list[ledger_pb2.Transfer]:
        answer = await self.call(
            self.ledger.ListTransfers,
            ledger.ListTransfersRequest(wallet_id=wallet_id, page_size=1000),
        )
        return list(answer.transfers)

    async def verify(self) -> list[ledger.Disagreement]:
        """Everything that the verifier finds, over all pages."""
        found: list[ledger.Disagreement] = []
        token = ""
        while True:
            answer = await self.call(
                self.ledger.VerifyLedger, ledger.VerifyLedgerRequest(page_token=token)
            )
            found.extend(answer.disagreements)
            token = answer.next_page_token
            if not token:
                return found


def grant_item(wallet_id: str, value: str, asset: str = "USD", **fields: Any) -> ledger.GrantItem:
    chosen: dict[str, Any] = {"request_id": key(), "kind": ledger_pb2.GRANT_KIND_PAID}
    amount = Amount(asset=asset, value=value)
    return ledger.GrantItem(wallet_id=wallet_id, amount=amount, **(chosen | fields))


def debit_item(
    value: str, customer: str = "c1", asset: str = "USD", **fields: Any
) -> ledger.DebitItem:
    chosen: dict[str, Any] = {"request_id": key()}
    amount = Amount(asset=asset, value=value)
    return ledger.DebitItem(customer_id=customer, amount=amount, **(chosen | fields))


def hold_item(
    value: str, customer: str = "c1", asset: str = "USD", **fields: Any
) -> ledger.HoldItem:
    chosen: dict[str, Any] = {"request_id": key()}
    amount = Amount(asset=asset, value=value)
    return ledger.HoldItem(customer_id=customer, amount=amount, **(chosen | fields))


def reasons(outcomes: Iterable[Any]) -> list[str]:
    """Each outcome's reason, or "OK"."""
    return [o.refusal.reason if o.HasField("refusal") else "OK" for o in outcomes]
