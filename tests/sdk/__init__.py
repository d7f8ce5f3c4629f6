"""The Python SDK: alone, and against the running services."""
