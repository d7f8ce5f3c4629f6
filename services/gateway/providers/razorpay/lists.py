"""What Razorpay lists: payments made, and lines that explain settlements."""

from __future__ import annotations

from datetime import timedelta

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import (
    Changes,
    Item,
    Login,
    PayoutLines,
    Since,
)
from gateway.providers.parsing import (
    answer_time,
    content_of,
    fields,
    identifier,
    moment,
    rows,
    text,
)
from gateway.providers.plan import (
    Asked,
    ask,
    read_failure,
)
from gateway.providers.razorpay.answers import (
    ATTEMPT_NOTE,
    read_payment,
    read_payout_line,
)
from gateway.providers.razorpay.requests import (
    PAGE,
    get,
    is_good,
)


def list_changes(command: Since, login: Login) -> Asked[Changes]:
    """Payments made since a time, newest first. The page token is how many were seen."""
    skip = int(command.page_token) if command.page_token.isdecimal() else 0
    query = {
        "from": str(int(command.time.timestamp())),
        "count": str(PAGE),
        "skip": str(skip),
    }
    reply = yield from ask(get("/payments", query))
    payments = rows(content_of(reply), "items") if is_good(reply) else None
    if payments is None:
        return read_failure(reply)
    items = []
    for payment in payments:
        payment_id, status = identifier(payment), text(payment, "status")
        reference = text(fields(payment.get("notes")), ATTEMPT_NOTE)
        items.append(
            Item(
                f"payment:{payment_id}:{status}",
                f"payment.{status}",
                reference=reference,
                provider_payment_id=payment_id,
                outcome=read_payment(payment, reference, known_id=payment_id),
                time=moment(payment, "created_at"),
            )
        )
    full = len(payments) >= PAGE
    return Changes(tuple(items), str(skip + PAGE) if full else "")


def list_payout_lines(command: Since, login: Login) -> Asked[PayoutLines]:
    """Settled lines, day by day. The page token is the day and how many of it were seen."""
    day, _, seen = command.page_token.partition(":")
    date = command.time.date() if not day else command.time.date().fromisoformat(day)
    skip = int(seen) if seen.isdecimal() else 0
    query = {
        "year": f"{date.year:04}",
        "month": f"{date.month:02}",
        "day": f"{date.day:02}",
        "count": str(PAGE),
        "skip": str(skip),
    }
    reply = yield from ask(get("/settlements/recon/combined", query))
    content = rows(content_of(reply), "items") if is_good(reply) else None
    if content is None:
        return read_failure(reply)
    lines = [read_payout_line(each) for each in content]
    if None in lines:
        return Outcome(Finding.SILENCE, detail="a line that is not as documented")
    token = ""
    present = answer_time(reply)
    if len(content) >= PAGE:
        token = f"{date.isoformat()}:{skip + PAGE}"
    elif present is not None and date < present.date():
        token = f"{(date + timedelta(days=1)).isoformat()}:0"
    wanted = command.provider_payout_id
    kept = (each for each in lines if each and (not wanted or each.provider_payout_id == wanted))
    return PayoutLines(tuple(kept), token)
