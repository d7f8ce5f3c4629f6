"""The rules of the gate: what an authorization is, and what usage would cost."""
