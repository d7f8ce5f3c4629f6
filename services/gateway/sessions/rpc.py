"""SessionService: parse, operate, render."""

from __future__ import annotations

from chassis.call import Call
from chassis.wire import parse_request_id, parse_text, parse_uuid
from gateway.sessions.operations import SessionOperations
from gateway.sessions.wire import parse_checkout, parse_setup, render_session
from gateway.wire import refuse_card_data
from tollgate.gateway.v1 import session_pb2 as pb

RESULT_MAX = 2000


class SessionService:
    """Pages of providers where a person pays or stores a method."""

    def __init__(self, sessions: SessionOperations) -> None:
        self._sessions = sessions

    async def CreateCheckoutSession(
        self, request: pb.CreateCheckoutSessionRequest, call: Call
    ) -> pb.CreateCheckoutSessionResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        page = await self._sessions.create_checkout(call, request, parse_checkout(request))
        return pb.CreateCheckoutSessionResponse(session=render_session(page))

    async def CreateSetupSession(
        self, request: pb.CreateSetupSessionRequest, call: Call
    ) -> pb.CreateSetupSessionResponse:
        refuse_card_data(request)
        parse_request_id(request.request_id)
        page = await self._sessions.create_setup(call, request, parse_setup(request))
        return pb.CreateSetupSessionResponse(session=render_session(page))

    async def GetSession(self, request: pb.GetSessionRequest, call: Call) -> pb.GetSessionResponse:
        refuse_card_data(request)
        session_id = parse_uuid(request.session_id, "session_id")
        result = parse_text(request.result, "result", minimum=0, maximum=RESULT_MAX)
        page = await self._sessions.get(call.tenant_id, session_id, result, call.now)
        return pb.GetSessionResponse(session=render_session(page))
