"""The wallet service: ledger, grants, holds, recharges; it never asks why money moves."""
