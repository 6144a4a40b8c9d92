"""The emulated certificate authority: what Intel's provisioning service is to real hardware.

It makes the root, the PCK certificates with their SGX extension, TCB info, the quoting enclave's
identity and the CRLs, in Intel's own formats under names that say what they are. Its root is
trusted by nobody who did not name its file.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification"; Intel PCS API v4, "Get TCB Info",
"Get Quoting Enclave Identity".
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import FormatError, UsageError
from kluis.formats import jcs
from kluis.formats._members import Members
from kluis.formats.sgx import extension
from kluis.hashes import sha256
from kluis.tee.platform import issuing, keyfiles

LEVELS: Final = ("process", "process-user")
FMSPC: Final = bytes.fromhex("e0e0e0000000")
PCEID: Final = bytes(2)
CPUSVN: Final = bytes([1] * 16)
PCESVN: Final = 1
QE_MRSIGNER: Final = sha256(b"Kluis emulated quoting enclave (no hardware)")
QE_PRODUCT_ID: Final = 1
QE_SVN: Final = 1
COLLATERAL_LIFE: Final = timedelta(days=30)
ROOT_CRL_LIFE: Final = timedelta(days=365)
MAX_REMEMBERED: Final = 4096

ROOT_CN: Final = "Kluis emulated SGX Root CA (no hardware)"
PLATFORM_CA_CN: Final = "Kluis emulated SGX PCK Platform CA (no hardware)"
TCB_SIGNING_CN: Final = "Kluis emulated SGX TCB Signing (no hardware)"
PCK_CN: Final = "Kluis emulated SGX PCK Certificate (no hardware)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One line of the TCB info: platforms that reach these SVNs have this status.

    Attributes:
        cpusvn: 16 bytes, one component SVN each.
        pcesvn: 0..65535.
        status: as Intel spells it: ``UpToDate``, ``OutOfDate`` or ``Revoked``.
        date: when the level became current, as ``2026-01-31T00:00:00Z``.
        advisories: names of what is wrong with it.
    """

    cpusvn: bytes
    pcesvn: int
    status: str
    date: str
    advisories: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an authority remembers beside its keys; times as text, certificates as PEM."""

    level: str
    fmspc: bytes
    evaluation: int
    levels: tuple[TcbLevel, ...]
    revoked: tuple[tuple[int, str], ...]
    root: str
    platform_ca: str
    tcb_signing: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The authority's private keys, P-256."""

    root: ec.EllipticCurvePrivateKey
    platform_ca: ec.EllipticCurvePrivateKey
    tcb_signing: ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority for one machine, or for several owners' provisioning service.

    Its keys are in this process's memory; ``save`` writes them readable by this user alone.
    """

    def __init__(self, keys: Keys, state: State) -> None:
        self._keys = keys
        self.state = state

    @classmethod
    def create(cls, level: str, now: datetime, *, fmspc: bytes = FMSPC, cpusvn: bytes = CPUSVN) -> Self:
        """Make a new authority with keys of its own.

        Args:
            level: the protection level that its platforms give, ``process`` or ``process-user``; it
                stands in the root's subject, and verifiers take it from there.
            now: aware; certificates are valid from five minutes before it, for ten years.
            fmspc: 6 bytes, the kind of platform.
            cpusvn: 16 bytes, the component SVNs that count as up to date.

        Raises:
            UsageError: another level.
        """
        if level not in LEVELS:
            raise UsageError(f"authority.level: want one of {', '.join(LEVELS)}, got {level}")
        keys = Keys(root=_key(), platform_ca=_key(), tcb_signing=_key())
        root = issuing.issue(ROOT_CN, keys.root.public_key(), None, keys.root, now, path_length=1, unit=level)
        platform_ca = issuing.issue(
            PLATFORM_CA_CN, keys.platform_ca.public_key(), root, keys.root, now, path_length=0
        )
        tcb_signing = issuing.issue(TCB_SIGNING_CN, keys.tcb_signing.public_key(), root, keys.root, now)
        first = TcbLevel(cpusvn=cpusvn, pcesvn=PCESVN, status="UpToDate", date=issuing.zulu(now))
        state = State(
            level=level,
            fmspc=fmspc,
            evaluation=1,
            levels=(first,),
            revoked=(),
            root=issuing.pem(root),
            platform_ca=issuing.pem(platform_ca),
            tcb_signing=issuing.pem(tcb_signing),
        )
        return cls(keys, state)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read an authority that ``save`` wrote.

        Raises:
            UnavailableError: a file is missing, another user's, or open to others.
            FormatError: a file is not what ``save`` writes.
        """
        names = [field.name for field in dataclasses.fields(Keys)]
        keys = {name: keyfiles.load_key(directory / f"{name}.key") for name in names}
        state = jcs.loads_canonical(keyfiles.read(directory / "authority.json"), "authority.json")
        return cls(Keys(**keys), _state(Members(state, "authority.json")))

    def save(self, directory: Path) -> None:
        """Write keys and state into ``directory``, each file 0600, whole or not at all."""
        for field in dataclasses.fields(Keys):
            keyfiles.save_key(directory / f"{field.name}.key", getattr(self._keys, field.name))
        keyfiles.write(directory / "authority.json", jcs.dumps(_state_json(self.state)))

    def root_pem(self) -> bytes:
        """The root certificate: what a relying party names as its anchor."""
        return self.state.root.encode()

    def certify(
        self, key: ec.EllipticCurvePublicKey, *, ppid: bytes, cpusvn: bytes, pcesvn: int, now: datetime
    ) -> bytes:
        """Certify a platform's key, or certify it anew at another TCB.

        Args:
            key: the public PCK, P-256; the platform keeps the private one.
            ppid: 16 bytes, names the platform.
            cpusvn: 16 bytes, one component SVN each.
            pcesvn: 0..65535.
            now: aware.

        Returns:
            The chain, PEM: PCK certificate, platform CA, root.
        """
        sgx = extension.SgxExtension(
            ppid=ppid,
            components=tuple(cpusvn),
            pcesvn=pcesvn,
            cpusvn=cpusvn,
            pceid=PCEID,
            fmspc=self.state.fmspc,
            sgx_type=0,
            platform_instance_id=ppid,
            configuration=extension.Configuration(
                dynamic_platform=False, cached_keys=False, smt_enabled=True
            ),
            order=(1, 2, 3, 4, 5, 6, 7),
        ).encode()
        issuer = _certificate(self.state.platform_ca)
        leaf = issuing.issue(PCK_CN, key, issuer, self._keys.platform_ca, now, sgx=sgx)
        return (issuing.pem(leaf) + self.state.platform_ca + self.state.root).encode()

    def recover(self, *, cpusvn: bytes, pcesvn: int, advisories: tuple[str, ...], now: datetime) -> None:
        """Raise the required TCB: platforms below it are OutOfDate from now on.

        Args:
            cpusvn: 16 bytes, the least component SVNs that are up to date.
            pcesvn: likewise, 0..65535.
            advisories: names of what the older levels suffer from.
            now: aware.
        """
        newest = TcbLevel(cpusvn=cpusvn, pcesvn=pcesvn, status="UpToDate", date=issuing.zulu(now))
        older = tuple(
            dataclasses.replace(
                level, status="OutOfDate", advisories=tuple(sorted({*level.advisories, *advisories}))
            )
            for level in self.state.levels
            if (level.cpusvn, level.pcesvn) != (cpusvn, pcesvn)
        )
        self.state = dataclasses.replace(
            self.state, levels=(newest, *older), evaluation=self.state.evaluation + 1
        )

    def revoke(self, chain: bytes, now: datetime) -> None:
        """Revoke the PCK certificate that ``chain`` (PEM) begins with: collateral says so from now on."""
        serial = x509.load_pem_x509_certificates(chain)[0].serial_number
        revoked = (*self.state.revoked, (serial, issuing.zulu(now)))
        self.state = dataclasses.replace(self.state, revoked=revoked)

    def collateral(self, now: datetime) -> dict[str, str]:
        """Sign what verifiers need beside a quote, valid for 30 days.

        Returns:
            The JSON shape that ``dcap_qvl.QuoteCollateralV3.from_json`` reads: PEM chains, CRLs
            and signatures in hex, the two signed documents as text.
        """
        state, keys = self.state, self._keys
        platform_ca = _certificate(state.platform_ca)
        revoked = [(serial, datetime.fromisoformat(when)) for serial, when in state.revoked]
        root_crl = issuing.crl(_certificate(state.root), keys.root, now, life=ROOT_CRL_LIFE, revoked=())
        pck_crl = issuing.crl(platform_ca, keys.platform_ca, now, life=COLLATERAL_LIFE, revoked=revoked)
        tcb_info, identity = _text(_tcb_info(state, now)), _text(_qe_identity(state, now))
        signing = state.tcb_signing + state.root
        return {
            "pck_crl_issuer_chain": state.platform_ca + state.root,
            "root_ca_crl": root_crl.hex(),
            "pck_crl": pck_crl.hex(),
            "tcb_info_issuer_chain": signing,
            "tcb_info": tcb_info,
            "tcb_info_signature": issuing.sign(keys.tcb_signing, tcb_info.encode()).hex(),
            "qe_identity_issuer_chain": signing,
            "qe_identity": identity,
            "qe_identity_signature": issuing.sign(keys.tcb_signing, identity.encode()).hex(),
        }


def _tcb_info(state: State, now: datetime) -> dict[str, Any]:
    return {
        "id": "SGX",
        "version": 3,
        **_window(now),
        "fmspc": state.fmspc.hex(),
        "pceId": PCEID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": state.evaluation,
        "tcbLevels": [
            {
                "tcb": {
                    "sgxtcbcomponents": [{"svn": svn} for svn in level.cpusvn],
                    "pcesvn": level.pcesvn,
                },
                "tcbDate": level.date,
                "tcbStatus": level.status,
                **({"advisoryIDs": list(level.advisories)} if level.advisories else {}),
            }
            for level in state.levels
        ],
    }


def _qe_identity(state: State, now: datetime) -> dict[str, Any]:
    return {
        "id": "QE",
        "version": 2,
        **_window(now),
        "tcbEvaluationDataNumber": state.evaluation,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT_ID,
        "tcbLevels": [{"tcb": {"isvsvn": QE_SVN}, "tcbDate": state.levels[-1].date, "tcbStatus": "UpToDate"}],
    }


def _window(now: datetime) -> dict[str, str]:
    start = now - issuing.BACKDATED
    return {"issueDate": issuing.zulu(start), "nextUpdate": issuing.zulu(start + COLLATERAL_LIFE)}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _state_json(state: State) -> dict[str, jcs.Writable]:
    return {
        "version": 1,
        "level": state.level,
        "fmspc": state.fmspc.hex(),
        "evaluation": state.evaluation,
        "levels": [{**dataclasses.asdict(level), "cpusvn": level.cpusvn.hex()} for level in state.levels],
        "revoked": [{"serial": f"{serial:040x}", "date": when} for serial, when in state.revoked],
        "certificates": [state.root, state.platform_ca, state.tcb_signing],
    }


def _state(value: Members) -> State:
    value.version(1)
    certificates = value.texts("certificates", most=3)
    if len(certificates) != 3:
        raise FormatError(f"{value.what}.certificates: want 3, got {len(certificates)}", code="bad_length")
    root, platform_ca, tcb_signing = certificates
    return State(
        level=value.text("level"),
        fmspc=value.hex("fmspc", 6),
        evaluation=value.integer("evaluation", least=1),
        levels=tuple(
            TcbLevel(
                cpusvn=level.hex("cpusvn", 16),
                pcesvn=level.integer("pcesvn", most=0xFFFF),
                status=level.text("status"),
                date=level.text("date"),
                advisories=level.texts("advisories", most=MAX_REMEMBERED),
            )
            for level in value.objects("levels", most=MAX_REMEMBERED)
        ),
        revoked=tuple(
            (int.from_bytes(entry.hex("serial", 20), "big"), entry.text("date"))
            for entry in value.objects("revoked", most=MAX_REMEMBERED)
        ),
        root=root,
        platform_ca=platform_ca,
        tcb_signing=tcb_signing,
    )
