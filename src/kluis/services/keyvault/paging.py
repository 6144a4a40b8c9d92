"""Lists in pages: the link to the next page contains a token that only this vault can make."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from kluis.formats.encoding import b64
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.octets import decode_base64
from kluis.services.keyvault.vault.vault import Vault

MOST: Final = 25
_CODE: Final = 16
T = TypeVar("T")


class Page(NamedTuple, Generic[T]):
    """A part of a list, and the token for the rest; None at its end."""

    several: list[T]
    token: str | None


def most_results(query: Mapping[str, str], most: int = MOST) -> int:
    """The page size that a client requests.

    Raises:
        BadParameter: not 1 to ``most``.
    """
    text = query.get("maxresults", str(most))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= most):
        raise BadParameter(f"maxresults: want 1 to {most}, got {text[:16]!a}")
    return int(text)


def page(
    vault: Vault,
    listing: str,
    every: Callable[[str], Iterable[T]],
    place: Callable[[T], str],
    query: Mapping[str, str],
) -> Page[T]:
    """One page of a list.

    Args:
        vault: makes and checks tokens.
        listing: identifies the list: a token for one list is not valid for another.
        every: returns the items after a place, in order of ``place``; "" is before all.
        place: the sort key of an item.
        query: may have ``maxresults`` and ``$skiptoken``.

    Raises:
        BadParameter: a token that this vault did not make for this list.
    """
    most = most_results(query)
    token = query.get("$skiptoken")
    after = "" if token is None else _read(vault, listing, token)
    several: list[T] = []
    for each in every(after):
        if len(several) == most:
            return Page(several, _write(vault, listing, place(several[-1])))
        several.append(each)
    return Page(several, None)


def _write(vault: Vault, listing: str, last: str) -> str:
    return b64.encode_url(_code(vault, listing, last) + last.encode())


def _read(vault: Vault, listing: str, token: str) -> str:
    data = decode_base64(token, "$skiptoken", most=1024)
    last = data[_CODE:].decode("utf-8", "replace")
    if not hmac.compare_digest(_code(vault, listing, last), data[:_CODE]):
        raise BadParameter("$skiptoken: want one of this list's own, got another")
    return last


def _code(vault: Vault, listing: str, last: str) -> bytes:
    key = vault.derive_key("skip tokens")
    return hmac.digest(key, f"{len(listing)}:{listing}{last}".encode("utf-8", "replace"), "sha256")[:_CODE]
