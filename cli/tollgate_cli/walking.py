"""How far a tenant's ledger was verified: in shards side by side, and resumable from a file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

SHARDS_MAX = 256  # what the wallet takes
WRONG_MAX = 20


@dataclass
class Walk:
    """By shard the token of the page that comes next, and what was seen so far."""

    shards: int = 1
    file: Path | None = None
    tokens: dict[str, str] = field(default_factory=dict)  # of shards that were begun
    done: list[int] = field(default_factory=list)
    wallets: int = 0
    transfers: int = 0
    # (wallet, figure, sentence) of what disagrees; the first of them in order of wallets.
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def open(cls, shards: int, file: Path | None) -> Walk:
        """Begin, or go on where the file says. Raises ValueError where it is of another walk."""
        if file is None or not file.exists():
            return cls(shards, file)
        kept = json.loads(file.read_text())
        if kept["shards"] != shards:
            raise ValueError(
                f"{file} is of {kept['shards']} shards; go on with as many, or remove it"
            )
        wrong = [(wallet, figure, words) for wallet, figure, words in kept.pop("wrong")]
        return cls(file=file, wrong=wrong, **kept)

    @property
    def left(self) -> list[int]:
        """Shards that are not done."""
        return [shard for shard in range(self.shards) if shard not in self.done]

    @property
    def first(self) -> str:
        """The first row that disagrees, by wallet and figure; empty where all agree."""
        return min(self.wrong)[2] if self.wrong else ""

    def token(self, shard: int) -> str:
        return self.tokens.get(str(shard), "")

    def step(
        self, shard: int, token: str, wallets: int, transfers: int,
        wrong: list[tuple[str, str, str]],
    ) -> None:  # fmt: skip
        """A page was looked at; an empty token ends its shard."""
        self.wallets += wallets
        self.transfers += transfers
        self.wrong = sorted([*self.wrong, *wrong])[:WRONG_MAX]
        if token:
            self.tokens[str(shard)] = token
        else:
            self.tokens.pop(str(shard), None)
            self.done.append(shard)
        self._save()

    def close(self) -> None:
        """All was looked at: the next walk begins anew."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def _save(self) -> None:
        if self.file is None:
            return
        kept = {name: value for name, value in asdict(self).items() if name != "file"}
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        draft.write_text(json.dumps(kept))
        draft.replace(self.file)
