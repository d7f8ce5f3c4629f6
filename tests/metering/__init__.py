"""Metering, through gRPC on real stores, with the real wallet and the real invoicing."""
