"""SellerService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Connection, Database
from invoicing.operations import once
from invoicing.sellers import store
from invoicing.sellers.wire import parse_logo, parse_seller, render_seller
from kernel.errors import NotFound
from tollgate.invoicing.v1 import invoice_pb2 as pb


class SellerServicer:
    """State the seller and look at it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def SetSeller(self, request: pb.SetSellerRequest, call: Call) -> pb.SetSellerResponse:
        logo = parse_logo(request.seller)
        seller = parse_seller(request.seller, logo)

        async def change(tx: Connection) -> pb.SetSellerResponse:
            if logo is not None:
                await store.insert_logo(tx, call.tenant_id, logo)
            await store.save_seller(tx, call.tenant_id, seller)
            return pb.SetSellerResponse(seller=render_seller(seller))

        return await once(
            self._database,
            call.tenant_id,
            request,
            request.request_id,
            pb.SetSellerResponse,
            change,
        )

    async def GetSeller(self, request: pb.GetSellerRequest, call: Call) -> pb.GetSellerResponse:
        async with self._database.transaction(call.tenant_id) as tx:
            seller = await store.find_seller(tx, call.tenant_id)
        if seller is None:
            raise NotFound("seller", "of this tenant")
        return pb.GetSellerResponse(seller=render_seller(seller))
