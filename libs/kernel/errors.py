"""Refusals: the answers that say no. Any other exception is a bug.

A refusal carries a stable reason, which is the name of a member of the service's `ErrorReason`
enum, and facts a caller can act on. Services declare their own subclasses beside the rules that
raise them; the chassis turns every refusal into a gRPC status with `google.rpc.ErrorInfo`.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What sort of no it is; the chassis maps each to one gRPC status code."""

    INVALID = "INVALID"  # the request can never succeed as it is
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"  # it exists already, or a key was used with other content
    PRECONDITION = "PRECONDITION"  # it could succeed once something else has changed
    DENIED = "DENIED"  # the caller may not
    UNAUTHENTICATED = "UNAUTHENTICATED"
    EXHAUSTED = "EXHAUSTED"  # a limit of ours: try again later
    UNAVAILABLE = "UNAVAILABLE"  # nothing was done; try again
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"  # it may have been done; repeat with the same key


class Refusal(Exception):
    """Base of every refusal. `reason` and `kind` belong to the class, facts to the instance."""

    reason: str = "UNSPECIFIED"
    kind: Kind = Kind.PRECONDITION

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, str] = {name: str(value) for name, value in facts.items()}


class InvalidValue(Refusal):
    """A field does not hold what it must. The message names the field and says why."""

    reason = "INVALID_VALUE"
    kind = Kind.INVALID

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}", field=field, why=why)
        self.field = field
        self.why = why

    def inside(self, prefix: str) -> InvalidValue:
        """The same refusal, its field named from one level further out."""
        return InvalidValue(f"{prefix}.{self.field}", self.why)


class NotFound(Refusal):
    """Nothing of that name exists for this tenant. Another tenant's things answer the same."""

    reason = "NOT_FOUND"
    kind = Kind.NOT_FOUND

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"no {what} {str(name)!r}", what=what, name=name)


class IdempotencyConflict(Refusal):
    """A request key came again with other parameters. Nothing was applied; the first stands."""

    reason = "IDEMPOTENCY_CONFLICT"
    kind = Kind.CONFLICT

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key!r} was used before with other parameters", key=key)
