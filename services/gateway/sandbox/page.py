"""The page that a person sees; it asks for no card, since there is none."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from typing import Any

from kernel.currency import MINOR_DIGITS
from kernel.money import format_atoms

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;background:#f3f4f6;color:#111827;margin:0;"
    "min-height:100vh;display:grid;place-items:center}"
    "main{background:#fff;border-radius:14px;box-shadow:0 4px 24px #0002;padding:2rem;"
    "width:min(24rem,88vw);box-sizing:border-box}"
    "h1{font-size:1.1rem;margin:0 0 .75rem;color:#374151}"
    ".amount{font-size:2rem;font-weight:600;margin:0}.what{margin:.25rem 0 1.5rem;color:#4b5563}"
    "button{display:block;width:100%;font:inherit;padding:.7rem;border-radius:9px;cursor:pointer;"
    "border:1px solid #d1d5db;background:#fff;margin:.5rem 0}"
    ".complete{background:#1d4ed8;border-color:#1d4ed8;color:#fff}"
    "button:focus-visible{outline:3px solid #93c5fd}small{color:#4b5563}"
)
_LABELS = {
    "decline": "Pay with a card that is declined",
    "later": "Pay by a bank that takes a moment",
}


def render_page(page: Mapping[str, Any], choices: Collection[str]) -> str:
    """The page as HTML, with a button for each thing that a person may do on it."""
    pays = page["mode"] == "PAY"
    title = "Payment" if pays else "Store a payment method"
    code = html.escape(page["currency"])
    amount = f"{format_atoms(page['units'], MINOR_DIGITS.get(page['currency'], 0))} {code}"
    head = f"<p class=amount>{amount}</p>" if pays else ""
    what = html.escape(str(page.get("description", "")))
    if page["state"] == "open":
        labels = {"complete": f"Pay {amount}" if pays else "Store this card"}
        labels |= {name: _LABELS[name] for name in choices if name in _LABELS and pays}
        labels["cancel"] = "Cancel"
        buttons = "".join(
            f"<button class={name} name=result value={name}>{html.escape(label)}</button>"
            for name, label in labels.items()
        )
        form = f"<form method=post>{buttons}</form>"
    else:
        form = f"<p>This page is {html.escape(page['state'])}.</p>"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>{head}"
        f"<p class=what>{what}</p>{form}"
        "<small>Sandbox: no money moves and no card is asked for.</small></main></body></html>"
    )
