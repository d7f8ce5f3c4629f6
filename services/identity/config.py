"""Identity's settings: the peppers under which API keys are hashed."""

from __future__ import annotations

from chassis.settings import Settings, SettingsError
from identity.keys.domain import Peppers


class Config(Settings):
    """What identity is told; TOLLGATE_API_KEY_PEPPER must be among it."""

    def peppers(self) -> Peppers:
        """The numbered peppers, "1:<text>,2:<text>"; raises SettingsError."""
        numbered: dict[int, bytes] = {}
        for part in self.api_key_pepper.reveal().split(","):
            number, colon, text = part.strip().partition(":")
            if not colon or not number.isdigit() or not text:
                raise SettingsError(
                    "TOLLGATE_API_KEY_PEPPER must be numbered peppers, such as 1:<random text>"
                )
            numbered[int(number)] = text.encode()
        return Peppers(numbered)
