"""What every request of the gateway is checked for before anything else is done with it."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.domain.card_data import CardDataRefused, holds_card_data


def refuse_card_data(message: Message, prefix: str = "", but: frozenset[str] = frozenset()) -> None:
    """Raise CardDataRefused where any text of a message, at any depth, reads as a card number.

    `but` are fields of its own that are checked elsewhere, by who knows more about them.
    """
    for descriptor, value in message.ListFields():
        name = f"{prefix}{descriptor.name}"
        if name in but:
            continue
        values = value if descriptor.is_repeated else (value,)
        for each in values:
            if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                refuse_card_data(each, f"{name}.")
            elif descriptor.type == FieldDescriptor.TYPE_STRING and holds_card_data(each):
                raise CardDataRefused(name)
