"""Python client of Tollgate: typed stubs, credentials, refusals as exceptions, retries by key."""

from tollgate_sdk.client import Endpoints, Tollgate
from tollgate_sdk.errors import TollgateError

__all__ = ["Endpoints", "Tollgate", "TollgateError"]
