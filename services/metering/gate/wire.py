"""The gate between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from chassis.call import Call
from chassis.requests import fingerprint_of
from chassis.wire import parse_asset_code, parse_request_id, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms, parse_decimal
from metering.charging.domain import OverUse, Refused
from metering.events.wire import ID_MAX, check_properties, render_refusal
from metering.gate.domain.authorization import Authorization, AuthorizationState
from metering.gate.domain.estimate import Estimate, PricedEstimate
from metering.gate.operations import Ask, Maximum
from metering.usage.domain import text_of
from tollgate.metering.v1 import gate_pb2
from tollgate.type.v1 import amount_pb2

TIME_TO_LIVE_DEFAULT = timedelta(minutes=15)
TIME_TO_LIVE_MIN, TIME_TO_LIVE_MAX = timedelta(seconds=1), timedelta(days=7)

OVER_USES = {
    gate_pb2.OVER_USE_UNSPECIFIED: OverUse.USE_AVAILABLE,
    gate_pb2.OVER_USE_REJECT: OverUse.REJECT,
    gate_pb2.OVER_USE_CLAMP: OverUse.CLAMP,
    gate_pb2.OVER_USE_USE_AVAILABLE: OverUse.USE_AVAILABLE,
    gate_pb2.OVER_USE_FORCE: OverUse.FORCE,
}
STATES = {
    AuthorizationState.OPEN: gate_pb2.AUTHORIZATION_STATE_OPEN,
    AuthorizationState.CAPTURED: gate_pb2.AUTHORIZATION_STATE_CAPTURED,
    AuthorizationState.VOIDED: gate_pb2.AUTHORIZATION_STATE_VOIDED,
    AuthorizationState.EXPIRED: gate_pb2.AUTHORIZATION_STATE_EXPIRED,
}


def parse_ask(request: gate_pb2.AuthorizeUsageRequest, call: Call) -> Ask:
    """A request to the gate; raises InvalidValue naming the field."""
    if request.over_use not in OVER_USES:
        raise InvalidValue("over_use", f"{request.over_use} is not known")
    estimate: Estimate | None = None
    maximum: Maximum | None = None
    need = request.WhichOneof("need")
    if need == "estimate":
        estimate = parse_estimate(request.estimate)
    elif need == "maximum":
        asset = parse_asset_code(request.maximum.asset, "maximum.asset")
        if parse_decimal(request.maximum.value, "maximum.value") == 0:
            raise InvalidValue("maximum.value", "must be greater than zero")
        maximum = Maximum(asset, request.maximum.value)
    else:
        raise InvalidValue("need", "one of estimate and maximum is required")
    if request.subject:
        parse_text(request.subject, "subject", maximum=ID_MAX)
    return Ask(
        request_id=parse_request_id(request.request_id),
        fingerprint=fingerprint_of(request),
        customer_id=parse_text(request.customer_id, "customer_id", maximum=ID_MAX),
        feature=parse_text(request.feature, "feature", minimum=0, maximum=64),
        estimate=estimate,
        maximum=maximum,
        time_to_live=_time_to_live(request),
        over_use=OVER_USES[request.over_use],
        call=call,
    )


def parse_estimate(message: gate_pb2.UsageEstimate) -> Estimate:
    """Usage that is expected."""
    properties = dict(message.properties)
    check_properties(properties, "estimate.properties")
    return Estimate(parse_text(message.name, "estimate.name", maximum=ID_MAX), properties)


def _time_to_live(request: gate_pb2.AuthorizeUsageRequest) -> timedelta:
    if not request.HasField("time_to_live"):
        return TIME_TO_LIVE_DEFAULT
    try:
        given = request.time_to_live.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidValue("time_to_live", "is not a length of time") from None
    if not TIME_TO_LIVE_MIN <= given <= TIME_TO_LIVE_MAX:
        raise InvalidValue("time_to_live", "must be between 1 second and 7 days")
    return given


def render_answer(authorization: Authorization) -> gate_pb2.AuthorizeUsageResponse:
    """Yes or no."""
    if authorization.state is AuthorizationState.DENIED:
        return render_denial(authorization.reasons)
    return gate_pb2.AuthorizeUsageResponse(allowed=render_authorization(authorization))


def render_denial(reasons: Sequence[Refused]) -> gate_pb2.AuthorizeUsageResponse:
    """No, and why."""
    return gate_pb2.AuthorizeUsageResponse(
        denied=gate_pb2.Denial(reasons=[render_refusal(reason) for reason in reasons])
    )


def render_authorization(authorization: Authorization) -> gate_pb2.Authorization:
    """An authorization as it is answered."""
    return gate_pb2.Authorization(
        authorization_id=str(authorization.authorization_id),
        customer_id=authorization.customer_id,
        state=STATES[authorization.state],
        holds=[
            gate_pb2.AuthorizedHold(
                hold_id=hold.hold_id,
                amount=amount_pb2.Amount(
                    asset=hold.asset, value=format_atoms(hold.atoms, hold.scale)
                ),
                available=hold.available,
            )
            for hold in authorization.holds
        ],
        expire_time=render_time(authorization.expire_time),
    )


def render_estimate(priced: Sequence[PricedEstimate]) -> gate_pb2.EstimateUsageResponse:
    """What usage would cost."""
    return gate_pb2.EstimateUsageResponse(
        prices=[
            gate_pb2.UsagePrice(
                price_id=each.measure.entry.price_id,
                meter=each.measure.entry.meter,
                quantity=text_of(each.measure.value),
                amount=amount_pb2.Amount(
                    asset=each.asset, value=format_atoms(each.atoms, each.scale)
                ),
                wallet=each.measure.entry.from_wallet,
            )
            for each in priced
        ]
    )
