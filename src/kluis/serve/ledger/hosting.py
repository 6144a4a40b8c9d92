"""What a host does for a ledger's enclave: its log, and the member that a development ledger begins with."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kluis import files
from kluis.errors import FormatError, UnavailableError
from kluis.host.proxy import EnclaveProxy
from kluis.ledger import certificates
from kluis.serve.ledger.log import LedgerLog
from kluis.tee import keyfiles

BEGIN_SECONDS: Final = 1800.0
"""A node reads all of its log at its start."""
FIRST: Final = "member0"


class Member:
    """A member's keys in a folder, named as CCF's ``keygenerator.sh`` names them.

    Attributes:
        key: P-384, which signs what the member decides.
        certificate: PEM.
        encryption_key: PEM of the public key for its recovery share.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: str, encryption_key: str) -> None:
        self.key = key
        self.certificate = certificate
        self.encryption_key = encryption_key

    @classmethod
    def load_or_create(cls, folder: Path, now: datetime, name: str = FIRST) -> Member:
        """The member in ``folder``, made there if there is none.

        Raises:
            UnavailableError: a file is another user's, or open to others.
            FormatError: a file is not what was written.
        """
        private, shown = folder / f"{name}_privk.pem", folder / f"{name}_cert.pem"
        secret, public = folder / f"{name}_enc_privk.pem", folder / f"{name}_enc_pubk.pem"
        if not private.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = ec.generate_private_key(ec.SECP384R1())
            opener = rsa.generate_private_key(65537, 2048)
            pem = opener.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            files.write(shown, certificates.member_certificate(key, now, name=name).encode())
            files.write(secret, _private(opener))
            files.write(public, pem)
            files.write(private, _private(key))  # last: a member is there once it is
        return cls.load(folder, name)

    @classmethod
    def load(cls, folder: Path, name: str) -> Member:
        """The member in ``folder``.

        Raises:
            UnavailableError: a file is missing, another user's, or open to others.
            FormatError: a file is not what was written.
        """
        private = folder / f"{name}_privk.pem"
        shown, public = folder / f"{name}_cert.pem", folder / f"{name}_enc_pubk.pem"
        try:
            loaded = load_pem_private_key(keyfiles.read(private), None)
        except ValueError:
            loaded = None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise FormatError(f"{private}: want a key on P-384, got another")
        return cls(loaded, keyfiles.read(shown).decode(), keyfiles.read(public).decode())


class HostedLedger:
    """A host's side of one ledger, for as long as its log is open.

    Attributes:
        log: on the disk.
        certificate: where the service's certificate is written, PEM, once a node has begun.
        member: that the ledger begins with, made here; None where others found it.
    """

    def __init__(self, log: LedgerLog, certificate: Path, member: Member | None) -> None:
        self.log = log
        self.certificate = certificate
        self.member = member

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, state: Path, now: datetime, *, founds: bool, report: Callable[[Iterable[str]], None]
    ) -> Iterator[HostedLedger]:
        """The ledger of a state folder, while the ``with`` lasts.

        Args:
            state: the folder.
            now: the time.
            founds: whether a member that is made here founds it.
            report: prints lines for the operator.

        Raises:
            UnavailableError: another process writes its log.
            FormatError: a file of it is not what was written.
        """
        member = Member.load_or_create(state / "members", now) if founds else None
        with LedgerLog(state / "ledger", report) as log:
            yield cls(log, state / "service_cert.pem", member)

    def functions(self) -> dict[str, Callable[..., Any]]:
        """The ocalls of a ledger's enclave, by the names that it calls them."""
        return {
            "ledger_head": self.log.head,
            "ledger_append": self.log.append_first,
            "ledger_read": self.log.read,
            "ledger_read_each": self.log.read_each,
        }

    def begin(self, enclave: EnclaveProxy, address: str) -> None:
        """Let a node open the log.

        Args:
            enclave: which took its settings.
            address: ``host:port`` that clients use.

        Raises:
            KluisError: it does not; states why.
        """
        pem: str = enclave.begin.within(BEGIN_SECONDS)(address)
        files.write(self.certificate, pem.encode())

    def open_service(self, address: str, issuer: str, keys: str) -> None:
        """Have the member that was made here open the service, and register the issuer of tokens that runs.

        The issuer's address changes with the command's port.

        Args:
            address: ``https://host:port`` of a node that serves.
            issuer: address of the development issuer.
            keys: its JWKS document, JSON.

        Raises:
            KluisError: it is not opened; states why.
        """
        member = self.member
        if member is not None:
            from kluis.serve.ledger.governing import Governor  # loads httpx, while other services start

            service = self.certificate.read_text()
            with Governor(address, service, member.key, member.certificate) as governor:
                if governor.open_service():
                    governor.register_issuer(issuer, keys)


def refuse_running(state: Path) -> None:
    """Refuse to start a second ledger of a state folder, while the first one runs.

    Args:
        state: the folder; it may have no ledger yet.

    Raises:
        UnavailableError: a ledger of it runs, with the command that talks to it.
    """
    lock = state / "ledger.lock"
    if not lock.exists():
        return
    file = files.open_regular(lock, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        raise UnavailableError(
            f"{state}: a ledger of this folder runs already",
            hint="Ctrl-C where it runs ends it; kluis ledger status --url URL --service-cert"
            f" {state}/service_cert.pem talks to it, with the URL that it printed",
            code="ledger_held",
        ) from None
    finally:
        os.close(file)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
