"""RechargeService and AlertService."""

from __future__ import annotations

from chassis.call import Call
from chassis.database import Database
from chassis.paging import next_token, parse_page
from chassis.wire import parse_member, parse_request_id, parse_text
from tollgate.wallet.v1 import wallet_service_pb2 as pb
from wallet.alerts import store as spend_alerts
from wallet.alerts.operations import set_alert as set_spend_alert
from wallet.alerts.wire import parse_spend_alert, render_spend_alert
from wallet.assets.operations import Scales
from wallet.ledger.wire import CUSTOMER_ID_MAX, find_id, parse_id
from wallet.recharge import operations
from wallet.recharge.wire import (
    ENDS,
    parse_alert,
    parse_rule,
    render_alert,
    render_recharge,
    render_rule,
)


class RechargeService:
    """Top-ups by themselves."""

    def __init__(self, database: Database, scales: Scales) -> None:
        self._database = database
        self._scales = scales

    async def SetRechargeRule(
        self, request: pb.SetRechargeRuleRequest, call: Call
    ) -> pb.SetRechargeRuleResponse:
        parse_request_id(request.request_id)
        codes = {request.rule.threshold.asset, request.rule.price_asset} - {""}
        rule = parse_rule(request.rule, await self._scales.of(call.tenant_id, codes))
        return await operations.set_rule(self._database, call, request, rule)

    async def ListRechargeRules(
        self, request: pb.ListRechargeRulesRequest, call: Call
    ) -> pb.ListRechargeRulesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        customer_id = _find_customer(request.customer_id)
        rules = await operations.list_rules(self._database, call.tenant_id, customer_id, page)
        more = len(rules) > page.size
        rules = rules[: page.size]
        return pb.ListRechargeRulesResponse(
            rules=[render_rule(rule) for rule in rules],
            next_page_token=next_token(rules[-1].wallet_id, rules[-1].asset) if more else "",
        )

    async def EndRecharge(
        self, request: pb.EndRechargeRequest, call: Call
    ) -> pb.EndRechargeResponse:
        recharge = await operations.end_recharge(
            self._database,
            call,
            parse_id(request.recharge_id, "recharge_id"),
            parse_member(request.state, ENDS, "state"),
            switch_off=request.disable_rule,
            cause=parse_text(request.cause, "cause", minimum=0),
        )
        return pb.EndRechargeResponse(recharge=render_recharge(recharge))

    async def ListRecharges(
        self, request: pb.ListRechargesRequest, call: Call
    ) -> pb.ListRechargesResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=1)
        customer_id = _find_customer(request.customer_id)
        found = await operations.list_recharges(self._database, call.tenant_id, customer_id, page)
        more = len(found) > page.size
        found = found[: page.size]
        return pb.ListRechargesResponse(
            recharges=[render_recharge(recharge) for recharge in found],
            next_page_token=next_token(found[-1].recharge_id) if more else "",
        )


class AlertService:
    """Being told that a balance falls low."""

    def __init__(self, database: Database, scales: Scales) -> None:
        self._database = database
        self._scales = scales

    async def SetBalanceAlert(
        self, request: pb.SetBalanceAlertRequest, call: Call
    ) -> pb.SetBalanceAlertResponse:
        parse_request_id(request.request_id)
        scales = await self._scales.of(call.tenant_id, {request.threshold.asset})
        alert = parse_alert(request, scales)
        return await operations.set_alert(self._database, call, request, alert)

    async def SetSpendAlert(
        self, request: pb.SetSpendAlertRequest, call: Call
    ) -> pb.SetSpendAlertResponse:
        parse_request_id(request.request_id)
        scales = await self._scales.of(call.tenant_id, {request.asset})
        alert = parse_spend_alert(request, scales)
        return await set_spend_alert(self._database, call, request, alert)

    async def ListSpendAlerts(
        self, request: pb.ListSpendAlertsRequest, call: Call
    ) -> pb.ListSpendAlertsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=3)
        after = (operations.FIRST_ID, "", 0)
        if page.after:
            after = (page.after[0], page.after[1], int(page.after[2]))
        async with self._database.transaction(call.tenant_id) as tx:
            alerts = await spend_alerts.list_alerts(
                tx, call.tenant_id, find_id(request.wallet_id, "wallet_id"), after, page.size + 1
            )
        more = len(alerts) > page.size
        alerts = alerts[: page.size]
        token = ""
        if more:
            last = alerts[-1]
            token = next_token(last.wallet_id, last.asset, str(int(last.kind)))
        return pb.ListSpendAlertsResponse(
            alerts=[render_spend_alert(alert) for alert in alerts], next_page_token=token
        )

    async def ListBalanceAlerts(
        self, request: pb.ListBalanceAlertsRequest, call: Call
    ) -> pb.ListBalanceAlertsResponse:
        page = parse_page(request.page_size, request.page_token, key_parts=2)
        customer_id = _find_customer(request.customer_id)
        alerts = await operations.list_alerts(self._database, call.tenant_id, customer_id, page)
        more = len(alerts) > page.size
        alerts = alerts[: page.size]
        return pb.ListBalanceAlertsResponse(
            alerts=[render_alert(alert) for alert in alerts],
            next_page_token=next_token(alerts[-1].wallet_id, alerts[-1].asset) if more else "",
        )


def _find_customer(text: str) -> str:
    return parse_text(text, "customer_id", minimum=0, maximum=CUSTOMER_ID_MAX)
