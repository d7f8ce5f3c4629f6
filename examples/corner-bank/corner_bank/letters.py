"""Tells Tollgate what happened: signed letters over HTTP, sent until they are taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from typing import Any

from corner_bank.ledger import Happening, Ledger, Unknown

SIGNATURE = "corner-signature"
WINDOW_SECONDS = 300
SEND_SECONDS = 5.0
PAUSE_SECONDS = 0.1


def write(ledger: Ledger, happening: Happening) -> dict[str, Any]:
    """What a letter says: what happened, and the thing as it stands now."""
    told: dict[str, Any] = {
        "id": f"hap_{happening.number}",
        "kind": happening.kind,
        "time": happening.time,
    }
    try:
        if happening.kind.startswith("refund."):
            refund = ledger.find_refund(happening.object_id)
            told["refund"] = {"id": refund.id, "reference": refund.reference}
        else:
            debit = ledger.find_debit(happening.object_id)
            told["debit"] = {"id": debit.id, "reference": debit.reference}
    except Unknown:
        pass
    return told


def sign(body: bytes, secret: bytes, now: float) -> str:
    stamp = str(int(now))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},s={digest}"


def why_not_signed(signature: str, body: bytes, secret: bytes, now: float) -> str:
    """Why a signature does not hold; empty where it does."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    stamp = parts.get("t", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return "no time is signed"
    if abs(now - int(stamp)) > WINDOW_SECONDS:
        return "the signature is of another time"
    expected = sign(body, secret, int(stamp)).encode()
    stated = f"t={stamp},s={parts.get('s', '')}".encode()
    return "" if hmac.compare_digest(expected, stated) else "the signature does not fit"


async def send_for_ever(ledger: Ledger, secret: bytes) -> None:
    """Send what is untold, oldest first, until cancelled; settle what is due on the way."""
    url = ""
    while True:
        for happening in ledger.untold():
            url = happening.url
            body = json.dumps(write(ledger, happening)).encode()
            if await asyncio.to_thread(_post, happening.url, body, secret):
                ledger.told(happening.number)
        ledger.settle_due(url)
        await asyncio.sleep(PAUSE_SECONDS)


def _post(url: str, body: bytes, secret: bytes) -> bool:
    headers = {"content-type": "application/json", SIGNATURE: sign(body, secret, time.time())}
    request = urllib.request.Request(url, body, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SEND_SECONDS) as answer:
            return 200 <= answer.status < 300
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in (400, 401, 404)  # refused for good
    except OSError:
        return False
