"""Benchmarks: figures as JSON, each beside a reference measured in the same run.

They run against the real suite: every service a process of its own, Postgres durable, all on this
machine. A figure alone says what the machine did that minute; the ratio says more.
"""
