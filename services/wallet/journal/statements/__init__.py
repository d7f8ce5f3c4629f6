"""Statements: a period of one wallet, from opening to closing."""
