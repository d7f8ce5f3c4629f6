"""How a service runs: server, database, messages, credentials, telemetry. Knows no billing."""
