"""The authority: certifies platforms, raises the required TCB, revokes platforms, and publishes collateral.

Everything is in Intel's own formats, under names that mark it as emulated.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification"; Intel PCS API v4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.authority import documents, issuing
from kluis.authority.state import (
    CPUSVN,
    FMSPC,
    MAX_ADVISORIES,
    MAX_LEVELS,
    MAX_REVOKED,
    OUT_OF_DATE,
    PCEID,
    PCESVN,
    UP_TO_DATE,
    State,
    TcbLevel,
)
from kluis.errors import UsageError
from kluis.formats.sgx import extension
from kluis.frozen import frozen

LEVELS: Final = ("process", "process-user")
ROOT_CRL_LIFE: Final = timedelta(days=365)
_LONGEST_ADVISORY: Final = 32

ROOT_CN: Final = "Kluis emulated SGX Root CA (no hardware)"
PLATFORM_CA_CN: Final = "Kluis emulated SGX PCK Platform CA (no hardware)"
TCB_SIGNING_CN: Final = "Kluis emulated SGX TCB Signing (no hardware)"
PCK_CN: Final = "Kluis emulated SGX PCK Certificate (no hardware)"


@frozen(kw_only=True)
class Keys:
    """The authority's private keys, P-256."""

    root: ec.EllipticCurvePrivateKey
    platform_ca: ec.EllipticCurvePrivateKey
    tcb_signing: ec.EllipticCurvePrivateKey


@frozen(kw_only=True)
class Published:
    """The documents that an authority publishes at one time: three signed documents, two CRLs, and their
    chains.

    Attributes:
        tcb_info: JSON, as signed; ``tcb_info_signature`` is 64 bytes r and s. The other two documents are
            alike.
        root_crl: DER.
        pck_crl: DER.
        signing_chain: PEM: TCB signing, root; of the three documents.
        ca_chain: PEM: platform CA, root; of the PCK CRL and of PCK certificates.
    """

    tcb_info: bytes
    tcb_info_signature: bytes
    qe_identity: bytes
    qe_identity_signature: bytes
    evaluation_numbers: bytes
    evaluation_numbers_signature: bytes
    root_crl: bytes
    pck_crl: bytes
    signing_chain: str
    ca_chain: str

    def bundle(self) -> dict[str, str]:
        """The JSON shape that ``dcap_qvl.QuoteCollateralV3.from_json`` reads.

        PEM chains, CRLs and signatures in hex, two signed documents as text.
        """
        return {
            "pck_crl_issuer_chain": self.ca_chain,
            "root_ca_crl": self.root_crl.hex(),
            "pck_crl": self.pck_crl.hex(),
            "tcb_info_issuer_chain": self.signing_chain,
            "tcb_info": self.tcb_info.decode(),
            "tcb_info_signature": self.tcb_info_signature.hex(),
            "qe_identity_issuer_chain": self.signing_chain,
            "qe_identity": self.qe_identity.decode(),
            "qe_identity_signature": self.qe_identity_signature.hex(),
        }


class Authority:
    """A certificate authority for one machine, or for several owners' provisioning service.

    Its keys are in this process's memory; the caller stores them.

    Attributes:
        keys: private; for the caller to store.
        state: everything else to store.
    """

    def __init__(self, keys: Keys, state: State) -> None:
        self.keys = keys
        self.state = state

    @classmethod
    def create(cls, level: str, now: datetime, *, fmspc: bytes = FMSPC, cpusvn: bytes = CPUSVN) -> Self:
        """Create an authority with new keys.

        Args:
            level: the protection level of its platforms, ``process`` or ``process-user``. The root's subject
                contains it, and verifiers read it from there.
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
        first = TcbLevel(cpusvn=cpusvn, pcesvn=PCESVN, status=UP_TO_DATE, date=issuing.zulu(now))
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

    def root_pem(self) -> bytes:
        """The root certificate, which a relying party names as its anchor."""
        return self.state.root.encode()

    def certify(
        self, key: ec.EllipticCurvePublicKey, *, ppid: bytes, cpusvn: bytes, pcesvn: int, now: datetime
    ) -> bytes:
        """Certify a platform's key, or re-certify it at another TCB.

        Args:
            key: the public PCK, P-256; the private key stays with the platform.
            ppid: 16 bytes, identifies the platform.
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
        leaf = issuing.issue(PCK_CN, key, issuer, self.keys.platform_ca, now, sgx=sgx)
        return (issuing.pem(leaf) + self.state.platform_ca + self.state.root).encode()

    def recover(self, *, cpusvn: bytes, pcesvn: int, advisories: tuple[str, ...], now: datetime) -> None:
        """Raise the required TCB: platforms below it are OutOfDate from now on.

        The newest 32 levels are published; a platform below the oldest is no longer supported.

        Args:
            cpusvn: 16 bytes, the least component SVNs that are up to date.
            pcesvn: the least that is up to date, 0..65535.
            advisories: names of the advisories that affect the older levels.
            now: aware.

        Raises:
            UsageError: less than is already required, names that are too long, or a full state.
        """
        state = self.state
        required = state.levels[0]
        if len(cpusvn) != 16 or not 0 <= pcesvn <= 0xFFFF:
            raise UsageError("recovery: want 16 bytes of cpusvn and a pcesvn of 0..65535")
        if not required.reached_by(cpusvn, pcesvn):
            raise UsageError(
                f"recovery: want at least what is required now, cpusvn {required.cpusvn.hex()} and pcesvn "
                f"{required.pcesvn}, got {cpusvn.hex()} and {pcesvn}"
            )
        if not all(0 < len(name) <= _LONGEST_ADVISORY and name.isprintable() for name in advisories):
            raise UsageError(f"recovery: advisories: want names of 1 to {_LONGEST_ADVISORY} characters")
        newest = TcbLevel(cpusvn=cpusvn, pcesvn=pcesvn, status=UP_TO_DATE, date=issuing.zulu(now))
        older = tuple(
            dataclasses.replace(
                level, status=OUT_OF_DATE, advisories=tuple(sorted({*level.advisories, *advisories}))
            )
            for level in state.levels
            if (level.cpusvn, level.pcesvn) != (cpusvn, pcesvn)
        )
        if any(len(level.advisories) > MAX_ADVISORIES for level in older):
            raise UsageError(f"recovery: want at most {MAX_ADVISORIES} advisories of a level, got more")
        levels = (newest, *older)[:MAX_LEVELS]
        self.state = dataclasses.replace(state, levels=levels, evaluation=state.evaluation + 1)

    def revoke(self, chain: bytes, now: datetime) -> None:
        """Revoke the first PCK certificate of ``chain`` (PEM): collateral lists it from now on.

        Raises:
            UsageError: the state has no room for more revocations.
        """
        self.revoke_serials((serial_of(chain),), now)

    def revoke_serials(self, serials: Iterable[int], now: datetime) -> None:
        """Revoke the PCK certificates with these serial numbers, all or none.

        Raises:
            UsageError: the state has no room for more revocations.
        """
        fresh = self.drop_revoked(dict.fromkeys(serials))
        if len(self.state.revoked) + len(fresh) > MAX_REVOKED:
            raise UsageError(f"revocation: want at most {MAX_REVOKED} certificates, got one more")
        revoked = (*self.state.revoked, *((serial, issuing.zulu(now)) for serial in fresh))
        self.state = dataclasses.replace(self.state, revoked=revoked)

    def is_revoked(self, chain: bytes) -> bool:
        """Whether the first PCK certificate of ``chain`` (PEM) is revoked."""
        serial = serial_of(chain)
        return any(serial == gone for gone, _ in self.state.revoked)

    def drop_revoked(self, serials: Iterable[int]) -> tuple[int, ...]:
        """The serial numbers among these that are not revoked."""
        gone = {serial for serial, _ in self.state.revoked}
        return tuple(serial for serial in serials if serial not in gone)

    def publish(self, now: datetime) -> Published:
        """Sign the collateral for quotes, valid for 30 days; the root's CRL for a year."""
        state, keys = self.state, self.keys
        revoked = [(serial, datetime.fromisoformat(when)) for serial, when in state.revoked]
        info, identity = documents.tcb_info(state, now), documents.qe_identity(state, now)
        numbers = documents.evaluation_numbers(state, now)
        return Published(
            tcb_info=info,
            tcb_info_signature=issuing.sign(keys.tcb_signing, info),
            qe_identity=identity,
            qe_identity_signature=issuing.sign(keys.tcb_signing, identity),
            evaluation_numbers=numbers,
            evaluation_numbers_signature=issuing.sign(keys.tcb_signing, numbers),
            root_crl=issuing.crl(_certificate(state.root), keys.root, now, life=ROOT_CRL_LIFE, revoked=()),
            pck_crl=issuing.crl(
                _certificate(state.platform_ca),
                keys.platform_ca,
                now,
                life=documents.COLLATERAL_LIFE,
                revoked=revoked,
            ),
            signing_chain=state.tcb_signing + state.root,
            ca_chain=state.platform_ca + state.root,
        )

    def collateral(self, now: datetime) -> dict[str, str]:
        """The collateral for quotes, as :meth:`Published.bundle` writes it."""
        return self.publish(now).bundle()


def serial_of(chain: bytes) -> int:
    """The serial number of the first certificate of ``chain`` (PEM)."""
    return x509.load_pem_x509_certificates(chain)[0].serial_number


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())
