"""The rules of entitlements: pure functions over frozen values."""
