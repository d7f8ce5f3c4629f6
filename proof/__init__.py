"""Why the ledger may be trusted: seven layers of proof, each with its seed, figures and claims.

`python -m proof` runs the short form, `--long` the long one; `docs/proof.md` says what is claimed
and how each claim is proved. Everything runs against real processes, a real Postgres and a real
Redis, over the public contract, beside the pure core and the small model of `tests/wallet`.
"""
