"""The mapping file: which column is what, what is metered, what it costs, who starts with what.

`docs/howto/replay-a-file.md` describes every key. A key that is not known, or a value that cannot
be what it must, is refused with its path, before anything is fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kernel.errors import InvalidValue
from kernel.money import parse_atoms, parse_decimal
from kernel.period import parse_zone
from rating import parse_price
from tollgate.metering.v1 import meter_pb2
from tollgate_cli.catalog_file import parse_meter

FORMATS = ("csv", "jsonl", "cloudevents")
CLOUD_EVENTS = "cloudevents"
CLOUD_EVENT_COLUMNS = {
    "name": {"column": "type"},
    "time": {"column": "time"},
    "id": "id",
    "customer": {"column": "subject"},
}
SETTLEMENTS = ("WALLET", "INVOICE")
GROUPS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where a field's value comes from: a column of the row, or a constant."""

    column: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerRule:
    """Who is billed for a row: named by a column, or assigned by a rule."""

    column: str | None = None
    single: str | None = None
    round_robin: int | None = None  # row n goes to customer n mod this
    hash_of: str | None = None  # rows with the same value go to the same customer …
    into: int | None = None  # … of this many
    prefix: str = "customer-"


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """One meter to create."""

    code: str
    value_property: str
    message: meter_pb2.Meter


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """One asset to create."""

    code: str
    scale: int
    kind: str


@dataclass(frozen=True, slots=True)
class PriceSpec:
    """One price; every customer is subscribed to all of them."""

    code: str
    meter: str
    dimensions: Mapping[str, str]
    settlement: str
    pricing: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """What wallets start with: every customer's, or the named ones'."""

    asset: str
    amount: str
    customers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageMapping:
    """A whole mapping file, parsed."""

    format: str
    delimiter: str
    event_name: Source
    time: Source
    time_zone: str
    time_format: str | None
    event_id: str | None  # a column; None: one id per row of the file, the same at every replay
    subject: Source | None
    customer: CustomerRule
    properties: Mapping[str, Source]
    gate_share: str
    assets: tuple[AssetSpec, ...]
    meters: tuple[MeterSpec, ...]
    prices: tuple[PriceSpec, ...]
    opening_balances: tuple[OpeningBalance, ...]


def load(path: Path, stated_format: str | None = None) -> UsageMapping:
    """Read and check a mapping file; raises InvalidValue naming the key and the reason.

    `stated_format` stands in the place of the file's own.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValue(str(path), error.strerror or "cannot be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" near line {line + 1}" if line is not None else ""
        raise InvalidValue(str(path), f"is not valid YAML{where}") from error
    if stated_format is not None and isinstance(document, dict):
        document = {**document, "format": _choice(stated_format, "--format", FORMATS)}
    return parse(document)


def parse(document: object) -> UsageMapping:
    """Check a mapping that was read from YAML."""
    top = _table(document, "mapping")
    _known(
        top,
        "mapping",
        ("format", "delimiter", "event", "gate_share", "assets", "meters", "prices",
         "opening_balances"),
    )  # fmt: skip
    file_format = _choice(top.get("format", "csv"), "format", FORMATS)
    if file_format == CLOUD_EVENTS:
        # They say themselves what their parts mean; see kernel.cloud_events.
        if "event" in top:
            raise InvalidValue("event", "is not taken with CloudEvents, which name their parts")
        top = {**top, "event": CLOUD_EVENT_COLUMNS}
    event = _table(top.get("event"), "event")
    _known(event, "event", ("name", "time", "id", "subject", "customer", "properties"))
    time = _table(event.get("time"), "event.time")
    _known(time, "event.time", ("column", "zone", "format"))
    zone = str(time.get("zone", "UTC"))
    parse_zone(zone, "event.time.zone")
    assets = tuple(_asset(entry, f"assets[{i}]") for i, entry in _entries(top, "assets"))
    meters = tuple(_meter(entry, f"meters[{i}]") for i, entry in _entries(top, "meters"))
    prices = tuple(_price(entry, f"prices[{i}]", i) for i, entry in _entries(top, "prices"))
    balances = tuple(
        _balance(entry, f"opening_balances[{i}]") for i, entry in _entries(top, "opening_balances")
    )
    mapping = UsageMapping(
        format=file_format,
        delimiter=_text(top.get("delimiter", ","), "delimiter"),
        event_name=_source(event.get("name"), "event.name", constant=True),
        time=Source(column=_text(time.get("column"), "event.time.column")),
        time_zone=zone,
        time_format=None if "format" not in time else _text(time["format"], "event.time.format"),
        event_id=None if "id" not in event else _text(event["id"], "event.id"),
        subject=None if "subject" not in event else _source(event["subject"], "event.subject"),
        customer=_customer(event.get("customer"), "event.customer"),
        properties={
            str(name): _source(entry, f"event.properties.{name}")
            for name, entry in _table(event.get("properties", {}), "event.properties").items()
        },
        gate_share=_share(top.get("gate_share", "0")),
        assets=assets,
        meters=meters,
        prices=prices,
        opening_balances=balances,
    )
    _cross_check(mapping)
    return mapping


def _cross_check(mapping: UsageMapping) -> None:
    """What one part of the mapping says of another must be there."""
    if not mapping.meters:
        raise InvalidValue("meters", "at least one is needed")
    meters = {meter.code for meter in mapping.meters}
    assets = {asset.code: asset for asset in mapping.assets}
    for i, meter in enumerate(mapping.meters):
        if mapping.format == CLOUD_EVENTS:
            continue
        for field, name in (
            ("value_property", meter.value_property),
            ("operation_property", meter.message.operation_property),
            *(("property_types", name) for name in meter.message.property_types),
        ):
            if name and name not in mapping.properties:
                raise InvalidValue(
                    f"meters[{i}].{field}", f"{name!r} is not among event.properties"
                )
    for i, price in enumerate(mapping.prices):
        if price.meter not in meters:
            raise InvalidValue(f"prices[{i}].meter", f"there is no meter {price.meter!r}")
        if price.pricing["asset"] not in assets:
            raise InvalidValue(
                f"prices[{i}].pricing.asset", f"there is no asset {price.pricing['asset']!r}"
            )
    for i, balance in enumerate(mapping.opening_balances):
        if balance.asset not in assets:
            raise InvalidValue(f"opening_balances[{i}].asset", f"no asset {balance.asset!r}")
        scale = assets[balance.asset].scale
        if parse_atoms(balance.amount, scale, f"opening_balances[{i}].amount") == 0:
            raise InvalidValue(f"opening_balances[{i}].amount", "must be more than zero")


def _asset(entry: Mapping[str, Any], path: str) -> AssetSpec:
    _known(entry, path, ("code", "scale", "kind"))
    scale = entry.get("scale", 9)
    if not isinstance(scale, int) or isinstance(scale, bool) or not 0 <= scale <= 18:
        raise InvalidValue(f"{path}.scale", f"{scale!r} is not a whole number from 0 to 18")
    kind = _choice(entry.get("kind", "CURRENCY"), f"{path}.kind", ("CURRENCY", "UNIT"))
    return AssetSpec(_text(entry.get("code"), f"{path}.code"), scale, kind)


def _meter(entry: Mapping[str, Any], path: str) -> MeterSpec:
    """A meter, with the fields of the API: "LAST" for AGGREGATION_LAST, and so on."""
    meter = parse_meter(_texts(entry), path)
    code = _text(meter.code, f"{path}.code")
    _text(meter.event_name, f"{path}.event_name")
    if not meter.aggregation:
        allowed = ", ".join(
            name.removeprefix("AGGREGATION_") for name in meter_pb2.Aggregation.keys()[1:]
        )
        raise InvalidValue(f"{path}.aggregation", f"is required: one of {allowed}")
    says = bool(meter.value_property or meter.value_expression)
    if (meter.aggregation == meter_pb2.AGGREGATION_COUNT) == says:
        kind = meter_pb2.Aggregation.Name(meter.aggregation).removeprefix("AGGREGATION_")
        why = "must be absent with COUNT" if says else f"is needed with {kind}"
        raise InvalidValue(f"{path}.value_property", why)
    meter.name = meter.name or code
    return MeterSpec(code, meter.value_property, meter)


def _texts(value: Any) -> Any:
    """The same with every number as text, which the messages read exactly."""
    if isinstance(value, Mapping):
        return {str(name): _texts(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _price(entry: Mapping[str, Any], path: str, index: int) -> PriceSpec:
    _known(entry, path, ("code", "meter", "dimensions", "settlement", "pricing"))
    pricing = _table(entry.get("pricing"), f"{path}.pricing")
    try:
        parse_price(pricing)
    except InvalidValue as error:
        raise error.inside(f"{path}.pricing") from None
    meter = _text(entry.get("meter"), f"{path}.meter")
    dimensions = _table(entry.get("dimensions", {}), f"{path}.dimensions")
    return PriceSpec(
        str(entry.get("code", f"{meter}-{index + 1}")),
        meter,
        {str(name): str(value) for name, value in dimensions.items()},
        _choice(entry.get("settlement", "WALLET"), f"{path}.settlement", SETTLEMENTS),
        pricing,
    )


def _balance(entry: Mapping[str, Any], path: str) -> OpeningBalance:
    _known(entry, path, ("asset", "amount", "customers"))
    amount = str(entry.get("amount", ""))
    parse_decimal(amount, f"{path}.amount")
    customers = entry.get("customers", [])
    if not isinstance(customers, list):
        raise InvalidValue(f"{path}.customers", "must be a list of customers")
    return OpeningBalance(
        _text(entry.get("asset"), f"{path}.asset"), amount, tuple(str(c) for c in customers)
    )


def _customer(entry: object, path: str) -> CustomerRule:
    table = _table(entry, path)
    _known(table, path, ("column", "single", "round_robin", "hash_of", "into", "prefix"))
    ways = [name for name in ("column", "single", "round_robin", "hash_of") if name in table]
    if len(ways) != 1:
        raise InvalidValue(path, "needs exactly one of column, single, round_robin, hash_of")
    if ("hash_of" in table) != ("into" in table):
        raise InvalidValue(path, "hash_of and into go together")
    for name in ("round_robin", "into"):
        number = table.get(name, 1)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= GROUPS_MAX:
            raise InvalidValue(f"{path}.{name}", f"{number!r} is not from 1 to {GROUPS_MAX}")
    return CustomerRule(
        column=table.get("column"),
        single=table.get("single"),
        round_robin=table.get("round_robin"),
        hash_of=table.get("hash_of"),
        into=table.get("into"),
        prefix=str(table.get("prefix", "customer-")),
    )


def _source(entry: object, path: str, *, constant: bool = False) -> Source:
    """A column's name, or {column: …}, or {value: …}; a bare name is a constant where said so."""
    if isinstance(entry, str):
        return Source(value=entry) if constant else Source(column=entry)
    table = _table(entry, path)
    _known(table, path, ("column", "value"))
    if len(table) != 1:
        raise InvalidValue(path, "needs a column or a value")
    if "column" in table:
        return Source(column=_text(table["column"], f"{path}.column"))
    return Source(value=str(table["value"]))


def _share(value: object) -> str:
    text = str(value)
    if parse_decimal(text, "gate_share") > 1:
        raise InvalidValue("gate_share", f"{text} is more than 1")
    return text


def _entries(top: Mapping[str, Any], name: str) -> Sequence[tuple[int, Mapping[str, Any]]]:
    listed = top.get(name, [])
    if not isinstance(listed, list):
        raise InvalidValue(name, "must be a list")
    return [(i, _table(entry, f"{name}[{i}]")) for i, entry in enumerate(listed)]


def _table(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue(path, "is missing" if value is None else "must be a table of keys")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue(path, "is missing" if value in (None, "") else f"{value!r} is not text")
    return value


def _choice(value: object, path: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InvalidValue(path, f"{value!r} is none of {', '.join(choices)}")
    return str(value)


def _known(table: Mapping[str, Any], path: str, names: Sequence[str]) -> None:
    for name in table:
        if name not in names:
            raise InvalidValue(f"{path}.{name}", f"is not known; known are {', '.join(names)}")
