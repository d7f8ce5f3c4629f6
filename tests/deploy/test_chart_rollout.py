"""How each service's pods are run: replicas, rollout, placement, addresses, extras."""

from __future__ import annotations

from tests.deploy.rendering import (
    CHART,
    SERVICES,
    Document,
    by_kind,
    chart,
    containers,
    mode_values,
    overlay,
    pod_templates,
    render,
    render_files,
)


def _deployment(documents: list[Document], service: str, role: str = "serve") -> Document:
    return by_kind(documents, "Deployment")[f"t-tollgate-{service}-{role}"]


def test_both_roles_run_and_roll_without_a_gap() -> None:
    documents = render(mode_values("minimal"))
    assert len(by_kind(documents, "Deployment")) == 10
    for service in SERVICES:
        for role, replicas in (("serve", 2), ("work", 1)):
            spec = _deployment(documents, service, role)["spec"]
            assert spec["template"]["spec"]["containers"][0]["args"] == [role]
            assert spec["replicas"] == replicas
            assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
            budget = by_kind(documents, "PodDisruptionBudget")[f"t-tollgate-{service}-{role}"]
            assert budget["spec"]["maxUnavailable"] == 1
            assert budget["spec"]["selector"] == spec["selector"]


def test_every_selector_picks_its_own_pods_and_no_others() -> None:
    documents = render(mode_values("minimal"))
    pods = list(pod_templates(documents))
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        for name, document in by_kind(documents, kind).items():
            selector = document["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            picked = [p.owner for p in pods if wanted.items() <= p.labels.items()]
            assert len(picked) == 1, f"{kind}/{name}: {picked}"


def test_services_are_headless_and_name_their_protocol() -> None:
    documents = render(mode_values("minimal"))
    services = by_kind(documents, "Service")
    assert len(services) == len(SERVICES) + 1
    for service in SERVICES:
        spec = services[f"t-tollgate-{service}-headless"]["spec"]
        assert spec["clusterIP"] == "None"
        assert spec["ports"] == [
            {"name": "grpc", "port": 8443, "targetPort": "grpc",
             "appProtocol": "kubernetes.io/h2c"}
        ]  # fmt: skip
    # An ingress speaks HTTP/1.1 and balances by itself.
    assert services["t-tollgate-gateway-notifications"]["spec"]["ports"][0]["port"] == 8080


def test_an_autoscaled_workload_leaves_its_size_to_the_autoscaler() -> None:
    documents = render(mode_values("vpc"))
    scalers = by_kind(documents, "HorizontalPodAutoscaler")
    assert set(scalers) == {"t-tollgate-metering-serve"}
    spec = scalers["t-tollgate-metering-serve"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    assert "replicas" not in _deployment(documents, "metering")["spec"]
    assert _deployment(documents, "wallet")["spec"]["replicas"] == 3


def test_pods_spread_over_zones_hard_from_three_zones_on() -> None:
    for mode, zones in (("minimal", "ScheduleAnyway"), ("vpc", "DoNotSchedule")):
        for name, deployment in by_kind(render(mode_values(mode)), "Deployment").items():
            spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
            found = {s["topologyKey"]: s["whenUnsatisfiable"] for s in spread}
            assert found == {
                "topology.kubernetes.io/zone": zones,
                "kubernetes.io/hostname": "ScheduleAnyway",
            }, name
            for one in spread:
                assert one["labelSelector"] == deployment["spec"]["selector"], name


def test_placement_is_a_rows_own() -> None:
    documents = render(mode_values("vpc"))
    for pod in pod_templates(documents):
        placed = {k: pod.spec.get(k) for k in ("priorityClassName", "nodeSelector", "tolerations")}
        if pod.labels["app.kubernetes.io/component"] == "wallet":
            assert placed["priorityClassName"] == "billing-critical"
            assert placed["nodeSelector"] == {"pool": "billing"}
            assert placed["tolerations"][0]["effect"] == "NoSchedule"
        else:
            assert set(placed.values()) == {None}


def test_a_changed_setting_rolls_the_pods_that_read_it_and_no_others() -> None:
    def sums(values: Document) -> dict[str, str]:
        return {
            p.owner: p.annotations["checksum/settings"]
            for p in pod_templates(render(values))
            if p.kind == "Deployment"
        }

    before = sums(mode_values("minimal"))
    lanes = sums(overlay(mode_values("minimal"), {"services": {"wallet": {"lanes": 8}}}))
    changed = {owner for owner in before if before[owner] != lanes[owner]}
    assert changed == {"Deployment/t-tollgate-wallet-serve", "Deployment/t-tollgate-wallet-work"}
    # A secret is no setting: its name is in the pod itself, and its text is in no checksum.
    assert sums(overlay(mode_values("minimal"), {"serviceSecret": {"name": "other"}})) == before


def test_exactly_one_way_in_for_notifications() -> None:
    ways = {"minimal": set(), "vpc": {"Ingress"}, "airgap": {"HTTPRoute"}}
    for mode, wanted in ways.items():
        documents = render(mode_values(mode))
        found = {d["kind"] for d in documents} & {"Ingress", "HTTPRoute", "GRPCRoute"}
        assert found == wanted
    ingress = by_kind(render(mode_values("vpc")), "Ingress")["t-tollgate-gateway-notifications"]
    rule = ingress["spec"]["rules"][0]
    assert rule["host"] == "notifications.example.com"
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {
        "name": "t-tollgate-gateway-notifications",
        "port": {"name": "notifications"},
    }
    route = by_kind(render(mode_values("airgap")), "HTTPRoute")["t-tollgate-gateway-notifications"]
    assert route["spec"]["parentRefs"] == [
        {"name": "internal", "namespace": "gateways", "sectionName": "https"}
    ]
    assert route["spec"]["rules"][0]["backendRefs"] == [
        {"name": "t-tollgate-gateway-notifications", "port": 8080}
    ]


def test_a_pod_monitor_scrapes_every_metrics_port() -> None:
    documents = render(mode_values("vpc"))
    monitor = by_kind(documents, "PodMonitor")["t-tollgate"]["spec"]
    assert [e["port"] for e in monitor["podMetricsEndpoints"]] == ["metrics"]
    for pod in pod_templates(documents):
        ports = {p["name"] for c in containers(pod) for p in c.get("ports", [])}
        assert monitor["selector"]["matchLabels"].items() <= pod.labels.items()
        assert ("metrics" in ports) == (pod.kind == "Deployment"), pod.owner


def test_labels_and_annotations_of_ones_own_reach_every_object() -> None:
    notes = {"commonAnnotations": {"example.com/owner": "billing"}}
    for document in render(overlay(mode_values("vpc"), notes)):
        metadata = document["metadata"]
        assert metadata["labels"]["team"] == "billing", metadata["name"]
        assert metadata["annotations"]["example.com/owner"] == "billing", metadata["name"]


def test_what_an_operator_adds_reaches_the_pods_of_that_row_alone() -> None:
    added = {
        "extraEnv": [{"name": "OWN", "value": "1"}],
        "extraVolumes": [{"name": "own", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "own", "mountPath": "/own"}],
        "extraContainers": [{"name": "beside", "image": "registry.example.com/beside:1"}],
        "podLabels": {"own": "label"},
        "podAnnotations": {"own": "annotation"},
        "runtimeClassName": "sandboxed",
        "affinity": {"podAntiAffinity": {}},
    }
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}
    values = {"services": {"gateway": added}, "extraObjects": [own]}
    documents = render(overlay(mode_values("minimal"), values))
    assert own in documents
    for name, deployment in by_kind(documents, "Deployment").items():
        template = deployment["spec"]["template"]
        spec, first = template["spec"], template["spec"]["containers"][0]
        found = {
            "extraEnv": added["extraEnv"][0] in first["env"],
            "extraVolumes": added["extraVolumes"][0] in spec["volumes"],
            "extraVolumeMounts": added["extraVolumeMounts"][0] in first["volumeMounts"],
            "extraContainers": added["extraContainers"][0] in spec["containers"],
            "podLabels": template["metadata"]["labels"].get("own") == "label",
            "podAnnotations": template["metadata"]["annotations"].get("own") == "annotation",
            "runtimeClassName": spec.get("runtimeClassName") == "sandboxed",
            "affinity": spec.get("affinity") == added["affinity"],
        }
        assert set(found.values()) == {"gateway" in name}, (name, found)


def test_diagnostic_mode_sleeps_and_mounts_no_secret() -> None:
    documents = render(overlay(mode_values("minimal"), {"diagnosticMode": True}))
    for name, deployment in by_kind(documents, "Deployment").items():
        spec = deployment["spec"]["template"]["spec"]
        container = spec["containers"][0]
        assert "signal.pause()" in container["command"][-1], name
        assert not {"args", "livenessProbe", "readinessProbe", "startupProbe"} & set(container)
        assert {v["name"] for v in spec["volumes"]} == {"tmp"}, name
        assert not any("_FILE" in v["name"] for v in container.get("env", [])), name


def test_notes_tell_what_is_weaker_than_the_default_and_how_to_restore() -> None:
    def notes(values: Document) -> str:
        return render_files(values)["tollgate/templates/NOTES.txt"]

    calm = notes(mode_values("minimal"))
    assert "WARNING" not in calm
    assert "helm test t" in calm
    assert "Restore" in calm
    weaker = {"postgres": {"sslMode": "require"}, "networkPolicy": {"enabled": False}}
    assert notes(overlay(mode_values("minimal"), weaker)).count("WARNING") == 2


def test_the_helm_test_checks_every_service() -> None:
    documents = render(mode_values("minimal"))
    pods = by_kind(documents, "Pod")
    assert set(pods) == {f"t-tollgate-{service}-check" for service in SERVICES}
    for pod in pods.values():
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert pod["spec"]["containers"][0]["args"] == ["check"]


def test_the_chart_carries_no_registry_of_its_own() -> None:
    for row in chart().values["services"].values():
        assert row["image"]["registry"] == ""
    assert (CHART / "images.txt").read_text().count("/") == len(SERVICES)
