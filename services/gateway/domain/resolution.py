"""How an unclear outcome is asked about: what may be asked, when, and when absence is proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from gateway.domain.attempt import LIVE, State
from gateway.domain.outcome import Witness
from gateway.domain.provider_account import Capabilities, Idempotency, Lookup

REPLAYS_AT_ONCE = 2
ASK_AFTER = (
    timedelta(seconds=30),
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),  # and then every hour
)
# A key forgotten while the replay is on its way would charge again.
KEY_WINDOW_MARGIN = timedelta(minutes=10)
EMPTY_FINDS_APART = timedelta(minutes=15)
HAND_OVER_AFTER = timedelta(hours=72)

NEVER_REACHED_PROVIDER = "NEVER_REACHED_PROVIDER"


class Question(Enum):
    REPLAY = "REPLAY"
    READ = "READ"
    FIND = "FIND"


WITNESSES = {
    Question.REPLAY: Witness.REPLAY,
    Question.READ: Witness.READ,
    Question.FIND: Witness.FIND,
}


@dataclass(frozen=True, slots=True)
class Asking:
    """How far an operation has been asked about. Times are the machine's, not a test clock's."""

    start_time: datetime  # when the operation was written down; its key is that old
    sent_time: datetime  # the last moment at which a request with effect may have left
    ask_time: datetime  # when to ask next
    asks: int = 0
    unknown_since: datetime | None = None
    empty_find_time: datetime | None = None  # the first empty find since `sent_time`
    handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Means:
    """How a provider can be asked about one sort of thing."""

    replay: bool  # it answers a key with the first answer
    read: bool
    find: bool


def means_of(capabilities: Capabilities) -> Means:
    """How payments can be asked about."""
    return Means(
        replay=capabilities.idempotency is Idempotency.KEY,
        read=capabilities.read_by_id,
        find=capabilities.lookup is not Lookup.NONE,
    )


def refund_means_of(capabilities: Capabilities) -> Means:
    """How refunds can be asked about."""
    return Means(
        replay=capabilities.refund_idempotency is Idempotency.KEY,
        read=capabilities.refund_read_by_id,
        find=capabilities.refund_lookup is not Lookup.NONE,
    )


def questions(
    state: State,
    capabilities: Capabilities,
    asking: Asking,
    *,
    has_provider_id: bool,
    wanted: bool,
    now: datetime,
) -> tuple[Question, ...]:
    """What may be asked about an attempt, in order; the first clear answer ends it.

    A replay may charge for the first time, so it needs a key that is still remembered and an
    intent that is still wanted, and is no way to look at an attempt that was acknowledged.
    """
    return questions_by(
        means_of(capabilities),
        asking,
        capabilities.key_window,
        replayable=wanted and state is State.UNKNOWN,
        has_provider_id=has_provider_id,
        now=now,
    )


def questions_by(
    means: Means,
    asking: Asking,
    key_window: timedelta,
    *,
    replayable: bool,
    has_provider_id: bool,
    now: datetime,
) -> tuple[Question, ...]:
    """The same about anything that was sent with a key."""
    asked = []
    age = now - asking.start_time
    if replayable and means.replay and age < key_window - KEY_WINDOW_MARGIN:
        asked.append(Question.REPLAY)
    if has_provider_id and means.read:
        asked.append(Question.READ)
    if means.find:
        asked.append(Question.FIND)
    return tuple(asked)


def absence_is_proof(asking: Asking, capabilities: Capabilities, now: datetime) -> bool:
    """Whether an empty find, made now, is the second of two that together prove absence.

    Both are later than anything we sent by the time the provider needs to show it, and they lie
    far enough apart that one outage cannot explain both.
    """
    first = asking.empty_find_time
    return (
        first is not None
        and now - first >= EMPTY_FINDS_APART
        and first - asking.sent_time >= capabilities.visibility
    )


def after_empty_find(asking: Asking, capabilities: Capabilities, now: datetime) -> Asking:
    """Remember the first empty find that counts."""
    if asking.empty_find_time is None and now - asking.sent_time >= capabilities.visibility:
        return replace(asking, empty_find_time=now)
    return asking


def before_sending(asking: Asking, now: datetime) -> Asking:
    """A request with effect is about to leave: earlier empty finds prove nothing any more."""
    return replace(asking, sent_time=now, empty_find_time=None)


def entering(asking: Asking, state: State, now: datetime) -> Asking:
    """Note when an attempt's outcome became unknown, or known."""
    return becoming(asking, state is State.UNKNOWN, now)


def becoming(asking: Asking, unknown: bool, now: datetime) -> Asking:
    """Note when an outcome became unknown, or known; either starts the schedule anew."""
    if unknown is (asking.unknown_since is not None):
        return asking
    return replace(asking, unknown_since=now if unknown else None, asks=0, handed_over=False)


def scheduled(asking: Asking, now: datetime) -> Asking:
    """When to ask next, and whether people must look by now."""
    wait = ASK_AFTER[min(asking.asks, len(ASK_AFTER) - 1)]
    since = asking.unknown_since
    return replace(
        asking,
        ask_time=now + wait,
        asks=asking.asks + 1,
        handed_over=since is not None and now - since >= HAND_OVER_AFTER,
    )


def needs_asking(state: State) -> bool:
    """Whether an attempt in this state is asked about until it ends."""
    return state in LIVE
