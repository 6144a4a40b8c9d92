"""The collateral needed to verify a quote, as bytes. Nothing here is verified.

Spec: Intel PCS API v4: "Get TCB Info", "Get Quoting Enclave Identity", "Get Revocation List"; the
JSON shape that bundles their answers is that of the ``dcap-qvl`` packages.
"""

from __future__ import annotations

import base64
import re
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members, octets_of
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
_PEM_MEMBERS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_HEX_MEMBERS: Final = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_TEXT_MEMBERS: Final = ("tcb_info", "qe_identity")
_OPTIONAL: Final = ("pck_certificate_chain", "endorsement")
_WHAT: Final = "collateral"
_HEX: Final = re.compile(rb"\s*((?:[0-9a-fA-F]{2})+)\s*\Z")
_CRL: Final = re.compile(rb"\s*-----BEGIN X509 CRL-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END X509 CRL-----\s*\Z")
_SIGNATURE_END: Final = re.compile(rb',"signature":"([0-9a-fA-F]{128})"\}\s*\Z')


@frozen(kw_only=True)
class Collateral:
    """TCB info, QE identity, both CRLs, and the chains of their signers.

    Attributes:
        pck_crl_issuer_chain: PEM: platform or processor CA, root.
        root_ca_crl: DER, hex of DER, or PEM, as :func:`crl_der` takes it.
        pck_crl: DER, hex of DER, or PEM, as :func:`crl_der` takes it.
        tcb_info_issuer_chain: PEM: TCB signing, root.
        tcb_info: the JSON bytes that were signed.
        tcb_info_signature: 64 bytes r and s.
        qe_identity_issuer_chain: PEM: TCB signing, root.
        qe_identity: the JSON bytes that were signed.
        qe_identity_signature: 64 bytes r and s.
        pck_certificate_chain: PEM: the platform's PCK certificate, its CA, root; for a quote that does not
            contain them.
        endorsement: JSON (:mod:`kluis.formats.kluis.endorsement`): a machine's TEE endorses the root. Only
            Kluis reads it; other tools ignore the member.
    """

    pck_crl_issuer_chain: bytes
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: bytes
    tcb_info: bytes
    tcb_info_signature: bytes
    qe_identity_issuer_chain: bytes
    qe_identity: bytes
    qe_identity_signature: bytes
    pck_certificate_chain: bytes | None = None
    endorsement: bytes | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the bundle: chains and documents as text, CRLs and signatures as hex or as lists of numbers.

        Raises:
            FormatError: not JSON, a member that is missing or of the wrong kind, or more than 4 MiB.
        """
        value = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        parts = {name: value.text(name).encode() for name in (*_PEM_MEMBERS, *_TEXT_MEMBERS)}
        parts |= {name: _octets(value, name) for name in _HEX_MEMBERS}
        present = [name for name in _OPTIONAL if name in value and not value.null(name)]
        parts |= {name: value.text(name).encode() for name in present}
        return cls(**parts)

    def to_json(self) -> bytes:
        """Write the bundle in canonical JSON."""
        texts = {name: getattr(self, name).decode() for name in (*_PEM_MEMBERS, *_TEXT_MEMBERS)}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        texts |= {name: data.decode() for name, data in optional.items() if data is not None}
        return jcs.dumps({**texts, **{name: getattr(self, name).hex() for name in _HEX_MEMBERS}})


def _octets(value: Members, name: str) -> bytes:
    """Read bytes written as hex, or as a list of numbers, as older versions of dcap-qvl did."""
    if not isinstance(value[name], list):
        return value.hex(name)
    return octets_of(value.array(name, most=MAX_SIZE), f"{value.what}.{name}")


def split_signed(body: bytes, member: str) -> tuple[bytes, bytes]:
    """Extract the signed document from Intel's answer, byte for byte.

    Args:
        body: ``{"<member>":{...},"signature":"<128 hex>"}``.
        member: ``tcbInfo``, ``enclaveIdentity`` or ``tcbEvaluationDataNumbers``.

    Returns:
        The bytes that were signed, and the 64 bytes of signature.

    Raises:
        FormatError: the answer has another shape.
    """
    start = b'{"' + member.encode() + b'":'
    end = _SIGNATURE_END.search(body)
    if not body.startswith(start) or end is None:
        raise FormatError(f"{member}: is not a signed document of Intel's service", code="bad_encoding")
    return body[len(start) : end.start()], bytes.fromhex(end[1].decode())


def crl_der(data: bytes, what: str) -> bytes:
    """Convert a CRL to DER from any form that services return: DER, hex of DER, or PEM.

    Args:
        data: at most 4 MiB.
        what: what it claims to be, for messages.

    Raises:
        FormatError: none of these forms.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    if data[:1] == b"\x30" and data[1:2] > b"\x7f":
        # A sequence of 128 bytes or more. In hex it would begin with the text "30", whose second byte is
        # smaller.
        return data
    if match := _CRL.match(data):
        try:
            return base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True)
        except ValueError:
            raise FormatError(f"{what}: is not base64", code="bad_encoding") from None
    if match := _HEX.match(data):
        return bytes.fromhex(match[1].decode())
    raise FormatError(f"{what}: is neither DER, nor hex of DER, nor PEM", code="bad_encoding")
