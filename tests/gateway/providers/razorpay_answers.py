"""What Razorpay answers, for the tests that play its plans."""

from __future__ import annotations

from typing import Any

from gateway.providers.plan import Answer
from tests.gateway.providers.support import REFERENCE, answer


def payment(status: str = "captured", **changes: Any) -> dict[str, Any]:
    return {
        "id": "pay_1",
        "entity": "payment",
        "amount": 10_000,
        "currency": "INR",
        "status": status,
        "order_id": "order_1",
        "captured": status == "captured",
        "method": "card",
        "notes": {"tollgate_attempt": REFERENCE},
    } | changes


def listed(*items: dict[str, Any]) -> Answer:
    return answer(200, {"entity": "collection", "count": len(items), "items": items})


def refused(reason: str, payment_id: str = "", description: str = "no") -> Answer:
    error: dict[str, Any] = {
        "code": "BAD_REQUEST_ERROR",
        "description": description,
        "source": "bank",
        "step": "payment_authorization",
        "reason": reason,
        "metadata": {"payment_id": payment_id, "order_id": "order_1"} if payment_id else {},
    }
    return answer(400, {"error": error})
