"""What was recognised, as values for ``--json``: bytes as hex, times in UTC."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kluis.evidence.sniff import Found
from kluis.formats import x509
from kluis.views.fields import Fields, fields, key_of, plain
from kluis.views.values import zulu

_MOST_ITEMS: Final = 64


def value(recognised: Found) -> Fields:
    """What was recognised, for JSON: its type and its fields in one object."""
    return {
        "kind": recognised.name,
        "size": recognised.size,
        "armor": [each.value for each in recognised.armor],
        "fields": json(fields(recognised.value)),
        "within": {label: value(each) for label, each in recognised.within},
    }


def json(item: Any) -> Any:
    """A field as JSON has it: bytes as hex, times in UTC, structures as objects, at most 64 items of each."""
    match item:
        case bytes() | bytearray():
            return bytes(item).hex()
        case datetime():
            return zulu(item)
        case enum.Enum():
            return item.name
        case bool() | int() | str() | None:
            return item
        case Mapping():
            return {
                str(getattr(key, "label", key)): json(each) for key, each in list(item.items())[:_MOST_ITEMS]
            }
        case list() | tuple() | frozenset():
            return [json(each) for each in list(item)[:_MOST_ITEMS]]
        case x509.PublicKey():
            return json(key_of(item))
        case _ if dataclasses.is_dataclass(item):
            return json(plain(item))
        case _:
            return str(item)
