"""The network policies allow the pairs of the table, each of them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.rendering import (
    MODES,
    ROOT,
    SERVICES,
    Document,
    by_kind,
    mode_values,
    overlay,
    pod_templates,
    render,
)

# Who may call whom on the gRPC port: the table of the design, for the services there are.
CALLS = {
    ("metering", "wallet"),
    ("metering", "invoicing"),
    ("metering", "identity"),
    ("invoicing", "wallet"),
    ("invoicing", "gateway"),
    ("invoicing", "metering"),
    ("invoicing", "identity"),
    ("gateway", "identity"),
    ("wallet", "identity"),
}


def _matches(selector: Document, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True


def _rules(documents: list[Document], labels: dict[str, str], way: str) -> Iterator[Document]:
    for policy in by_kind(documents, "NetworkPolicy").values():
        if _matches(policy["spec"]["podSelector"], labels):
            yield from policy["spec"].get(way) or []


def _pods(documents: list[Document]) -> dict[tuple[str, str], dict[str, str]]:
    """Labels of every pod, by service and role."""
    return {
        (p.labels["app.kubernetes.io/component"], p.labels["tollgate/role"]): p.labels
        for p in pod_templates(documents)
    }


def _inside(peers: list[Document], labels: dict[str, str]) -> bool:
    """Whether a rule's peers name this pod of the release itself."""
    return any(
        set(peer) == {"podSelector"} and _matches(peer["podSelector"], labels) for peer in peers
    )


def _opened(
    documents: list[Document], source: dict[str, str], target: dict[str, str], port: str
) -> bool:
    """Both ends must agree: the source's egress and the target's ingress, on that port."""
    out = any(
        _inside(rule["to"], target) and any(p["port"] == port for p in rule["ports"])
        for rule in _rules(documents, source, "egress")
    )
    into = any(
        _inside(rule["from"], source) and any(p["port"] == port for p in rule["ports"])
        for rule in _rules(documents, target, "ingress")
    )
    assert out == into, f"one-sided: {source} -> {target}"
    return out and into


@pytest.mark.parametrize("mode", MODES)
def test_exactly_the_pairs_of_the_table_may_call(mode: str) -> None:
    documents = render(mode_values(mode))
    pods = _pods(documents)
    allowed = {
        (source, target)
        for source in pods
        for target in pods
        if source != target and _opened(documents, pods[source], pods[target], "grpc")
    }
    # A service's check tries the connections that its programs have.
    roles = ("serve", "work", "check")
    assert allowed == {
        ((caller, role), (called, "serve")) for caller, called in CALLS for role in roles
    }


def test_every_pod_is_under_default_deny() -> None:
    documents = render(mode_values("minimal"))
    deny = by_kind(documents, "NetworkPolicy")["t-tollgate-default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for labels in _pods(documents).values():
        assert _matches(deny["podSelector"], labels)


def test_no_rule_is_open_to_anybody() -> None:
    """An empty peer or an empty port list would mean anyone and anything."""
    for mode in MODES:
        for name, policy in by_kind(render(mode_values(mode)), "NetworkPolicy").items():
            for way, side in (("ingress", "from"), ("egress", "to")):
                for rule in policy["spec"].get(way) or []:
                    assert rule[side], name
                    assert rule["ports"], name
                    assert all(peer for peer in rule[side]), name


def test_health_is_open_in_the_cluster_and_metrics_to_prometheus_alone() -> None:
    documents = render(mode_values("vpc"))
    prometheus = mode_values("vpc")["networkPolicy"]["prometheus"]
    for (service, role), labels in _pods(documents).items():
        by_port: dict[object, list[Any]] = {}
        for rule in _rules(documents, labels, "ingress"):
            for port in rule["ports"]:
                by_port.setdefault(port["port"], []).extend(rule["from"])
        if role == "migrate":
            assert by_port == {}, service
            continue
        assert by_port["health"] == [{"namespaceSelector": {}}]
        assert by_port["metrics"] == prometheus
        # From outside the release, the gRPC port opens to the platform's namespaces alone.
        outside = [p for p in by_port.get("grpc", []) if set(p) != {"podSelector"}]
        wanted = mode_values("vpc")["networkPolicy"]["platformNamespaces"]
        assert outside == (wanted if role == "serve" else [])


def _ways_out(documents: list[Document], labels: dict[str, str]) -> set[tuple[str, object]]:
    """(address, port) of every egress to an address block."""
    return {
        (peer["ipBlock"]["cidr"], port["port"])
        for rule in _rules(documents, labels, "egress")
        for peer in rule["to"]
        if "ipBlock" in peer
        for port in rule["ports"]
    }


def test_only_gateway_gets_out_to_the_providers_and_the_proxy() -> None:
    documents = render(mode_values("vpc"))
    stores = {("10.20.0.0/24", 6432), ("10.20.0.0/24", 5432), ("10.20.1.0/24", 6380)}
    for (service, role), labels in _pods(documents).items():
        out = _ways_out(documents, labels)
        if role == "migrate":
            assert out == {("10.20.0.0/24", 6432), ("10.20.0.0/24", 5432)}, service
        elif service == "gateway":
            assert out == stores | {("0.0.0.0/0", 443)}
        else:
            assert out == stores, service
    proxied = render(mode_values("airgap"))
    through = {s for (s, _), labels in _pods(proxied).items()
               if ("192.168.12.5/32", 3128) in _ways_out(proxied, labels)}  # fmt: skip
    assert through == {"gateway"}


def test_only_identity_reaches_the_login_provider() -> None:
    login = {"networkPolicy": {"loginProvider": [{"ipBlock": {"cidr": "203.0.113.7/32"}}]}}
    documents = render(overlay(mode_values("minimal"), login))
    reach = {
        (service, role)
        for (service, role), labels in _pods(documents).items()
        if ("203.0.113.7/32", 443) in _ways_out(documents, labels)
    }
    assert reach == {("identity", "serve"), ("identity", "work"), ("identity", "check")}


def test_notifications_come_in_to_gateway_from_the_edge_alone() -> None:
    documents = render(mode_values("vpc"))
    edge = mode_values("vpc")["networkPolicy"]["edge"]
    for (service, role), labels in _pods(documents).items():
        peers = [
            peer
            for rule in _rules(documents, labels, "ingress")
            for peer in rule["from"]
            if any(p["port"] == "notifications" for p in rule["ports"])
        ]
        assert peers == (edge if (service, role) == ("gateway", "serve") else []), service


def test_every_pod_may_ask_dns() -> None:
    documents = render(mode_values("minimal"))
    for owner, labels in _pods(documents).items():
        ports = {
            (p["port"], p["protocol"])
            for rule in _rules(documents, labels, "egress")
            for p in rule["ports"]
        }
        assert {(53, "UDP"), (53, "TCP")} <= ports, owner


def test_the_policies_and_the_addresses_agree() -> None:
    """A program is told the addresses of exactly the peers it may call."""
    documents = render(mode_values("minimal"))
    for service in SERVICES:
        settings = by_kind(documents, "ConfigMap")[f"t-tollgate-{service}"]["data"]
        peers = dict(p.split("=") for p in settings.get("TOLLGATE_PEERS", "").split(",") if p)
        assert set(peers) == {called for caller, called in CALLS if caller == service}
        for peer, address in peers.items():
            assert address == f"t-tollgate-{peer}-headless.billing.svc:8443"
            assert f"t-tollgate-{peer}-headless" in by_kind(documents, "Service")


def test_services_call_nobody_that_the_table_leaves_out() -> None:
    """Read from the code: every peer that a service opens a channel to is one it may reach."""
    seen = 0
    for service in SERVICES:
        for source in (ROOT / "services" / service).rglob("*.py"):
            for called in re.findall(r"""channel\(\s*["'](\w+)["']""", source.read_text()):
                assert (service, called) in CALLS, source
                seen += 1
    assert seen > 0


def test_policies_can_be_left_to_a_mesh() -> None:
    documents = render(overlay(mode_values("minimal"), {"networkPolicy": {"enabled": False}}))
    assert by_kind(documents, "NetworkPolicy") == {}
