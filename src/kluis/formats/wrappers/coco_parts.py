"""Parse the JSON evidence of several parts from Confidential Containers. Nothing here is verified.

An Azure machine's evidence has its HCL report, its vTPM's quote, and TDX's quote. In version 0 all bytes were
numbers, and SEV-SNP had other names for two members; since version 1 they are hex and base64url. A TPM's
evidence is only its quote, in base64. PCRs are all 24 of SHA-256, whichever were quoted. The included
certificate (``vcek``, ``ak_public``) is an endorsement, and is not passed on.

Spec: Confidential Containers guest-components 0.14, ``attester``: ``az-snp-vtpm``, ``az-tdx-vtpm``, ``tpm``;
trustee 0.15, ``verifier``: their ``compat`` modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members, octets_of
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId

MAX_SIZE: Final = 1 << 20
MAX_BYTES: Final = 64 << 10
MAX_VERSION: Final = 2
AZURE: Final = "CoCo Azure evidence"
TPM: Final = "CoCo TPM evidence"
_PCR_SIZE: Final = 32
_QUOTE: Final = ("message", "pcrs", "signature")
# The members of each form: SEV-SNP's first version has two names that no other form has.
_SNP: Final = ("quote", "report", "vcek")
_SNP_VERSIONED: Final = ("hcl_report", "tpm_quote", "vcek", "version")
_TDX: Final = ("hcl_report", "td_quote", "tpm_quote")
_TDX_VERSIONED: Final = (*_TDX, "version")


def matches_azure(data: bytes) -> bool:
    """Whether bytes look like an Azure machine's evidence in JSON."""
    if data[:1] != b"{" or b'"message"' not in data or b'"signature"' not in data:
        return False
    return b'"hcl_report"' in data or (b'"report"' in data and b'"vcek"' in data)


def matches_tpm(data: bytes) -> bool:
    """Whether bytes look like a TPM's evidence in JSON."""
    return data[:1] == b"{" and b'"tpm_quote"' in data and b'"ak_public"' in data


def parse_azure(data: bytes) -> Collection:
    """Parse an Azure machine's evidence, at most 1 MiB, of version 0 to 2.

    Returns:
        The parts that :mod:`kluis.evidence.azure.hcl` verifies.

    Raises:
        UnsupportedError: another version.
        FormatError: malformed, or an unknown member.
    """
    value = _object(data, AZURE)
    tdx = "td_quote" in value
    if "version" in value:
        value.version(*range(1, MAX_VERSION + 1))
        value.only(_TDX_VERSIONED if tdx else _SNP_VERSIONED)
        read, quoted, report, quote = _base64url, _hex, "hcl_report", "tpm_quote"
    else:
        value.only(_TDX if tdx else _SNP)
        read = quoted = _numbers
        report, quote = ("hcl_report", "tpm_quote") if tdx else ("report", "quote")
    entries = value.entries(most=8)
    parts = {"hcl_report": read(entries[report], f"{AZURE}.{report}")}
    parts |= _quote(value.object(quote), quoted, quoted)
    if tdx:
        parts["td_quote"] = read(entries["td_quote"], f"{AZURE}.td_quote")
    return _collection(parts)


def parse_tpm(data: bytes) -> Collection:
    """Parse a TPM's evidence, at most 1 MiB.

    Returns:
        The parts that :mod:`kluis.evidence.tpm.tpm` verifies.

    Raises:
        FormatError: malformed, or an unknown member.
    """
    value = _object(data, TPM)
    value.only(("ak_public", "tpm_quote"))
    return _collection(_quote(value.object("tpm_quote"), _base64, _hex))


def _object(data: bytes, what: str) -> Members:
    return Members(jcs.loads(data, what, max_size=MAX_SIZE, max_depth=4), what)


def _collection(parts: Mapping[str, bytes]) -> Collection:
    return Collection({name: Part(OCTETS, data) for name, data in parts.items()})


_Read = Callable[[Json, str], bytes]


def _quote(value: Members, read: _Read, read_pcr: _Read) -> dict[str, bytes]:
    value.only(_QUOTE)
    entries, what = value.entries(most=len(_QUOTE)), f"{value.what}.pcrs"
    values = [read_pcr(item, what) for item in value.array("pcrs", most=pcrs.PCR_COUNT)]
    if any(len(each) != _PCR_SIZE for each in values):
        raise FormatError(f"{what}: want {_PCR_SIZE} bytes each", code="bad_length")
    return {
        "tpm_quote": read(entries["message"], f"{value.what}.message"),
        "tpm_signature": read(entries["signature"], f"{value.what}.signature"),
        "pcrs": pcrs.dumps({HashId.SHA256: dict(enumerate(values))}),
    }


def _base64(item: Json, what: str) -> bytes:
    return b64.decode(_text(item, what), what)


def _base64url(item: Json, what: str) -> bytes:
    return b64.decode_url(_text(item, what).rstrip("="), what)


def _hex(item: Json, what: str) -> bytes:
    return Members({"hex": _text(item, what)}, what).hex("hex")


def _text(item: Json, what: str) -> str:
    if not isinstance(item, str) or len(item) > 2 * MAX_BYTES:
        raise FormatError(f"{what}: want text of at most {2 * MAX_BYTES} characters", code="bad_type")
    return item


def _numbers(item: Json, what: str) -> bytes:
    if not isinstance(item, list) or len(item) > MAX_BYTES:
        raise FormatError(f"{what}: want at most {MAX_BYTES} bytes as numbers", code="bad_type")
    return octets_of(item, what)
