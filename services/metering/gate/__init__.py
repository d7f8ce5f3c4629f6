"""The gate: funds and entitlement set aside before usage runs."""
