"""Secrets and card numbers stay where they are."""

from __future__ import annotations

import json

from gateway.domain.card_data import holds_card_data
from tollgate_conformance.bench import Bench


def test_no_secret_is_in_what_is_recorded_of_a_call(bench: Bench) -> None:
    bench.needs("off_session")
    tried = bench.charge(bench.charge_command())
    secrets = [bench.rig.api_secret, *bench.rig.notification_secrets]
    for call in tried.calls:
        shown = json.dumps([call.path, dict(call.query), dict(call.headers)])
        shown += json.dumps(call.json, default=str) + json.dumps(dict(call.form or {}))
        for secret in secrets:
            assert secret.decode() not in shown
            assert secret not in (call.content or b"")
    assert all(secret.decode() not in repr(tried.result) for secret in secrets)


def test_no_secret_is_in_what_a_refusal_says(bench: Bench) -> None:
    bench.needs("off_session")
    outcome = bench.charge(bench.charge_command(provider_token="no_such_method_0001")).result
    for secret in (bench.rig.api_secret, *bench.rig.notification_secrets):
        assert secret.decode() not in repr(outcome)


def test_no_card_number_comes_back(bench: Bench) -> None:
    bench.needs("off_session")
    for want in bench.rig.tokens:
        outcome = bench.charge(bench.charge_command(want)).result
        assert not holds_card_data(outcome.detail)
        assert not holds_card_data(outcome.decline_code)
