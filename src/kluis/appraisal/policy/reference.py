"""Reference values: accepted measurements and registers that come from a publisher, not from a policy.

    version = 1
    [[values]]
    tee = "snp"
    name = "release 4.2"
    measurements = ["<hex>"]
    registers = { rtmr1 = ["<hex>"] }

A policy contains ``"reference"`` where it requires them. If none are given for the TEE, that requirement is
not met.

Spec: RFC 9334, "Reference Values"; draft-ietf-rats-corim.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from kluis.appraisal.policy.model import ByTable, Policy, Release
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.toml_tables import Table, parse
from kluis.appraisal.policy.wants import OneOf, Referenced, Want
from kluis.errors import FormatError, FreshnessError, UnsupportedError, UsageError
from kluis.evidence.model import Tee
from kluis.formats.ietf import cose
from kluis.formats.ietf.corim import Corim, Measurement
from kluis.frozen import frozen

WHAT: Final = "reference values"
MAX_SIZE: Final = 1 << 20
MAX_DIGEST: Final = 64
REGISTER: Final = re.compile(r"[a-z]{1,8}[0-9]{1,3}", re.ASCII)
# The name of a manifest's register number, or of its measurement, in each TEE's evidence.
PREFIXES: Final = {Tee.TDX: "rtmr", Tee.NITRO: "pcr", Tee.TPM: "pcr", Tee.AZURE: "pcr", Tee.CCA: "rem"}
MODELS: Final = {
    **{str(tee): tee for tee in Tee},
    "sev-snp": Tee.SNP,
    "nitro-enclaves": Tee.NITRO,
    "arm-cca": Tee.CCA,
}


@frozen(kw_only=True)
class References:
    """The reference values for one TEE's evidence.

    Attributes:
        measurements: accepted values.
        registers: accepted values by register name.
        names: of the releases.
        parts: the values of each release that this combines; empty if it is a single release.
    """

    measurements: frozenset[bytes] = frozenset()
    registers: Mapping[str, frozenset[bytes]] = dataclasses.field(default_factory=dict)
    names: frozenset[str] = frozenset()
    parts: tuple[References, ...] = dataclasses.field(default=(), compare=False)

    @classmethod
    def join(cls, several: Iterable[References]) -> References:
        """Combine them: evidence may match any one of them, as a whole."""
        parts = tuple(part for each in several for part in each.parts or (each,))
        registers: dict[str, set[bytes]] = {}
        for part in parts:
            for name, values in part.registers.items():
                registers.setdefault(name, set()).update(values)
        return cls(
            measurements=frozenset[bytes]().union(*(part.measurements for part in parts)),
            registers=MappingProxyType({name: frozenset(values) for name, values in registers.items()}),
            names=frozenset[str]().union(*(part.names for part in parts)),
            parts=parts if len(parts) > 1 else (),
        )

    def release(self, keys: Collection[str]) -> Release | None:
        """Its values for these keys of a table; None if there are none."""
        wants: dict[str, OneOf | Registers] = {}
        if "measurements" in keys and self.measurements:
            wants["measurements"] = OneOf(self.measurements)
        if "registers" in keys and self.registers:
            wants["registers"] = Registers(self.registers)
        return Release(name=", ".join(sorted(self.names)), wants=wants) if wants else None


@frozen
class ReferenceValues:
    """Reference values by TEE.

    Attributes:
        values: at least one TEE's.
    """

    values: Mapping[Tee, References]

    def __or__(self, other: ReferenceValues) -> ReferenceValues:
        """Accept what either accepts."""
        return _of([*self.values.items(), *other.values.items()])

    @classmethod
    def loads(cls, data: bytes) -> Self:
        """Read TOML, at most 1 MiB.

        Raises:
            FormatError: not such a document, or one without a value.
        """
        top = parse(data, WHAT, most=MAX_SIZE, hint="docs/guides/verify.md shows one")
        if (version := top.take("version", int)) != 1:
            raise UnsupportedError(f"{WHAT}.version: want 1, got {version}", code="bad_version")
        tables: list[tuple[Tee, References]] = []
        for each in top.take("values", list):
            if not isinstance(each, dict):
                raise FormatError(f"{WHAT}.values: want tables", code="bad_type")
            tables.append(_table(Table(each, f"{WHAT}.values", "each states tee and name")))
        top.end()
        values = _of(tables)
        if not values.values:
            raise FormatError(f"{WHAT}: holds no value", code="bad_length")
        return cls(values.values)

    @classmethod
    def from_corim(
        cls, data: bytes, *, key: EllipticCurvePublicKey | None, now: datetime, tee: Tee | None = None
    ) -> Self:
        """Take the reference values of a manifest.

        1. It is a CoRIM, at most 1 MiB.
        2. A signed one is signed by ``key``; an unsigned one is accepted only if no key is given.
        3. ``now`` is within its validity period and its signature's, if they state one.
        4. It has no profile, because none is supported here.
        5. It contains values of a known TEE: for its class, and under no other condition.

        Args:
            data: signed or not.
            key: of the trusted signer, on P-256 or P-384; None trusts the bytes.
            now: aware.
            tee: of values whose environment's model is not a TEE; None skips these.

        Raises:
            FormatError: step 1, 4 or 5.
            AuthenticityError: step 2.
            FreshnessError: step 3.
            UsageError: a signed manifest without a key, or a key for an unsigned one.
        """
        manifest = Corim.parse(data)  # 1
        _check_signed(manifest, key)  # 2
        _check_time(manifest, now)  # 3
        if manifest.profile is not None:  # 4
            raise UnsupportedError(
                f"CoRIM {manifest.id[:64]!a}: want no profile, got {manifest.profile[:128]!a}",
                hint="a profile may change what is meant, and none is known here: write the values as TOML",
                code="bad_version",
            )
        by_class: dict[tuple[Tee, int], list[References]] = {}
        for each in manifest.measurements:
            whose = MODELS.get((each.model or "").lower(), tee)
            if whose is None or (tee is not None and whose is not tee):
                continue
            if values := _references(each, whose, manifest.id):
                by_class.setdefault((whose, each.comid), []).append(values)
        if not by_class:  # 5
            raise FormatError(
                f"CoRIM {manifest.id[:64]!a}: holds no value of a TEE that is known here",
                hint="name the TEE: --reference TEE=FILE",
                code="bad_length",
            )
        # Values of one CoMID belong together.
        together = ((whose, References.join(each)) for (whose, _), each in by_class.items())
        values_of = [(whose, dataclasses.replace(each, parts=())) for whose, each in together]
        return cls(_of(values_of).values)

    def apply(self, policy: Policy) -> Policy:
        """Put these values into the policy where it contains ``reference``; a requirement without values
        stays unmet.
        """
        if not policy.referenced:
            return policy
        machine, identity = policy.machine, policy.identity
        if machine is not None:
            machine = dataclasses.replace(machine, identity=self._put(machine.identity))
        if isinstance(identity, ByTable):
            identity = self._put(identity)
        return dataclasses.replace(policy, identity=identity, machine=machine)

    def _put(self, identity: ByTable) -> ByTable:
        tables = {
            tee: {key: self._want(tee, key, want) for key, want in wants.items()}
            for tee, wants in identity.tables.items()
        }
        # The releases of values that were inserted before are preserved.
        releases = dict(identity.releases) | {
            tee: each for tee, wants in identity.tables.items() if (each := self._releases(tee, wants))
        }
        return ByTable(tables=tables, releases=releases)

    def _releases(self, tee: Tee, wants: Mapping[str, Want]) -> tuple[Release, ...]:
        """The values of each source for the policy's keys, if there are several sources."""
        references = self.values.get(tee)
        keys = {key for key, want in wants.items() if isinstance(want, Referenced)}
        own = (part.release(keys) for part in references.parts) if references is not None else ()
        releases = tuple(each for each in own if each is not None)
        return releases if len(releases) > 1 else ()

    def _want(self, tee: Tee, key: str, want: Want) -> Want:
        references = self.values.get(tee)
        if references is None or not isinstance(want, Referenced):
            return want
        if key == "registers":
            return Registers(references.registers) if references.registers else want
        return OneOf(references.measurements) if references.measurements else want


def _of(values: Iterable[tuple[Tee, References]]) -> ReferenceValues:
    by_tee: dict[Tee, list[References]] = {}
    for tee, each in values:
        by_tee.setdefault(tee, []).append(each)
    return ReferenceValues(
        MappingProxyType({tee: References.join(references) for tee, references in by_tee.items()})
    )


def _table(table: Table) -> tuple[Tee, References]:
    name = table.take("name", str)
    tee = table.take("tee", str)
    if tee not in set(Tee):
        raise FormatError(
            f"{table.name}.tee: want one of {', '.join(Tee)}, got {tee[:32]!a}", code="bad_type"
        )
    measurements = table.hexes("measurements") if "measurements" in table else frozenset()
    registers: dict[str, frozenset[bytes]] = {}
    if "registers" in table:
        within = table.table("registers")
        for register in within.keys:
            if not REGISTER.fullmatch(register):
                raise FormatError(f"{within.name}.{register}: is no register", code="bad_type")
            registers[register] = within.hexes(register)
    table.end()
    empty = not measurements and not registers
    if empty or not all(registers.values()) or any(not 32 <= len(v) <= MAX_DIGEST for v in measurements):
        raise FormatError(
            f"{table.name}: {name[:64]!a}: want digests, and at least one for each thing named",
            code="bad_length",
        )
    return Tee(tee), References(
        measurements=measurements, registers=MappingProxyType(registers), names=frozenset({name})
    )


def _check_signed(manifest: Corim, key: EllipticCurvePublicKey | None) -> None:
    if (manifest.message is None) != (key is None):
        signed = "signed" if manifest.message else "unsigned"
        raise UsageError(
            f"CoRIM {manifest.id[:64]!a}: is {signed}; want {'its key' if manifest.message else 'no key'}",
            hint="--reference-key names the public key of who signed it",
        )
    if manifest.message is not None and key is not None:
        cose.check(manifest.message, key, "CoRIM")


def _check_time(manifest: Corim, now: datetime) -> None:
    start, end = manifest.not_before, manifest.not_after
    if start is not None and now < start:
        raise FreshnessError(
            f"CoRIM is not valid before {start}, judged at {now}", code="corim_not_yet_valid"
        )
    if end is not None and now > end:
        raise FreshnessError(f"CoRIM expired on {end}, judged at {now}", code="corim_expired")


def _references(each: Measurement, tee: Tee, name: str) -> References | None:
    """The reference values in one measurement; None if it names nothing in this TEE's evidence."""
    measurements: frozenset[bytes] = frozenset()
    registers: dict[str, frozenset[bytes]] = {}
    for register, digests in [*each.registers.items(), *_list_keyed(each)]:
        label = _register(register, tee)
        if label is not None and digests:
            registers[label] = registers.get(label, frozenset()) | digests
    if each.key is None or each.key == "measurement":
        measurements = each.digests
    if not measurements and not registers:
        return None
    nowhere = (f"register {register}" for register in each.registers if _register(register, tee) is None)
    beside = (*each.conditions, *nowhere)
    if each.single or beside:
        raise UnsupportedError(
            f"CoRIM {name[:64]!a}: want digests of a whole class and nothing else, got "
            + ("an environment of one instance or group" if each.single else f"values {beside}"),
            hint=(
                "the other values next to a digest must match too, and are not supported here: write"
                " them as TOML"
            ),
            code="bad_type",
        )
    return References(
        measurements=measurements, registers=MappingProxyType(registers), names=frozenset({name})
    )


def _list_keyed(each: Measurement) -> Iterable[tuple[int | str, frozenset[bytes]]]:
    if each.key is not None and each.key != "measurement":
        yield each.key, each.digests


def _register(name: int | str, tee: Tee) -> str | None:
    if isinstance(name, int):
        return f"{PREFIXES[tee]}{name}" if tee in PREFIXES and 0 <= name < 1000 else None
    return name if REGISTER.fullmatch(name) else None
