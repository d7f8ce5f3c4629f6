"""The gate between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from chassis.call import Call
from chassis.requests import fingerprint_of
from chassis.wire import parse_asset_code, parse_request_id, parse_text, render_time
from kernel.errors import InvalidValue
from kernel.money import format_atoms, parse_decimal
from metering.authorizations.operations import Answer
from metering.charging.domain import OverUse, Refused
from metering.events.wire import ID_MAX, check_properties, render_refusal
from metering.gate.domain.authorization import Authorization, AuthorizationState, Standing
from metering.gate.domain.case import Ask, Maximum
from metering.gate.domain.estimate import Estimate, PricedEstimate
from metering.gate.domain.remedies import Remedy, remedies_of
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
    estimate, maximum = _parse_need(request)
    if request.subject:
        parse_text(request.subject, "subject", maximum=ID_MAX)
    return Ask(
        request_id=parse_request_id(request.request_id),
        fingerprint=fingerprint_of(request),
        customer_id=parse_text(request.customer_id, "customer_id", maximum=ID_MAX),
        feature=parse_text(request.feature, "feature", minimum=0, maximum=64),
        estimate=estimate,
        maximum=maximum,
        time_to_live=find_time_to_live(request) or TIME_TO_LIVE_DEFAULT,
        over_use=OVER_USES[request.over_use],
        call=call,
        node=parse_text(request.node, "node", minimum=0, maximum=ID_MAX),
        partial=_partial(request, estimate),
        quantity_property=request.quantity_property,
    )


def parse_increase(request: gate_pb2.IncreaseAuthorizationRequest, call: Call) -> Ask:
    """What an authorization is asked for beyond what it has; the rest of it is the
    authorization's. Raises InvalidValue naming the field."""
    estimate, maximum = _parse_need(request)
    return Ask(
        request_id=parse_request_id(request.request_id),
        fingerprint=fingerprint_of(request),
        customer_id="",
        feature="",
        estimate=estimate,
        maximum=maximum,
        time_to_live=TIME_TO_LIVE_DEFAULT,
        over_use=OverUse.USE_AVAILABLE,
        call=call,
        partial=_partial(request, estimate),
        quantity_property=request.quantity_property,
    )


def _partial(
    request: gate_pb2.AuthorizeUsageRequest | gate_pb2.IncreaseAuthorizationRequest,
    estimate: Estimate | None,
) -> bool:
    if request.partial_allowed and estimate is None:
        raise InvalidValue("partial_allowed", "needs an estimate")
    if request.quantity_property and not request.partial_allowed:
        raise InvalidValue("quantity_property", "needs partial_allowed")
    return request.partial_allowed


def _parse_need(
    request: gate_pb2.AuthorizeUsageRequest | gate_pb2.IncreaseAuthorizationRequest,
) -> tuple[Estimate | None, Maximum | None]:
    need = request.WhichOneof("need")
    if need == "estimate":
        return parse_estimate(request.estimate), None
    if need == "maximum":
        asset = parse_asset_code(request.maximum.asset, "maximum.asset")
        if parse_decimal(request.maximum.value, "maximum.value") == 0:
            raise InvalidValue("maximum.value", "must be greater than zero")
        return None, Maximum(asset, request.maximum.value)
    raise InvalidValue("need", "one of estimate and maximum is required")


def parse_estimate(message: gate_pb2.UsageEstimate) -> Estimate:
    """Usage that is expected."""
    properties = dict(message.properties)
    check_properties(properties, "estimate.properties")
    return Estimate(parse_text(message.name, "estimate.name", maximum=ID_MAX), properties)


def find_time_to_live(
    request: gate_pb2.AuthorizeUsageRequest
    | gate_pb2.ExtendAuthorizationRequest
    | gate_pb2.IncreaseAuthorizationRequest,
) -> timedelta | None:
    """How long it lasts, where that is said. Raises InvalidValue."""
    if not request.HasField("time_to_live"):
        return None
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
    return gate_pb2.AuthorizeUsageResponse(denied=render_reasons(reasons))


def render_reasons(reasons: Sequence[Refused]) -> gate_pb2.Denial:
    """Why not, and what would make it pass."""
    return gate_pb2.Denial(
        reasons=[render_refusal(reason) for reason in reasons],
        remedies=[_render_remedy(remedy) for remedy in remedies_of(reasons)],
    )


def _render_remedy(remedy: Remedy) -> gate_pb2.Remedy:
    message = gate_pb2.Remedy(
        reason=remedy.reason,
        kind=gate_pb2.RemedyKind.ValueType(remedy.kind.value),
        quantity=remedy.quantity,
        subject=remedy.subject,
    )
    if remedy.asset:
        message.amount.asset, message.amount.value = remedy.asset, remedy.value
    if remedy.wait_until is not None:
        message.wait_until_time.FromDatetime(remedy.wait_until)
    return message


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
        granted=gate_pb2.UsageEstimate(
            name=authorization.granted.name, properties=authorization.granted.properties
        )
        if authorization.granted is not None
        else None,
        final_grant=authorization.is_final,
        limits=[_render_standing(standing) for standing in authorization.standings],
        node=authorization.node,
    )


def _render_standing(standing: Standing) -> gate_pb2.LimitStanding:
    return gate_pb2.LimitStanding(
        feature=standing.feature,
        meter=standing.meter,
        limit=standing.limit,
        used=standing.used,
        reserved=standing.reserved,
        remaining=standing.remaining,
        overage=standing.overage,
        reset_time=render_time(standing.reset_time) if standing.reset_time else None,
        hard=standing.hard,
    )


def render_increase(answer: Answer) -> gate_pb2.IncreaseAuthorizationResponse:
    """Yes or no to an increase."""
    if answer.authorization is None:
        return gate_pb2.IncreaseAuthorizationResponse(denied=render_reasons(answer.reasons))
    return gate_pb2.IncreaseAuthorizationResponse(
        allowed=render_authorization(answer.authorization)
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
