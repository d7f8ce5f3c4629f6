"""The contract over the bank: each call reads a request, asks the ledger, and tells the truth."""

from __future__ import annotations

import json
from datetime import timedelta

import grpc
from google.protobuf.duration_pb2 import Duration

from corner_bank.ledger import Conflict, Debit, Happening, Ledger, SentBack, Unknown
from corner_bank.letters import SIGNATURE, why_not_signed, write
from tollgate.gateway.provider.v1 import provider_pb2 as pb
from tollgate.gateway.provider.v1 import provider_service_pb2 as rpc_pb
from tollgate.gateway.provider.v1 import provider_service_pb2_grpc as rpc
from tollgate.type.v1.amount_pb2 import Amount

CURRENCY, DIGITS = "EUR", 2
PAGE = 100
FINDINGS = {
    "taken": pb.FINDING_SUCCEEDED,
    "reserved": pb.FINDING_AUTHORIZED,
    "waiting": pb.FINDING_PENDING,
    "asking": pb.FINDING_NEEDS_ACTION,
    "refused": pb.FINDING_DECLINED,
    "canceled": pb.FINDING_CANCELED,
}
DECLINES = {
    "insufficient_funds": pb.DECLINE_CLASS_SOFT,
    "core_unavailable": pb.DECLINE_CLASS_TECHNICAL,
    "mandate_expired": pb.DECLINE_CLASS_ACTION_REQUIRED,
    "account_closed": pb.DECLINE_CLASS_HARD,
    "fraud_suspected": pb.DECLINE_CLASS_FRAUD,
}


class NotTaken(Exception):
    """A request that this bank cannot carry out, with the word for it."""


class CornerBank(rpc.ProviderServiceServicer):
    """What is not written here answers UNIMPLEMENTED, and is not declared."""

    def __init__(self, ledger: Ledger, letter_secret: bytes) -> None:
        self._ledger = ledger
        self._secret = letter_secret

    async def GetCapabilities(self, request, context):  # type: ignore[no-untyped-def]
        return rpc_pb.GetCapabilitiesResponse(
            name="corner-bank",
            capabilities=pb.Capabilities(
                off_session=True,
                manual_capture=True,
                partial_capture=True,
                cancel=True,
                refund=True,
                partial_refund=True,
                async_settlement=True,
                read_by_id=True,
                idempotency=pb.IDEMPOTENCY_KEY,
                key_window=_duration(timedelta(days=365)),
                lookup=pb.LOOKUP_CONSISTENT,
                refund_idempotency=pb.IDEMPOTENCY_KEY,
                refund_read_by_id=True,
                refund_lookup=pb.LOOKUP_CONSISTENT,
                notification_auth=pb.NOTIFICATION_AUTH_SIGNED_WITH_TIME,
                list_changes=True,
                list_methods=True,
                detach_method=True,
            ),
        )

    # --- money ----------------------------------------------------------------------------------

    async def Charge(self, request, context):  # type: ignore[no-untyped-def]
        try:
            debit = self._ledger.debit(
                request.idempotency_key,
                request.reference,
                request.provider_token,
                _cents(request.amount),
                CURRENCY,
                request.login.notification_url,
                reserve=request.capture_later,
            )
        except Unknown:
            return rpc_pb.ChargeResponse(outcome=_refused(request, "no_such_mandate"))
        except NotTaken as error:
            return rpc_pb.ChargeResponse(outcome=_refused(request, str(error)))
        except Conflict as error:
            # Something is there under this key: that is no refusal, it has to be looked at.
            return rpc_pb.ChargeResponse(outcome=_silent(str(error)))
        return rpc_pb.ChargeResponse(outcome=_of_debit(debit))

    async def Capture(self, request, context):  # type: ignore[no-untyped-def]
        try:
            debit = self._ledger.take(
                request.idempotency_key,
                request.provider_payment_id,
                _cents(request.amount),
                request.login.notification_url,
            )
        except Unknown:
            return rpc_pb.CaptureResponse(outcome=_refused(request, "no_such_debit"))
        except (Conflict, NotTaken) as error:
            return rpc_pb.CaptureResponse(outcome=_silent(str(error)))
        return rpc_pb.CaptureResponse(outcome=_of_debit(debit))

    async def Cancel(self, request, context):  # type: ignore[no-untyped-def]
        url = request.login.notification_url
        try:
            debit = self._ledger.release(request.idempotency_key, request.provider_payment_id, url)
        except Unknown:
            return rpc_pb.CancelResponse(outcome=_refused(request, "no_such_debit"))
        except Conflict as error:
            return rpc_pb.CancelResponse(outcome=_silent(str(error)))
        return rpc_pb.CancelResponse(outcome=_of_debit(debit))

    async def Refund(self, request, context):  # type: ignore[no-untyped-def]
        try:
            refund = self._ledger.send_back(
                request.idempotency_key,
                request.reference,
                request.provider_payment_id,
                _cents(request.amount),
                request.login.notification_url,
            )
        except Unknown:
            return rpc_pb.RefundResponse(outcome=_refused(request, "no_such_debit"))
        except NotTaken as error:
            return rpc_pb.RefundResponse(outcome=_refused(request, str(error)))
        except Conflict as error:
            return rpc_pb.RefundResponse(outcome=_silent(str(error)))
        return rpc_pb.RefundResponse(outcome=_of_refund(refund))

    # --- looks ----------------------------------------------------------------------------------

    async def GetPayment(self, request, context):  # type: ignore[no-untyped-def]
        try:
            debit = self._ledger.find_debit(request.provider_payment_id)
        except Unknown:
            return rpc_pb.GetPaymentResponse(outcome=_silent("no debit of this id"))
        return rpc_pb.GetPaymentResponse(outcome=_of_debit(debit))

    async def FindPayment(self, request, context):  # type: ignore[no-untyped-def]
        debits = self._ledger.debits_of(request.reference)
        taken = [each for each in debits if each.taken] or debits
        outcome = _of_debit(taken[0]) if taken else pb.Outcome(finding=pb.FINDING_ABSENT)
        return rpc_pb.FindPaymentResponse(outcome=outcome)

    async def GetRefund(self, request, context):  # type: ignore[no-untyped-def]
        try:
            refund = self._ledger.find_refund(request.provider_refund_id)
        except Unknown:
            return rpc_pb.GetRefundResponse(outcome=_silent("no refund of this id"))
        return rpc_pb.GetRefundResponse(outcome=_of_refund(refund))

    async def FindRefund(self, request, context):  # type: ignore[no-untyped-def]
        refunds = self._ledger.refunds_of(request.reference)
        outcome = _of_refund(refunds[0]) if refunds else pb.Outcome(finding=pb.FINDING_ABSENT)
        return rpc_pb.FindRefundResponse(outcome=outcome)

    # --- methods --------------------------------------------------------------------------------

    async def ListPaymentMethods(self, request, context):  # type: ignore[no-untyped-def]
        methods = [
            pb.StoredMethod(
                provider_token=token,
                kind="mandate",
                usable=True,
                customer_id=request.customer_id,
                last_four=end,
            )
            for token, end in self._ledger.mandates_of(request.customer_id)
        ]
        return rpc_pb.ListPaymentMethodsResponse(payment_methods=methods)

    async def DetachPaymentMethod(self, request, context):  # type: ignore[no-untyped-def]
        self._ledger.end_mandate(request.provider_token)
        return rpc_pb.DetachPaymentMethodResponse(outcome=pb.Outcome(finding=pb.FINDING_CANCELED))

    # --- what happened --------------------------------------------------------------------------

    async def ReadNotification(self, request, context):  # type: ignore[no-untyped-def]
        if not request.verified:
            signature = request.headers.get(SIGNATURE, "")
            why = why_not_signed(signature, request.body, self._secret, request.now.seconds)
            if why:
                return rpc_pb.ReadNotificationResponse(authentic=False, why=why)
        try:
            told = json.loads(request.body)
            item = self._item(
                told["id"], told["kind"], (told.get("debit") or told.get("refund"))["id"]
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return rpc_pb.ReadNotificationResponse(authentic=False, why="no letter of the bank's")
        return rpc_pb.ReadNotificationResponse(authentic=True, items=[item])

    async def ListChanges(self, request, context):  # type: ignore[no-untyped-def]
        after = int(request.page_token) if request.page_token.isdigit() else 0
        page = self._ledger.happened_after(after, PAGE)
        since = request.since.seconds
        items = [self._item_of(each) for each in page if each.time >= since]
        token = str(page[-1].number) if len(page) == PAGE else ""
        return rpc_pb.ListChangesResponse(items=items, next_page_token=token)

    def _item_of(self, happening: Happening) -> pb.Item:
        told = write(self._ledger, happening)
        return self._item(told["id"], told["kind"], happening.object_id)

    def _item(self, identifier: str, kind: str, object_id: str) -> pb.Item:
        """What happened, with the thing as it stands now. A letter is only a reason to look."""
        item = pb.Item(id=identifier, kind=kind)
        try:
            if kind.startswith("refund."):
                refund = self._ledger.find_refund(object_id)
                item.about, item.object_id = pb.ABOUT_REFUND, refund.id
                item.provider_payment_id = refund.debit_id
                item.reference = refund.reference
                item.outcome.CopyFrom(_of_refund(refund))
            else:
                debit = self._ledger.find_debit(object_id)
                item.about, item.provider_payment_id = pb.ABOUT_PAYMENT, debit.id
                item.reference = debit.reference
                item.outcome.CopyFrom(_of_debit(debit))
        except Unknown:
            item.about = pb.ABOUT_OTHER
        return item


def _of_debit(debit: Debit) -> pb.Outcome:
    cents = debit.taken if debit.state == "taken" else debit.amount
    return pb.Outcome(
        finding=FINDINGS[debit.state],
        reference=debit.reference,
        provider_payment_id=debit.id,
        amount=_amount(cents, debit.currency),
        decline_code=debit.why,
        decline_class=DECLINES.get(debit.why, pb.DECLINE_CLASS_UNSPECIFIED),
        action_url=f"https://bank.example/confirm/{debit.id}" if debit.state == "asking" else "",
    )


def _of_refund(refund: SentBack) -> pb.Outcome:
    return pb.Outcome(
        finding=pb.FINDING_SUCCEEDED,
        reference=refund.reference,
        provider_payment_id=refund.debit_id,
        provider_refund_id=refund.id,
        amount=_amount(refund.amount, refund.currency),
    )


def _refused(request, code: str) -> pb.Outcome:  # type: ignore[no-untyped-def]
    """It never took effect, and will not under this key later."""
    return pb.Outcome(
        finding=pb.FINDING_REJECTED, reference=request.reference, decline_code=code, detail=code
    )


def _silent(why: str) -> pb.Outcome:
    return pb.Outcome(finding=pb.FINDING_SILENCE, detail=why)


def _cents(amount: Amount) -> int:
    """Whole cents of the bank's one currency; raises NotTaken. Money is never a float."""
    whole, _, fraction = amount.value.partition(".")
    if amount.asset != CURRENCY:
        raise NotTaken("currency_not_taken")
    if not (whole + fraction).isdigit() or len(fraction) > DIGITS:
        raise NotTaken("amount_not_taken")
    return int(whole + fraction.ljust(DIGITS, "0"))


def _amount(cents: int, currency: str) -> Amount:
    text = f"{cents // 100}.{cents % 100:02d}".rstrip("0").rstrip(".")
    return Amount(asset=currency, value=text)


def _duration(length: timedelta) -> Duration:
    told = Duration()
    told.FromTimedelta(length)
    return told


def add_to(server: grpc.aio.Server, bank: CornerBank) -> None:
    """Serve the bank by the contract."""
    rpc.add_ProviderServiceServicer_to_server(bank, server)
