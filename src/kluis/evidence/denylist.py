"""Product lines with known breaks that no TCB version shows: a dated list that a policy can refuse.

A verifier cannot detect these: evidence from a broken platform is authentic. The list is a data file next to
this module, with a source and a date for each entry. A relying party that needs newer entries lists the
platforms it accepts instead.
"""

from __future__ import annotations

import dataclasses
import enum
import pkgutil
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import Claims, Tee
from kluis.frozen import frozen

_FMSPC_MODEL = slice(2, 6)
# Not kept out of an enclave in a machine, in addition to what the machine's level lets in.
GUEST = ("an active root in the machine, its kernel, and anyone who may log in there",)


class Access(enum.StrEnum):
    """The access that an attacker needs, least first."""

    SOFTWARE = "software"
    MODULE = "module"
    BUS = "bus"


@frozen(kw_only=True)
class Entry:
    """One known break of a product line.

    Attributes:
        id: stable, for policies and people.
        title: one line.
        tees: of the affected evidence.
        products: by the vendor's name; empty together with ``models`` means all.
        models: of Intel's, digits 3 to 6 of the FMSPC.
        access: what an attacker needs.
        memory: the affected generation of memory, such as ``DDR4``, or empty.
        published: when.
        source: where.
        effect: what an attacker gains.
        fix: what a relying party, or the platform's owner, can do against it.
        snp: by product, the lowest SNP version with a fix; empty if no version has one.
        alias_check: fixed if the platform states that it checked for aliases.
    """

    id: str
    title: str
    tees: tuple[Tee, ...]
    products: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    access: Access
    memory: str = ""
    published: date
    source: str
    effect: str
    fix: str
    snp: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alias_check: bool = False

    def names(self, claims: Claims) -> bool:
        """Whether it concerns the platform of ``claims``, not including the parts of composite evidence."""
        if claims.tee not in self.tees:
            return False
        product = claims.platform.product
        if self.products or self.models:
            model = product.upper()[_FMSPC_MODEL]
            if product not in self.products and model not in self.models:
                return False
        return not self._is_fixed(product, claims)

    def _is_fixed(self, product: str, claims: Claims) -> bool:
        if not self.snp and not self.alias_check:
            return False
        from kluis.evidence.amd.claims import SnpClaims  # most evidence is not AMD's

        vendor = claims.vendor
        if not isinstance(vendor, SnpClaims):
            return False
        if self.alias_check and vendor.platform_info.alias_check_complete:
            return True
        least = self.snp.get(product)
        return least is not None and vendor.reported_tcb.snp >= least


def match(claims: Claims) -> tuple[Entry, ...]:
    """The entries for this platform, including those for the parts of composite evidence.

    Breaks that need an interposer on the memory bus are left out, because they affect every product.
    :func:`match_bus` returns them, for relying parties that do not trust those with physical access to the
    machine.
    """
    return tuple(entry for entry in _matching(claims) if entry.access is not Access.BUS)


def match_bus(claims: Claims) -> tuple[Entry, ...]:
    """The entries for this platform that need an interposer on its memory bus."""
    return tuple(entry for entry in _matching(claims) if entry.access is Access.BUS)


def not_kept_out(claims: Claims) -> tuple[str, ...]:
    """What the protection level does not keep out, and the known breaks of this platform."""
    known = match(claims) + match_bus(claims)
    inside = GUEST if claims.machine else ()
    return (*MEANINGS[claims.level].lets_in, *inside, *(f"{each.title} ({each.id})" for each in known))


def entries() -> tuple[Entry, ...]:
    """All entries."""
    return _load()[1]


def reviewed_on() -> date:
    """The day on which the list was last reviewed."""
    return _load()[0]


def _matching(claims: Claims) -> Iterator[Entry]:
    # What endorses an enclave's root is judged in its place: the emulated platform inside is no product.
    claims = claims.machine.claims if claims.machine else claims
    parts = [claims, *_parts(claims)]
    return (entry for entry in entries() if any(entry.names(part) for part in parts))


def _parts(claims: Claims) -> Iterator[Claims]:
    """The claims of the parts of composite evidence."""
    for field in dataclasses.fields(claims.vendor):
        value = getattr(claims.vendor, field.name)
        if isinstance(value, Claims):
            yield value


@lru_cache(maxsize=1)
def _load() -> tuple[date, tuple[Entry, ...]]:
    data = pkgutil.get_data(__package__, "denylist.toml") or b""
    document = tomllib.loads(data.decode())
    return document["listed"], tuple(map(_entry, document["entry"]))


def _entry(fields: dict[str, Any]) -> Entry:
    return Entry(
        **{
            **fields,
            "tees": tuple(map(Tee, fields["tees"])),
            "products": tuple(fields.get("products", ())),
            "models": tuple(fields.get("models", ())),
            "access": Access(fields["access"]),
        }
    )
