"""What Chargebee lists: events, with the ids that notifications have too."""

from __future__ import annotations

from gateway.domain.outcome import Finding, Outcome
from gateway.providers.chargebee.answers import listed, read_event, read_refusal
from gateway.providers.chargebee.requests import PAGE, get, is_good
from gateway.providers.commands import Changes, Login, Since
from gateway.providers.parsing import content_of, text, unclear
from gateway.providers.plan import Asked, ask


def list_changes(command: Since, login: Login) -> Asked[Changes]:
    """Events since a time, oldest first."""
    query = {
        "occurred_at[after]": str(int(command.time.timestamp()) - 1),
        "sort_by[asc]": "occurred_at",
        "limit": str(PAGE),
    }
    if command.page_token:
        query["offset"] = command.page_token
    reply = yield from ask(get(login, "/events", query))
    events = listed(reply, "event") if is_good(reply) else None
    if events is None:
        return read_refusal(reply) if not is_good(reply) else unclear(reply)
    items = [read_event(each) for each in events]
    if None in items:
        return Outcome(Finding.SILENCE, detail="an event that is not as documented")
    known = tuple(each for each in items if each is not None)
    return Changes(known, text(content_of(reply), "next_offset"))
