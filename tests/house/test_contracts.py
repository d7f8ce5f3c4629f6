"""Rules of the contracts: who may call, why one is refused, and that both are told."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from kernel.errors import Refusal
from tollgate.type.v1 import access_pb2
from tollgate.type.v1 import error_reason_pb2 as any_reasons

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("metering", "wallet", "invoicing", "gateway", "identity")
PROGRAMS = {*SERVICES, "operator", "portal", "integrations"}
SCOPE = re.compile(r"[a-z]+:[a-z]+")


def stubs(service: str) -> Iterator[ModuleType]:
    for path in sorted((ROOT / "protos" / "tollgate" / service / "v1").glob("*.proto")):
        yield importlib.import_module(f"tollgate.{service}.v1.{path.stem}_pb2")


def methods(service: str) -> Iterator[MethodDescriptor]:
    for module in stubs(service):
        file: FileDescriptor = module.DESCRIPTOR
        for contract in file.services_by_name.values():
            yield from contract.methods


def reasons_of(module: ModuleType) -> set[str]:
    names = module.ErrorReason.keys()
    return {name.removeprefix("ERROR_REASON_") for name in names} - {"UNSPECIFIED"}


def refusals_of(package: str) -> dict[str, type[Refusal]]:
    """Every refusal that is declared in a package, by reason."""
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not found.name.endswith("__main__") and ".versions" not in found.name:
            importlib.import_module(found.name)
    return {
        kind.reason: kind for kind in subclasses(Refusal) if kind.__module__.startswith(package)
    }


def subclasses(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("service", SERVICES)
def test_every_rpc_says_who_may_call_it(service: str) -> None:
    for method in methods(service):
        options = method.GetOptions()
        assert options.HasExtension(access_pb2.access), method.full_name
        access = options.Extensions[access_pb2.access]
        assert access.scopes or access.services, f"{method.full_name} is closed to everybody"
        assert set(access.services) <= PROGRAMS, method.full_name
        assert all(SCOPE.fullmatch(scope) for scope in access.scopes), method.full_name


@pytest.mark.parametrize("service", SERVICES)
def test_every_refusal_of_a_service_is_in_its_contract(service: str) -> None:
    declared = reasons_of(importlib.import_module(f"tollgate.{service}.v1.error_reason_pb2"))
    shared = reasons_of(any_reasons)
    undeclared = {
        f"{kind.__module__}.{kind.__name__}: {reason}"
        for reason, kind in refusals_of(service).items()
        if reason not in declared | shared
    }
    assert undeclared == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_in_a_contract_is_a_refusal_of_the_service(service: str) -> None:
    declared = reasons_of(importlib.import_module(f"tollgate.{service}.v1.error_reason_pb2"))
    raised = set(refusals_of(service)) | set(refusals_of("kernel")) | set(refusals_of("chassis"))
    raised |= set(refusals_of("rating"))
    assert declared - raised == set()


@pytest.mark.parametrize("service", SERVICES)
def test_what_changes_something_carries_a_key(service: str) -> None:
    """A request that creates, changes or moves has a request_id, itself or in each of its items."""
    changing = re.compile(
        r"^(Create|Set|Attach|Publish|Archive|Cancel|Start|Retry|Revoke|Advance|Post|Place|Capture)"
    )
    for method in methods(service):
        if not changing.match(method.name):
            continue
        fields = method.input_type.fields_by_name
        keyed = "request_id" in fields or any(
            field.message_type is not None and "request_id" in field.message_type.fields_by_name
            for field in fields.values()
        )
        assert keyed, method.full_name


@pytest.mark.parametrize("service", SERVICES)
def test_lists_are_paged(service: str) -> None:
    for method in methods(service):
        if method.name.startswith("List"):
            assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name), method.name
            assert "next_page_token" in method.output_type.fields_by_name, method.full_name


def test_no_contract_has_a_field_for_card_numbers() -> None:
    forbidden = re.compile(r"\b(card_number|pan|cvc|cvv|security_code)\b")
    for path in sorted((ROOT / "protos").rglob("*.proto")):
        fields = re.findall(
            r"^\s+(?:repeated |optional )?[\w.]+ (\w+) = \d+", path.read_text(), re.M
        )
        assert [name for name in fields if forbidden.search(name)] == [], path.name
