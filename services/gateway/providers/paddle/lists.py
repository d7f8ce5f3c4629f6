"""What Paddle lists: events, with the ids that notifications have too."""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.commands import Changes, Login, Since
from gateway.providers.paddle.answers import read_change, read_refusal
from gateway.providers.paddle.requests import get, is_good
from gateway.providers.parsing import content_of, fields, identifier, moment, rows
from gateway.providers.plan import Asked, ask

PAGE = 200


def list_changes(command: Since, login: Login) -> Asked[Changes]:
    """Events since a time, newest page first, since the list has no filter by time."""
    query = {"order_by": "id[DESC]", "per_page": str(PAGE)}
    if command.page_token:
        query["after"] = command.page_token
    reply = yield from ask(get("/events", query))
    events = rows(content_of(reply), "data") if is_good(reply) else None
    if events is None:
        return read_refusal(reply)
    fresh = []
    for event in events:
        time = moment(event, "occurred_at")
        item = read_change(event)
        if time is None or item is None:
            return Outcome(Finding.SILENCE, detail="an event that is not as documented")
        if time >= command.time:
            fresh.append(item)
    pagination = fields(fields(content_of(reply).get("meta")).get("pagination"))
    more = pagination.get("has_more") is True and len(fresh) == len(events) and bool(events)
    token = identifier(events[-1], "event_id") if more else ""
    return Changes(tuple(reversed(fresh)), token)
