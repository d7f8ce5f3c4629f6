"""Price documents as protobuf messages: the same field names, enum values without their prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict

from rating import parse_price, render_price
from tollgate.type.v1 import price_pb2


def price_message(document: Mapping[str, Any]) -> price_pb2.Price:
    """The message of a price document; raises InvalidValue naming the field that is wrong."""
    written = render_price(parse_price(document))  # every spelling that is read, written one way
    return ParseDict(_prefixed(written, price_pb2.Price.DESCRIPTOR), price_pb2.Price())


def _prefixed(document: Mapping[str, Any], message: Descriptor) -> dict[str, Any]:
    """The document with full enum names, which is what protobuf reads."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        field = message.fields_by_name[name]
        if field.enum_type is not None:
            prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            several = isinstance(value, list)
            found[name] = [prefix + one for one in value] if several else prefix + value
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            found[name] = value
        elif isinstance(value, list):
            found[name] = [_prefixed(item, field.message_type) for item in value]
        else:
            found[name] = _prefixed(value, field.message_type)
    return found
