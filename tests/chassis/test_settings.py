"""Configuration: what is read, what is refused, what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.settings import Secret, Settings, SettingsError

SECRET = "a secret of at least thirty-two bytes"


def test_fields_are_read_from_the_environment_and_fixed_values_win() -> None:
    environ = {
        "TOLLGATE_SERVICE": "other",
        "TOLLGATE_PEERS": "wallet=127.0.0.1:7102, invoicing=127.0.0.1:7103",
        "TOLLGATE_LANES": "4",
        "TOLLGATE_EXPOSE": "true",
        "TOLLGATE_LISTEN": "0.0.0.0:8443",
        "PATH": "/bin",
    }
    settings = Settings.load(environ, service="wallet")
    assert settings.service == "wallet"
    assert settings.peers == {"wallet": "127.0.0.1:7102", "invoicing": "127.0.0.1:7103"}
    assert (settings.lanes, settings.expose) == (4, True)


def test_a_secret_comes_from_a_file_and_shows_itself_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    settings = Settings.load({"TOLLGATE_SERVICE_SECRET_FILE": str(file)})
    assert settings.service_secret == Secret(SECRET)
    assert settings.service_secret.reveal() == SECRET
    shown = repr(settings) + str(settings) + str(settings.describe())
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("TOLLGATE_COLOUR", "red", "TOLLGATE_COLOUR is not a setting"),
        ("TOLLGATE_LANES_FILE", "x", "TOLLGATE_LANES_FILE is not a setting"),
        ("TOLLGATE_SERVICE_SECRET_FILE", "/nowhere/at/all", "cannot be read"),
        ("TOLLGATE_SERVICE_SECRET", "short", "at least 32 bytes"),
        ("TOLLGATE_POOL_MODE", "sideways", "TOLLGATE_POOL_MODE"),
        ("TOLLGATE_LANES", "0", "TOLLGATE_LANES"),
        ("TOLLGATE_LISTEN", "8443", "not host:port"),
        ("TOLLGATE_LISTEN", "127.0.0.1:99999", "not host:port"),
        ("TOLLGATE_HEALTH_LISTEN", "10.0.0.1:8086", "beyond loopback"),
        ("TOLLGATE_PEERS", "wallet", "write it as"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({variable: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_exposed_has_no_failpoints() -> None:
    with pytest.raises(SettingsError, match="never together with expose"):
        Settings.load({"TOLLGATE_EXPOSE": "true", "TOLLGATE_FAILPOINTS": "points"})


def test_a_wrong_secret_is_not_quoted_back() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({"TOLLGATE_SERVICE_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)
