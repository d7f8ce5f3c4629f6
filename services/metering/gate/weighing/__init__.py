"""Weighing: what requests to the gate need, and setting that aside."""
