"""Billing runs: every customer once per period, whatever crashes."""
