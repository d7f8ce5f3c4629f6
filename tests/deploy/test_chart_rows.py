"""What each service's row makes: images, secrets, settings, accounts, hooks."""

from __future__ import annotations

import pytest

from tests.deploy.rendering import (
    MODES,
    SERVICES,
    Document,
    by_kind,
    chart,
    containers,
    environment,
    mode_values,
    overlay,
    pod_templates,
    render,
    render_files,
)


def _deployment(documents: list[Document], service: str, role: str = "serve") -> Document:
    return by_kind(documents, "Deployment")[f"t-tollgate-{service}-{role}"]


def _images(documents: list[Document]) -> set[str]:
    return {c["image"] for pod in pod_templates(documents) for c in containers(pod)}


def test_the_default_image_is_the_charts_release() -> None:
    version = chart().metadata["appVersion"]
    wanted = {f"registry.example.com/tollgate/{service}:{version}" for service in SERVICES}
    assert _images(render(mode_values("minimal"))) == wanted


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    rows = {"services": {"wallet": {"image": {"tag": "1.2.3", "digest": digest}}}}
    images = _images(render(overlay(mode_values("minimal"), rows)))
    assert f"registry.example.com/tollgate/wallet@{digest}" in images
    assert not any("wallet:" in image for image in images)


def test_one_registry_re_homes_every_image_hooks_and_tests_included() -> None:
    images = _images(render(mode_values("airgap")))
    assert len(images) == len(SERVICES)
    assert {image.split("/")[0] for image in images} == {"mirror.internal:5000"}
    # Nothing else in any rendered file names another registry.
    text = "\n".join(render_files(mode_values("airgap")).values())
    assert "registry.example.com" not in text
    assert text.count("mirror.internal:5000/") == 20


def test_pull_secrets_come_from_the_release_and_the_row() -> None:
    rows = {"services": {"wallet": {"image": {"pullSecrets": ["own", "registry-login"]}}}}
    for pod in pod_templates(render(overlay(mode_values("vpc"), rows))):
        names = [s["name"] for s in pod.spec["imagePullSecrets"]]
        wallet = pod.labels["app.kubernetes.io/component"] == "wallet"
        assert names == (["registry-login", "own"] if wallet else ["registry-login"])


def _mounted(spec: Document) -> dict[str, tuple[str, str]]:
    """File name → (Secret, key) of a pod's secrets."""
    return {
        item["path"]: (source["secret"]["name"], item["key"])
        for volume in spec["volumes"]
        if volume["name"] == "secrets"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_program_mounts_its_own_secrets_and_no_others(mode: str) -> None:
    documents = render(mode_values(mode))
    redis = ("billing-redis", "redis-url") if mode == "vpc" else ("tollgate-redis", "url")
    for pod in pod_templates(documents):
        service = pod.labels["app.kubernetes.io/component"]
        if pod.labels["tollgate/role"] == "migrate":
            wanted = {"migrate_database_url": (f"tollgate-{service}-migrate", "url")}
        else:
            wanted = {
                "database_url": (f"tollgate-{service}-database", "url"),
                "redis_url": redis,
                "service_secret": ("tollgate-service-secret", "secret"),
            }
            if service == "identity":
                wanted["api_key_pepper"] = ("tollgate-api-key-pepper", "pepper")
        assert _mounted(pod.spec) == wanted, pod.owner
        told = {k: v for k, v in environment(documents, pod).items() if k.endswith("_FILE")}
        for certificates in ("SSL_CERT_FILE", "TOLLGATE_PROVIDER_CA_FILE"):
            told.pop(certificates, None)
        mount = "/var/run/secrets/tollgate"
        assert told == {f"TOLLGATE_{f.upper()}_FILE": f"{mount}/{f}" for f in wanted}, pod.owner


def test_names_and_keys_of_secrets_are_configurable() -> None:
    changes = {
        "redis": {"secret": {"name": "r", "key": "rk"}},
        "serviceSecret": {"name": "s", "key": "sk"},
        "apiKeyPepper": {"name": "p", "key": "pk"},
        "services": {"identity": {"databaseSecret": {"name": "d", "key": "dk"},
                                  "migrateSecret": {"name": "d", "key": "mk"}}},
    }  # fmt: skip
    documents = render(overlay(mode_values("minimal"), changes))
    assert _mounted(_deployment(documents, "identity")["spec"]["template"]["spec"]) == {
        "database_url": ("d", "dk"),
        "redis_url": ("r", "rk"),
        "service_secret": ("s", "sk"),
        "api_key_pepper": ("p", "pk"),
    }
    job = by_kind(documents, "Job")["t-tollgate-identity-migrate"]
    assert _mounted(job["spec"]["template"]["spec"]) == {"migrate_database_url": ("d", "mk")}


@pytest.mark.parametrize("mode", MODES)
def test_tls_to_postgres_is_fully_verified_unless_typed_out(mode: str) -> None:
    documents = render(mode_values(mode))
    root = "/etc/ssl/certs/ca-certificates.crt" if mode == "minimal" else "/etc/tollgate/ca/ca.crt"
    for pod in pod_templates(documents):
        variables = environment(documents, pod)
        assert variables["PGSSLMODE"] == "verify-full", pod.owner
        assert variables["PGSSLROOTCERT"] == root, pod.owner
    weaker = render(overlay(mode_values(mode), {"postgres": {"sslMode": "require"}}))
    for pod in pod_templates(weaker):
        assert environment(weaker, pod)["PGSSLMODE"] == "require", pod.owner


def test_the_ca_bundle_is_mounted_where_it_is_named() -> None:
    for pod in pod_templates(render(mode_values("vpc"))):
        volume = next(v for v in pod.spec["volumes"] if v["name"] == "ca")
        assert volume["configMap"] == {
            "name": "managed-postgres-ca",
            "items": [{"key": "bundle.pem", "path": "ca.crt"}],
        }
        mounts = {m["name"]: m["mountPath"] for m in pod.spec["containers"][0]["volumeMounts"]}
        assert mounts["ca"] == "/etc/tollgate/ca", pod.owner


def test_only_gateway_is_told_the_proxy() -> None:
    documents = render(mode_values("airgap"))
    told = {
        pod.labels["app.kubernetes.io/component"]
        for pod in pod_templates(documents)
        if environment(documents, pod).get("TOLLGATE_PROVIDER_PROXY")
        == "http://proxy.internal:3128"
    }
    assert told == {"gateway"}


def test_only_gateway_mounts_what_provider_accounts_name() -> None:
    def mounting(mode: str) -> set[str]:
        return {
            pod.owner
            for pod in pod_templates(render(mode_values(mode)))
            for volume in pod.spec["volumes"]
            if volume
            == {
                "name": "providers",
                "secret": {"secretName": "billing-providers", "defaultMode": 0o440},
            }
        }

    assert mounting("minimal") == set()
    wanted = {"Deployment/t-tollgate-gateway-serve", "Deployment/t-tollgate-gateway-work"}
    assert mounting("vpc") == wanted


def test_gateway_knows_the_address_that_providers_are_told() -> None:
    for mode, url in (("vpc", "https://notifications.example.com"), ("minimal", None)):
        settings = by_kind(render(mode_values(mode)), "ConfigMap")["t-tollgate-gateway"]["data"]
        assert settings.get("TOLLGATE_NOTIFICATIONS_URL") == url


def test_one_switch_makes_every_program_safe_behind_a_pooler() -> None:
    for mode, wanted in (("minimal", "direct"), ("vpc", "transaction")):
        documents = render(mode_values(mode))
        for pod in pod_templates(documents):
            if pod.labels["tollgate/role"] != "migrate":
                assert environment(documents, pod)["TOLLGATE_POOL_MODE"] == wanted, pod.owner


def test_each_service_has_its_own_account() -> None:
    documents = render(mode_values("vpc"))
    accounts = by_kind(documents, "ServiceAccount")
    for pod in pod_templates(documents):
        service = pod.labels["app.kubernetes.io/component"]
        suffix = "-migrate" if pod.labels["tollgate/role"] == "migrate" else ""
        assert pod.spec["serviceAccountName"] == f"t-tollgate-{service}{suffix}", pod.owner
        assert pod.spec["serviceAccountName"] in accounts
    told = accounts["t-tollgate-gateway"]["metadata"]["annotations"]
    assert told["example.com/workload-identity"] == "gateway"


@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
def test_migrations_are_hooks_and_what_they_need_comes_earlier(upgrade: bool) -> None:
    documents = render(mode_values("minimal"), upgrade=upgrade)
    for service in SERVICES:
        name = f"t-tollgate-{service}-migrate"
        weights = {}
        for kind in ("ServiceAccount", "ConfigMap", "NetworkPolicy", "Job"):
            notes = by_kind(documents, kind)[name]["metadata"]["annotations"]
            assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
            # Hooks are outside the release's inventory: without this, an upgrade would collide.
            assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation"
            weights[kind] = int(notes["helm.sh/hook-weight"])
        assert weights == {"ServiceAccount": -5, "ConfigMap": -5, "NetworkPolicy": -5, "Job": 0}
        job = by_kind(documents, "Job")[name]["spec"]
        assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (3, 900)
        assert job["ttlSecondsAfterFinished"] == 3600
        pod = job["template"]["spec"]
        assert pod["containers"][0]["args"] == ["migrate"]
        assert pod["restartPolicy"] == "Never"
        # Everything that the Job's pod mounts or names is a hook too, or exists before.
        assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": name}}]
