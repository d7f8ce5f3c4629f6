"""The sandbox keeps its promises: deterministic, durable across a kill, keys kept, faults once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.sandbox.behaviour import FAULTS, NoSuchFault, NoSuchMethod, behaviour_of, parse_faults
from tests.gateway.support import SandboxProcess

CHARGE = {
    "reference": "attempt-1",
    "amount": 500,
    "currency": "USD",
    "method": "pm_ok",
    "time": "2026-01-01T00:00:00+00:00",
}


async def charge(sandbox: SandboxProcess, key: str = "key-1", **changes: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(
            f"{sandbox.endpoint}/v1/payments",
            json=CHARGE | changes,
            headers={"Idempotency-Key": key},
        )


async def test_what_was_charged_outlives_a_kill(sandbox: SandboxProcess) -> None:
    first = await charge(sandbox)
    before = await sandbox.books()
    await sandbox.kill()
    await sandbox.start()
    assert await sandbox.books() == before
    again = await charge(sandbox)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert await sandbox.taken() == 1


async def test_a_journal_cut_short_loses_only_what_was_never_answered(
    sandbox: SandboxProcess,
) -> None:
    await charge(sandbox)
    before = await sandbox.books()
    await sandbox.kill()
    with sandbox.journal.open("ab") as file:
        file.write(b'{"entry": "payment", "id": "pay_half')
    await sandbox.start()
    assert await sandbox.books() == before
    await charge(sandbox, "key-2", reference="attempt-2")
    await sandbox.kill()
    await sandbox.start()
    assert len((await sandbox.books())["payments"]) == 2


async def test_ids_follow_from_seed_and_request(tmp_path: Path) -> None:
    identifiers = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        process = SandboxProcess(tmp_path / name, seed)
        await process.start()
        identifiers.append((await charge(process)).json()["payment"]["id"])
        await process.stop()
    assert identifiers[0] == identifiers[1] != identifiers[2]


async def test_a_key_with_other_parameters_is_refused(sandbox: SandboxProcess) -> None:
    await charge(sandbox)
    other = await charge(sandbox, amount=501)
    assert other.status_code == 400
    assert other.json()["error"]["code"] == "key_used_with_other_parameters"
    assert await sandbox.taken() == 1


async def test_a_fault_is_committed_once(sandbox: SandboxProcess) -> None:
    await sandbox.script("http_500_before")
    assert (await charge(sandbox)).status_code == 500
    assert (await charge(sandbox)).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0},
        {"amount": 1.5},
        {"amount": True},
        {"amount": "5"},
        {"reference": "with a blank"},
        {"currency": "dollars"},
        {"method": "pm_of_nobody"},
        {"method": 5},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    sandbox: SandboxProcess, changes: dict[str, Any]
) -> None:
    assert (await charge(sandbox, **changes)).status_code == 422
    assert (await sandbox.books())["payments"] == []


async def test_a_body_that_is_no_json_is_refused(sandbox: SandboxProcess) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for body in (b"", b"{", b"[]", b"\xff"):
            answer = await client.post(f"{sandbox.endpoint}/v1/payments", content=body)
            assert answer.status_code == 400


def test_magic_tokens_say_what_happens() -> None:
    assert behaviour_of("pm_ok@anything").state == "succeeded"
    assert behaviour_of("pm_ok_async:1500ms").delay_seconds == 1.5
    assert behaviour_of("pm_late_failure:2m").later == "reversed"
    assert behaviour_of("pm_stolen").decline_code == "stolen_card"
    for token in ("", "pm_ok:1s", "pm_ok_async", "pm_ok_async:soon", "pm_nothing", "PM_OK"):
        with pytest.raises(NoSuchMethod):
            behaviour_of(token)


def test_faults_are_read_strictly() -> None:
    assert "hang_after" in parse_faults("hang_after+notify_never")
    assert parse_faults("notify_late:200ms").seconds("notify_late") == 0.2
    assert parse_faults("slow:250").seconds("slow") == 0.25
    for text in ("hang", "slow", "hang_after:1", "slow:much", "http_429"):
        with pytest.raises(NoSuchFault):
            parse_faults(text)
    assert all(name == name.strip().lower() for name in FAULTS)
