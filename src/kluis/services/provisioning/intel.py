"""Intel's paths for emulated platforms: responses like those of PCS version 4 and of compatible caches.

Intel's quote provider library requests the root's CRL from a cache by the address in the root, at ``crl``, or
with an older setting at ``rootcacrl``. Other CRLs are hex of DER, as in caches, unless ``encoding`` is
``der`` or ``pem``. An emulated platform has no key to encrypt its PPID with: ``qeid`` is the PPID, and
``encrypted_ppid`` is the PPID and zeros.

Spec: Intel PCS API v4; PCCS design guide.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from kluis.authority import Published, TcbLevel
from kluis.authority.issuing import CRL_URL
from kluis.authority.state import PCEID
from kluis.formats import x509
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.services.clock import Clock
from kluis.services.provisioning.authority import Authority
from kluis.services.provisioning.platforms import Platforms
from kluis.services.provisioning.records import Certificate
from kluis.services.web import Answer, Call, Refusal

JSON: Final = "application/json"
PEM: Final = "application/x-pem-file"
DER: Final = "application/pkix-crl"
HEX: Final = "text/plain"
CA_TYPE: Final = "platform"
CAS: Final = ("platform", "processor")
MOST_URI: Final = 2048
MOST_MESSAGE: Final = 500
PLATFORM: Final = "emulated"
_FMSPC: Final = re.compile(r"[0-9a-fA-F]{12}", re.ASCII)
_PPID: Final = re.compile(r"([0-9a-f]{32})(?:0{736})?", re.ASCII)
_HEX: Final = {size: re.compile(rf"[0-9a-f]{{{size}}}", re.ASCII) for size in (4, 32)}
_NUMBER: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_ROOT_CRL: Final = re.compile(r"/IntelSGXRootCA\.[a-z]{3}|.*/rootcacrl", re.ASCII)
# Members of the platform data that Intel's tools post: the PCK ID retrieval tool, and its provider library.
_REGISTRATION: Final = frozenset({"qe_id", "pce_id", "enc_ppid", "platform_manifest"})
_USER: Final = "user-token"
_UPDATES: Final = ("early", "standard")
_KINDS: Final = ("all", "client", "E3", "E5")


class Intel:
    """Answers Intel's paths under the service's own authority.

    Args:
        authority: of the emulated platforms; already opened.
        platforms: that it certifies.
        clock: returns the time.
    """

    def __init__(self, authority: Authority, platforms: Platforms, clock: Clock) -> None:
        self._authority = authority
        self._platforms = platforms
        self._clock = clock

    def tcb(self, call: Call) -> Answer:
        """TCB info of the emulated platforms."""
        fmspc = call.query.get("fmspc", "")
        if _FMSPC.fullmatch(fmspc) is None:
            raise refusal(call, 400, f"fmspc: want 12 hex digits, got {fmspc[:40]!a}")
        state = self._authority.load().state
        if fmspc.lower() != state.fmspc.hex():
            raise refusal(
                call,
                404,
                f"fmspc: want {state.fmspc.hex()}, the emulated platforms', got {fmspc.lower()}",
                hint="Intel's own documents are under /intel: kluis collateral fetch keeps them",
            )
        self._check_release(call)
        published = self._publish()
        body = _enclose("tcbInfo", published.tcb_info, published.tcb_info_signature)
        return _answer(call, body, JSON, {"TCB-Info-Issuer-Chain": _header(published.signing_chain)})

    def qe_identity(self, call: Call) -> Answer:
        """Identity of the emulated quoting enclave."""
        self._check_release(call)
        published = self._publish()
        body = _enclose("enclaveIdentity", published.qe_identity, published.qe_identity_signature)
        chain = _header(published.signing_chain)
        return _answer(call, body, JSON, {"SGX-Enclave-Identity-Issuer-Chain": chain})

    def qve_identity(self, call: Call) -> Answer:
        """There is no emulated quote verification enclave."""
        raise refusal(
            call,
            404,
            "qve identity: the emulated platforms have no quote verification enclave",
            hint="Intel's is not kept: kluis verify needs none",
        )

    def no_tdx(self, call: Call) -> Answer:
        """There is no emulated TDX."""
        raise refusal(
            call,
            404,
            "tdx: the emulated platforms have none",
            hint="Intel's own documents are under /intel: kluis collateral fetch keeps them",
        )

    def evaluation_numbers(self, call: Call) -> Answer:
        """The TCB evaluation data number in force."""
        published = self._publish()
        body = _enclose(
            "tcbEvaluationDataNumbers", published.evaluation_numbers, published.evaluation_numbers_signature
        )
        chain = _header(published.signing_chain)
        return _answer(call, body, JSON, {"TCB-Evaluation-Data-Numbers-Issuer-Chain": chain})

    def pck_crl(self, call: Call) -> Answer:
        """The CRL of the platform CA; the emulated platforms have no processor CA."""
        ca = call.query.get("ca", "").lower()
        if ca not in CAS:
            raise refusal(call, 400, f"ca: want platform or processor, got {ca[:40]!a}")
        self._check_ca(call, ca)
        published = self._publish()
        body, kind = encode_crl(call, published.pck_crl, HEX)
        return _answer(call, body, kind, {"SGX-PCK-CRL-Issuer-Chain": _header(published.ca_chain)})

    def root_crl(self, call: Call) -> Answer:
        """The root's CRL."""
        body, kind = encode_crl(call, self._publish().root_crl, HEX)
        return _answer(call, body, kind)

    def root_crl_der(self, call: Call) -> Answer:
        """The root's CRL at the path of Intel's certificate service: DER."""
        return _answer(call, self._publish().root_crl, DER)

    def crl(self, call: Call) -> Answer:
        """The CRL at an address in a certificate: DER."""
        ca = crl_wanted(call)
        if ca is None:
            return self.root_crl_der(call)
        self._check_ca(call, ca)
        return _answer(call, self._publish().pck_crl, DER)

    def root(self, call: Call) -> Answer:
        """The root certificate, which a relying party trusts by naming its file."""
        return _answer(call, self._authority.load().root_pem(), PEM)

    def fmspcs(self, call: Call) -> Answer:
        """The only kind of platform that the authority certifies."""
        kind = call.query.get("platform", "all")
        if kind not in _KINDS:
            raise refusal(call, 400, f"platform: want one of {', '.join(_KINDS)}, got {kind[:40]!a}")
        fmspc = self._authority.load().state.fmspc.hex().upper()
        platforms = [{"fmspc": fmspc, "platform": PLATFORM}] if kind == "all" else []
        return Answer(platforms, headers=_request_header(call))

    def pck_certificate(self, call: Call) -> Answer:
        """The certificate of one platform with the highest TCB that does not exceed its own."""
        cpusvn, pcesvn = _hex(call, "cpusvn", 32), _hex(call, "pcesvn", 4)
        has = TcbLevel(cpusvn=cpusvn, pcesvn=int.from_bytes(pcesvn, "little"), status="", date="")
        reached = [
            one
            for one in self._certificates(call)
            if TcbLevel(cpusvn=one.cpusvn, pcesvn=one.pcesvn, status="", date="").reached_by(
                has.cpusvn, has.pcesvn
            )
        ]
        if not reached:
            raise refusal(call, 404, "pckcert: the platform has no certificate for that TCB, or a lower one")
        best = max(reached, key=lambda one: (one.pcesvn, one.cpusvn))
        leaf, issuers = _split(best.chain)
        return _answer(
            call,
            leaf.encode(),
            PEM,
            {
                "SGX-PCK-Certificate-Issuer-Chain": _header(issuers),
                "SGX-TCBm": _tcbm(best),
                "SGX-FMSPC": self._authority.load().state.fmspc.hex().upper(),
                "SGX-PCK-Certificate-CA-Type": CA_TYPE,
            },
        )

    def pck_certificates(self, call: Call) -> Answer:
        """Every certificate of one platform."""
        certificates = self._certificates(call)
        if not certificates:
            raise refusal(call, 404, "pckcerts: no platform of that name was certified")
        body = [
            {
                "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in one.cpusvn], "pcesvn": one.pcesvn},
                "tcbm": _tcbm(one),
                "cert": quote(_split(one.chain)[0], safe=""),
            }
            for one in certificates
        ]
        headers = {
            "SGX-PCK-Certificate-Issuer-Chain": _header(_split(certificates[0].chain)[1]),
            "SGX-FMSPC": self._authority.load().state.fmspc.hex().upper(),
            "SGX-PCK-Certificate-CA-Type": CA_TYPE,
        }
        return Answer(body, headers={**_request_header(call), **headers})

    def _certificates(self, call: Call) -> tuple[Certificate, ...]:
        if _hex(call, "pceid", 4) != PCEID:
            raise refusal(call, 404, f"pceid: want {PCEID.hex()}, the emulated platforms', got another")
        name = call.query.get("qeid") or call.query.get("encrypted_ppid", "")
        match = _PPID.fullmatch(name.lower())
        if match is None:
            raise refusal(call, 400, "qeid or encrypted_ppid: want a PPID, or a PPID and zeros, got neither")
        return self._platforms.certificates(match[1])

    def _check_ca(self, call: Call, ca: str) -> None:
        if ca != CA_TYPE:
            raise refusal(call, 404, "ca: the emulated platforms have no processor CA")

    def _publish(self) -> Published:
        return self._authority.publish(self._clock.now())

    def _check_release(self, call: Call) -> None:
        number = release(call)
        if number is None:
            return
        current = self._authority.load().state.evaluation
        if number < current:
            raise refusal(
                call, 410, f"tcbEvaluationDataNumber: want {current}, got {number}, which is retired"
            )
        if number > current:
            raise refusal(call, 404, f"tcbEvaluationDataNumber: want {current}, got {number}")


def release(call: Call) -> int | None:
    """Check ``update`` and ``tcbEvaluationDataNumber``, of which one may be given; return the number, if
    given.

    Raises:
        Refusal: 400, with the error.
    """
    update, number = call.query.get("update"), call.query.get("tcbEvaluationDataNumber")
    if update is not None and update not in _UPDATES:
        raise refusal(call, 400, f"update: want early or standard, got {update[:40]!a}")
    if number is None:
        return None
    if update is not None:
        raise refusal(call, 400, "update, tcbEvaluationDataNumber: want one of them, got both")
    if _NUMBER.fullmatch(number) is None:
        raise refusal(call, 400, f"tcbEvaluationDataNumber: want a number, got {number[:40]!a}")
    return int(number)


def crl_wanted(call: Call) -> str | None:
    """The issuer of the CRL at ``uri``, an address in certificates: the CA, or None for the root.

    Raises:
        Refusal: 400, for an address that is in no certificate of Intel's, or of an emulated platform.
    """
    uri = call.query.get("uri", "")
    try:
        parts = urlsplit(uri if len(uri) <= MOST_URI else "")
        ca = parse_qs(parts.query, max_num_fields=8).get("ca", [""])[0].lower()
    except ValueError:
        raise refusal(call, 400, f"uri: want an address, got {uri[:40]!a}") from None
    if uri == CRL_URL or _ROOT_CRL.fullmatch(parts.path):
        return None
    if parts.path.endswith("/pckcrl") and ca in CAS:
        return ca
    raise refusal(call, 400, f"uri: want where a root's CRL is, or a CA's, got {uri[:40]!a}")


def encode_crl(call: Call, crl: bytes, usual: str) -> tuple[bytes, str]:
    """A CRL in the requested encoding: its bytes and their type.

    Args:
        call: has ``encoding``.
        crl: DER.
        usual: the default type.

    Raises:
        Refusal: 400, for another encoding.
    """
    wanted = {"der": DER, "pem": PEM, "": usual}.get(call.query.get("encoding", "").lower())
    match wanted:
        case None:
            raise refusal(call, 400, f"encoding: want der or pem, got {call.query['encoding'][:40]!a}")
        case "application/x-pem-file":
            text = base64.encodebytes(crl).replace(b"\n", b"")
            lines = [text[at : at + 64] for at in range(0, len(text), 64)]
            return b"\n".join((b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b"")), PEM
        case "text/plain":
            return crl.hex().encode(), HEX
        case _:
            return crl, DER


def refuse_registration(call: Call) -> None:
    """Refuse platform data that Intel's tools post to a cache (PCCS), which is not an enrolment; ignore
    everything else.

    Raises:
        Refusal: 400, in the form of Intel's cache; names where such a platform is registered.
    """
    try:
        members = set(msgspec.json.decode(call.body, type=dict[str, msgspec.Raw]))
    except UNREADABLE:
        members = set()
    if _USER not in call.headers and not members & _REGISTRATION:
        return
    raise refusal(
        call,
        400,
        "platforms: want the enrolment of an emulated platform, got a registration as Intel's tools send it",
        hint="register an Intel platform at Intel's own cache (PCCS): here nothing needs that, for kluis "
        "collateral fetch has what its quotes want; an emulated platform enrols by kluis platform enroll",
    )


def refusal(
    call: Call, status: int, message: str, *, hint: str | None = None, code: str | None = None
) -> Refusal:
    """A refusal in Intel's form: status and two headers; our error object is the body."""
    code = code or {400: "InvalidParameter", 404: "NotFound", 410: "Gone"}.get(status, "Unavailable")
    text = re.sub(r"[^ -~]", "?", message)[:MOST_MESSAGE]
    headers = {**_request_header(call), "Error-Code": code, "Error-Message": text}
    return Refusal(status, code, message, headers=headers, hint=hint)


def _answer(call: Call, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(body, content_type=content_type, headers={**_request_header(call), **(headers or {})})


def _request_header(call: Call) -> dict[str, str]:
    return {"Request-ID": call.request_id}


def _enclose(member: str, document: bytes, signature: bytes) -> bytes:
    """The document, byte for byte as it was signed, in Intel's enclosing object."""
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), document, signature.hex().encode())


def _header(chain: str) -> str:
    """A PEM chain, encoded for a header."""
    return quote(chain, safe="")


def _tcbm(one: Certificate) -> str:
    return (one.cpusvn + one.pcesvn.to_bytes(2, "little")).hex().upper()


def _split(chain: bytes) -> tuple[str, str]:
    """Split a PEM chain into its leaf and the issuers."""
    leaf, *issuers = (x509.write_pem(der).decode() for der in x509.split_pem(chain, "chain"))
    return leaf, "".join(issuers)


def _hex(call: Call, name: str, digits: int) -> bytes:
    text = call.query.get(name, "").lower()
    if _HEX[digits].fullmatch(text) is None:
        raise refusal(call, 400, f"{name}: want {digits} hex digits, got {text[:40]!a}")
    return bytes.fromhex(text)
