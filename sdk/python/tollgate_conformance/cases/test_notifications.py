"""A notification is believed only as its sender signed it, and says what happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.domain.outcome import Finding, Outcome
from gateway.domain.provider_account import NotificationAuth
from gateway.providers.commands import Delivery, Item, Since
from tollgate_conformance.bench import Bench

# What any server adds; everything else may be what makes a notification authentic.
PLAIN = frozenset({"content-type", "content-length", "host", "user-agent", "accept", "date"})
TOLD = (Finding.SUCCEEDED, Finding.PENDING, Finding.AUTHORIZED, None)


@pytest.fixture(autouse=True)
def _notifies(bench: Bench) -> None:
    bench.needs("notification_auth")


@pytest.fixture
def letter(bench: Bench) -> Delivery:
    command, _ = bench.paid()
    return bench.letter(command.reference)


def signed(bench: Bench) -> None:
    if bench.able.notification_auth is NotificationAuth.BASIC:
        pytest.skip("a password vouches for the sender here, nothing for the body")


def test_a_true_notification_is_read(bench: Bench) -> None:
    command, outcome = bench.paid()
    reading = bench.read(bench.letter(command.reference))
    assert reading.authentic, reading.why
    item = reading.items[0]
    assert item.id
    assert item.kind
    about = item.reference == command.reference
    assert about or item.provider_payment_id == outcome.provider_payment_id
    assert (item.outcome.finding if item.outcome else None) in TOLD


def test_it_is_read_the_same_twice(bench: Bench, letter: Delivery) -> None:
    """Its id is what makes the second of two the same."""
    first, second = bench.read(letter), bench.read(letter)
    assert [each.id for each in first.items] == [each.id for each in second.items]


def test_what_is_kept_of_it_is_read_again_later(bench: Bench, letter: Delivery) -> None:
    first = bench.read(letter)
    if bench.provider.read_items is not None:
        again = bench.provider.read_items(letter.body)
    else:
        again = bench.read(replace(letter, headers={}, verified=True)).items
    assert [(each.id, each.outcome) for each in again] == [
        (each.id, each.outcome) for each in first.items
    ]


def test_a_changed_body_is_refused(bench: Bench, letter: Delivery) -> None:
    signed(bench)
    digit = next(
        (at for at, byte in enumerate(letter.body) if bytes([byte]).isdigit()),
        len(letter.body) // 2,
    )
    if bench.able.notification_auth is NotificationAuth.SIGNED_FIELDS:
        digit = letter.body.index(b"value") + len(b'value":') + (letter.body.count(b'value": ') > 0)
    changed = bytearray(letter.body)
    changed[digit] = ord("7") if changed[digit] != ord("7") else ord("3")
    assert not bench.read(replace(letter, body=bytes(changed))).authentic


def test_without_its_signature_it_is_refused(bench: Bench, letter: Delivery) -> None:
    bare = {name: text for name, text in letter.headers.items() if name in PLAIN}
    if bare == dict(letter.headers):
        pytest.skip("the signature is in the body here")
    assert not bench.read(replace(letter, headers=bare)).authentic


def test_with_a_signature_of_another_it_is_refused(bench: Bench, letter: Delivery) -> None:
    other, _ = bench.paid()
    foreign = bench.letter(other.reference)
    if bench.able.notification_auth is NotificationAuth.BASIC:
        pytest.skip("a password vouches for the sender here, nothing for the body")
    if bench.able.notification_auth is NotificationAuth.SIGNED_FIELDS:
        pytest.skip("the signature is in the body here")
    assert not bench.read(replace(letter, headers=foreign.headers)).authentic


def test_with_another_secret_it_is_refused(bench: Bench, letter: Delivery) -> None:
    if bench.provider.ask_reading is not None:
        forged = bench.run(bench.rig.signed_with(letter, b"0badc0de" * 8))
        if forged is None:
            pytest.skip("only its own process knows the provider's secrets")
        assert not bench.read(forged).authentic
        return
    assert not bench.read(bench.with_secrets(letter, b"0badc0de" * 8)).authentic
    assert not bench.read(replace(letter, secrets=())).authentic


def test_either_secret_is_taken_during_a_rotation(bench: Bench, letter: Delivery) -> None:
    if bench.provider.ask_reading is not None:
        pytest.skip("only its own process knows the provider's secrets")
    newest = tuple(bench.rig.notification_secrets)
    other = (b"0badc0de" * 8, *newest)
    assert bench.read(bench.with_secrets(letter, *newest, b"0badc0de" * 8)).authentic
    assert bench.read(bench.with_secrets(letter, *other)).authentic


@pytest.mark.parametrize("days", [1, -1], ids=["old", "early"])
def test_a_signature_of_another_day_is_refused(bench: Bench, letter: Delivery, days: int) -> None:
    if bench.able.notification_auth is not NotificationAuth.SIGNED_WITH_TIME:
        pytest.skip("no time is signed here")
    assert not bench.read(replace(letter, now=letter.now + timedelta(days=days))).authentic


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 2000])
def test_a_body_that_is_none_is_refused(bench: Bench, letter: Delivery, body: bytes) -> None:
    reading = bench.read(replace(letter, body=body))
    assert not reading.authentic
    assert reading.items == ()


def test_several_in_one_are_read_one_by_one(bench: Bench) -> None:
    references = [bench.paid()[0].reference for _ in range(3)]
    made = bench.run(bench.rig.several(references))
    if made is None:
        pytest.skip("the provider sends one at a time")
    reading = bench.read(bench.with_secrets(made))
    assert reading.authentic, reading.why
    assert len({item.id for item in reading.items}) == len(references)


def test_a_kind_that_means_nothing_is_taken_and_says_nothing(bench: Bench) -> None:
    made = bench.run(bench.rig.stranger())
    if made is None:
        pytest.skip("the rig cannot make one of an unknown kind")
    reading = bench.read(bench.with_secrets(made))
    assert reading.authentic, reading.why
    assert all(item.outcome is None for item in reading.items)


def test_what_happened_is_listed_too(bench: Bench) -> None:
    bench.needs("list_changes")
    command, outcome = bench.paid()
    assert bench.provider.list_changes is not None
    token = ""
    seen: list[Item] = []
    for _ in range(50):
        since = Since(command.time - timedelta(minutes=5), token)
        page = bench.play(bench.provider.list_changes(since, bench.login)).result
        assert not isinstance(page, Outcome), page
        seen += page.items
        token = page.next_page_token
        if not token:
            break
    ours = [
        each
        for each in seen
        if command.reference == each.reference
        or outcome.provider_payment_id == each.provider_payment_id
    ]
    assert ours, f"not among {len(seen)} changes"
