"""Parse the JSON evidence of Confidential Containers' attester. Nothing here is verified.

A quote, or a CCA token, is base64 or a list of numbers; Azure's own service returns a TDX quote in the same
shape, in base64url. A SEV-SNP report comes field by field, and is reassembled. The verifier checks the
resulting bytes, so a field that was lost or changed makes the signature fail. Unknown fields are refused.

Spec: Confidential Containers guest-components 0.12, ``attester`` (``sev`` crate 3 to 6 for reports).
"""

from __future__ import annotations

import re
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members, octets_of
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import table as certificate_table
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
_QUOTE: Final = "CoCo quote"
_SNP: Final = "CoCo SEV-SNP evidence"
_CCA: Final = "CoCo CCA evidence"
_QUOTE_MEMBERS: Final = {"quote", "cc_eventlog", "aa_eventlog", "version"}
_SNP_MEMBERS: Final = {"attestation_report", "cert_chain", "version"}
_TOKEN: Final = re.compile(rb'\{\s{0,64}"token"')
_CERTIFICATES: Final = {
    "VCEK": certificate_table.VCEK,
    "VLEK": certificate_table.VLEK,
    "ASK": certificate_table.ASK,
    "ARK": certificate_table.ARK,
    "CRL": certificate_table.CRL,
}

# Position of each number of a report: offset, and size in bytes, little-endian.
_NUMBERS: Final = {
    "version": (0x00, 4),
    "guest_svn": (0x04, 4),
    "policy": (0x08, 8),
    "vmpl": (0x30, 4),
    "sig_algo": (0x34, 4),
    "plat_info": (0x40, 8),
    "key_info": (0x48, 4),
    "_author_key_en": (0x48, 4),
    "cpuid_fam_id": (0x188, 1),
    "cpuid_mod_id": (0x189, 1),
    "cpuid_step": (0x18A, 1),
    "current_build": (0x1E8, 1),
    "current_minor": (0x1E9, 1),
    "current_major": (0x1EA, 1),
    "committed_build": (0x1EC, 1),
    "committed_minor": (0x1ED, 1),
    "committed_major": (0x1EE, 1),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
_BYTES: Final = {
    "family_id": (0x10, 16),
    "image_id": (0x20, 16),
    "report_data": (0x50, 64),
    "measurement": (0x90, 48),
    "host_data": (0xC0, 32),
    "id_key_digest": (0xE0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "chip_id": (0x1A0, 64),
}
_TCBS: Final = {"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1E0, "launch_tcb": 0x1F0}
_TCB: Final = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TCB_WITH_FMC: Final = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
_VERSIONS: Final = {"current": 0x1E8, "committed": 0x1EC}
_SIGNATURE: Final = {"r": (0x2A0, 72), "s": (0x2E8, 72)}
# From version 3 of a report on these may be null, which means zero.
_OPTIONAL: Final = {"cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"}


@frozen
class Quote:
    """A quote with its event log.

    Attributes:
        quote: of SGX or TDX.
        event_log: the firmware's, as bytes; None if there is none.
    """

    quote: bytes
    event_log: bytes | None


def matches_quote(data: bytes) -> bool:
    """Whether bytes look like a quote in JSON, but not like dstack's."""
    return data[:1] == b"{" and b'"quote"' in data and b'"event_log"' not in data


def matches_snp(data: bytes) -> bool:
    """Whether bytes look like a report in JSON."""
    return data[:1] == b"{" and b'"attestation_report"' in data[:4096]


def matches_cca(data: bytes) -> bool:
    """Whether bytes look like a CCA token in JSON, and like no other project's JSON."""
    return _TOKEN.match(data) is not None and data.count(b":") == 1


def parse_cca(data: bytes) -> bytes:
    """Parse ``{"token": ...}``.

    Raises:
        FormatError: malformed, or an unknown member.
    """
    value = _members(data, _CCA, {"token"})
    return _octets(value.entries(most=1).get("token"), f"{_CCA}.token")


def parse_quote(data: bytes) -> Quote:
    """Parse ``{"quote": ..., "cc_eventlog": ...}``.

    Raises:
        FormatError: malformed, or an unknown member.
    """
    value = _members(data, _QUOTE, _QUOTE_MEMBERS)
    log = value.entries(most=8).get("cc_eventlog")
    return Quote(
        quote=_octets(value.entries(most=8).get("quote"), f"{_QUOTE}.quote", url=True),
        event_log=None if log is None else _octets(log, f"{_QUOTE}.cc_eventlog"),
    )


def parse_snp(data: bytes) -> bytes:
    """Reassemble a report, 1184 bytes, followed by the certificates that came with it.

    Raises:
        FormatError: malformed, a member that is missing or unknown, or a report whose fields differ from the
            JSON.
    """
    value = _members(data, _SNP, _SNP_MEMBERS)
    report = _report(value.object("attestation_report"))
    snp_report.parse(report)
    chain = value.entries(most=8).get("cert_chain")
    return report if not chain else report + _table(value)


def _report(value: Members) -> bytes:
    out = bytearray(snp_report.SIZE)
    entries = value.entries(most=64)
    for name, item in entries.items():
        if name in _NUMBERS:
            offset, size = _NUMBERS[name]
            number = (
                0 if item is None and name in _OPTIONAL else value.integer(name, most=(1 << 8 * size) - 1)
            )
            out[offset : offset + size] = number.to_bytes(size, "little")
        elif name in _BYTES:
            offset, size = _BYTES[name]
            out[offset : offset + size] = _read_sized(item, size, f"{value.what}.{name}")
        elif name in _TCBS:
            out[_TCBS[name] : _TCBS[name] + 8] = _tcb(value.object(name))
        elif name in _VERSIONS:
            _version(value.object(name), out, _VERSIONS[name])
        elif name == "signature":
            _signature(value.object(name), out)
        elif not name.startswith("_reserved") or any(_flat(item, f"{value.what}.{name}")):
            raise FormatError(f"{value.what}: does not know member {name!a}", code="bad_type")
    missing = sorted({"version", "policy", "signature", *_BYTES, *_TCBS} - set(entries))
    if missing:
        raise FormatError(f"{value.what}: member {missing[0]!a} is missing", code="bad_type")
    return bytes(out)


def _tcb(value: Members) -> bytes:
    out = bytearray(8)
    entries = value.entries(most=8)
    places = _TCB if entries.get("fmc") is None else _TCB_WITH_FMC
    for name, item in entries.items():
        if name in places:
            out[places[name]] = value.integer(name, most=255)
        elif name != "fmc" and (name != "_reserved" or any(_flat(item, f"{value.what}.{name}"))):
            raise FormatError(f"{value.what}: does not know member {name!a}", code="bad_type")
    return bytes(out)


def _version(value: Members, out: bytearray, offset: int) -> None:
    value.only(("build", "minor", "major"))
    for index, name in enumerate(("build", "minor", "major")):
        out[offset + index] = value.integer(name, most=255)


def _signature(value: Members, out: bytearray) -> None:
    for name, item in value.entries(most=4).items():
        what = f"{value.what}.{name}"
        if name in _SIGNATURE:
            offset, size = _SIGNATURE[name]
            out[offset : offset + size] = _read_sized(item, size, what)
        elif name != "_reserved" or any(_flat(item, what)):
            raise FormatError(f"{value.what}: does not know member {name!a}", code="bad_type")


def _table(value: Members) -> bytes:
    members: dict[bytes, bytes] = {}
    for entry in value.objects("cert_chain", most=8):
        entry.only(("cert_type", "data"))
        kind = entry.text("cert_type", limit=16)
        name = _CERTIFICATES.get(kind)
        if name is None or name in members:
            raise FormatError(
                f"{entry.what}.cert_type: {kind!a} is not known, or appears twice", code="bad_type"
            )
        members[name] = _octets(entry.entries(most=2)["data"], f"{entry.what}.data")
    return certificate_table.build(members).encode()


def _members(data: bytes, what: str, known: set[str]) -> Members:
    value = Members(jcs.loads(data, what, max_size=MAX_SIZE, max_depth=6), what)
    unknown = sorted(set(value.entries(most=16)) - known)
    if unknown:
        raise FormatError(f"{what}: does not know member {unknown[0]!a}", code="bad_type")
    return value


def _octets(item: Json, what: str, *, url: bool = False) -> bytes:
    """Read base64, or a list of numbers; also base64url if ``url`` is set."""
    if isinstance(item, str):
        plain = not url or (len(item) % 4 == 0 and "-" not in item and "_" not in item)
        return b64.decode(item, what) if plain else b64.decode_url(item.rstrip("="), what)
    if not isinstance(item, list):
        raise FormatError(f"{what}: want base64, or bytes as numbers", code="bad_type")
    return _flat(item, what)


def _read_sized(item: Json, size: int, what: str) -> bytes:
    data = bytes.fromhex(item) if isinstance(item, str) and _is_hex(item) else _flat(item, what)
    if len(data) != size:
        raise FormatError(f"{what}: want {size} bytes, got {len(data)}", code="bad_length")
    return data


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and not text.strip("0123456789abcdef")


def _flat(item: Json, what: str) -> bytes:
    """The bytes of a list of numbers, or of a single number; each must fit a byte."""
    return octets_of(item if isinstance(item, list) else [item], what)
