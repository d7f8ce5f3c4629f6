"""Asks a program's health port whether it is ready; exits 0 if it is, for hosts without probes.

`python health_check.py 127.0.0.1:8086`. Kubernetes has a probe of its own for this; Compose has
not, and a slim image carries no other client.
"""

from __future__ import annotations

import sys

import grpc

CALL = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
TIMEOUT_SECONDS = 3


def unchanged(message: bytes) -> bytes:
    return message


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: health_check.py HOST:PORT")
    with grpc.insecure_channel(sys.argv[1]) as channel:
        check = channel.unary_unary(
            CALL, request_serializer=unchanged, response_deserializer=unchanged
        )
        try:
            answer = check(b"", timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            sys.exit(f"not reachable: {error.code().name}")
    if answer != SERVING:
        sys.exit("not serving")


if __name__ == "__main__":
    main()
