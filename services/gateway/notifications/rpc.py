"""The door for providers: POST /notifications/{provider_account_id} over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from aiohttp import web

from chassis.server import PortInUse
from chassis.settings import split_address
from gateway.notifications.operations import NotificationOperations
from kernel.errors import Refusal

BODY_BYTES_MAX = 1024 * 1024
ANSWER_SECONDS_MAX = 3.0  # providers give up after five, and count it against us
CLOSE_SECONDS = 2.0

log = structlog.get_logger("gateway.notifications")


class NotificationDoor:
    """Takes notifications in and answers them; no credential of ours is asked for, since a
    provider's signature is one."""

    def __init__(self, notifications: NotificationOperations) -> None:
        self._notifications = notifications

    @asynccontextmanager
    async def open(self, listen: str) -> AsyncIterator[str]:
        """Listen on "host:port" while in the block; yields the address. Raises PortInUse."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.add_routes([web.post("/notifications/{provider_account_id}", self.receive)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        try:
            host, port = split_address(listen)
            # Sister processes listen on the same port.
            site = web.TCPSite(runner, host.strip("[]"), port, reuse_port=port != 0)
            try:
                await site.start()
            except OSError as error:
                why = error.strerror or error
                raise PortInUse(f"cannot listen on {listen}: {why}") from None
            address = f"{host}:{runner.addresses[0][1]}"
            log.info("notifications_listening", address=address)
            yield address
        finally:
            await runner.cleanup()

    async def receive(self, request: web.Request) -> web.Response:
        """Keep a notification, then acknowledge it. What is not kept is to be sent again: 503."""
        try:
            provider_account_id = UUID(request.match_info["provider_account_id"])
        except ValueError:
            return web.Response(status=404)
        headers = {name.lower(): text for name, text in request.headers.items()}
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                body = await request.read()
                receipt = await self._notifications.receive(provider_account_id, headers, body)
        except (TimeoutError, Refusal):
            return web.Response(status=503)
        except web.HTTPException:
            raise
        except Exception as error:
            log.error("notification_not_kept", exc_info=error)
            return web.Response(status=503)
        return web.Response(status=receipt.status, body=receipt.body)
