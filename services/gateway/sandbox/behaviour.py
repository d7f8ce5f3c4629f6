"""What the sandbox does, chosen by the caller: outcomes by method token, faults by script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DELAY = re.compile(r"(\d{1,6})(ms|s|m|h)")
ABANDONED_AFTER = "1s"
RETURNED_AFTER = "1s"

# Tokens that are declined, with the code they are declined with.
DECLINES = {
    "pm_insufficient_funds": "insufficient_funds",
    "pm_do_not_honor": "do_not_honor",
    "pm_expired": "expired_card",
    "pm_stolen": "stolen_card",
    "pm_not_supported": "card_not_supported",
    "pm_processing_error": "processing_error",
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a charge with some method goes: its state now, and the state it takes later, if any."""

    state: str
    decline_code: str = ""
    later: str = ""
    delay_seconds: float = 0.0


class NoSuchMethod(Exception):
    """No method of that token exists at the sandbox."""


def behaviour_of(token: str) -> Behaviour:
    """Read a magic token. What follows an "@" only makes tokens differ: "pm_ok@customer-7"."""
    magic, _, _ = token.partition("@")
    name, _, argument = magic.partition(":")
    if name in DECLINES and not argument:
        return Behaviour("declined", DECLINES[name])
    match name, argument:
        case "pm_ok", "":
            return Behaviour("succeeded")
        case "pm_ok_async", delay if delay:
            return Behaviour("processing", later="succeeded", delay_seconds=_seconds(delay))
        case "pm_action", "":
            return Behaviour("requires_action")
        case "pm_action_abandoned", delay:
            wait = _seconds(delay or ABANDONED_AFTER)
            return Behaviour("requires_action", later="canceled", delay_seconds=wait)
        case "pm_late_failure", delay if delay:
            return Behaviour("succeeded", later="reversed", delay_seconds=_seconds(delay))
        case "pm_late_success", delay if delay:
            wait = _seconds(delay)
            return Behaviour("declined", "do_not_honor", later="succeeded", delay_seconds=wait)
        case (("pm_refund_returned" | "pm_refund_async" | "pm_refund_declined"), delay):
            _seconds(delay or RETURNED_AFTER)
            return Behaviour("succeeded")
    raise NoSuchMethod(token)


def refund_behaviour_of(token: str) -> Behaviour:
    """How a refund against a payment with that method goes."""
    name, _, delay = token.partition("@")[0].partition(":")
    match name:
        case "pm_refund_returned":
            wait = _seconds(delay or RETURNED_AFTER)
            return Behaviour("succeeded", later="reversed", delay_seconds=wait)
        case "pm_refund_async":
            wait = _seconds(delay or RETURNED_AFTER)
            return Behaviour("processing", later="succeeded", delay_seconds=wait)
        case "pm_refund_declined":
            return Behaviour("declined", "refund_not_possible")
    return Behaviour("succeeded")


def _seconds(text: str) -> float:
    found = _DELAY.fullmatch(text)
    if found is None:
        raise NoSuchMethod(f"{text!r} is not a delay such as 200ms, 5s or 1m")
    return int(found[1]) * _UNITS[found[2]]


# What may be done to one request, in the order in which it is done. Each entry is a fault's name
# and whether it takes an argument.
FAULTS = {
    "http_429": True,  # :n times, unread
    "http_409_in_flight": False,
    "hang_before": False,  # no effect, no answer
    "reset_before": False,  # no effect, connection cut
    "http_500_before": False,
    "slow": True,  # :milliseconds, before the effect
    "wrong_amount": False,  # takes one minor unit more than it was asked for
    "forget_key": False,  # a repeat is told that its reference was used
    "notify_first": False,  # the notification arrives before the reply
    "notify_twice": False,
    "notify_late": True,  # :delay
    "notify_reordered": False,  # after the payment's next notification
    "notify_never": False,
    "notify_unsigned": False,
    "notify_bad_signature": False,
    "notify_stale": False,  # tells an earlier state than the true one
    "http_500_after": False,  # effect, and an error for an answer
    "hang_after": False,
    "reset_before_reply": False,
    "truncated_body": False,
}


# The requests that faults can be scripted for.
REQUESTS = frozenset(
    {
        "charge",
        "read",
        "find",
        "capture",
        "cancel",
        "refund",
        "read_refund",
        "find_refund",
        "session",
        "read_session",
    }
)


class NoSuchFault(Exception):
    """A fault that the sandbox cannot commit."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one request: name → argument."""

    wanted: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.wanted

    def seconds(self, name: str) -> float:
        """The argument of a fault that waits; 0 where it is not wanted."""
        argument = self.wanted.get(name, "")
        if not argument:
            return 0.0
        return int(argument) / 1000 if argument.isdigit() else _seconds(argument)


def parse_faults(text: str) -> Faults:
    """Read "hang_after+notify_never"; raises NoSuchFault."""
    wanted = {}
    for part in filter(None, text.split("+")):
        name, colon, argument = part.partition(":")
        if name not in FAULTS or FAULTS[name] is not bool(colon and argument):
            raise NoSuchFault(part)
        digits = argument.isascii() and argument.isdigit()
        if argument and not digits and _DELAY.fullmatch(argument) is None:
            raise NoSuchFault(part)
        wanted[name] = argument
    return Faults(wanted)


@dataclass(slots=True)
class Rule:
    """Faults for the requests that match, one for each request, in order."""

    on: str  # one of REQUESTS
    reference: str  # empty: any
    method: str  # empty: any
    faults: list[str]


class Script:
    """Faults to come. Each is committed once."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, on: str, reference: str, method: str, faults: Sequence[str]) -> None:
        """Append a rule; raises NoSuchFault."""
        if on not in REQUESTS:
            raise NoSuchFault(f"on {on}")
        for text in faults:
            parse_faults(text)
        self._rules.append(Rule(on, reference, method, list(faults)))

    def clear(self) -> None:
        self._rules.clear()

    def take(self, on: str, reference: str = "", method: str = "") -> Faults:
        """The next fault for a request. "http_429:3" is taken three times."""
        for rule in self._rules:
            fits = rule.on == on and rule.reference in ("", reference)
            if not fits or rule.method not in ("", method) or not rule.faults:
                continue
            taken = parse_faults(rule.faults.pop(0))
            times = int(taken.wanted.get("http_429", "0"))
            if times > 1:
                rule.faults.insert(0, f"http_429:{times - 1}")
            return taken
        return Faults()
