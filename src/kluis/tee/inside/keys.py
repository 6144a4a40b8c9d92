"""Keys of the machine's vTPM, for the enclaves of one image.

An attestation service's token about a machine names its guest, but not the image that runs there. So the
first image that requests a key claims the machine: its image id is extended into PCR 15, which the evidence
contains, and until the next boot no other image gets a key. Each launch has its own key, which never leaves
the vTPM.

Spec: docs/decisions/0052-an-image-claims-a-machines-key.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO, Final

from kluis.errors import FormatError, KluisError, PolicyError, UnavailableError, UsageError
from kluis.formats.hcl.vtpm import AK
from kluis.formats.kluis import machine_key
from kluis.formats.kluis.machine_key import MachineOffer, Offer, Open, Opened, Refused
from kluis.formats.tpm.command import ENDORSEMENT
from kluis.hashes import sha256
from kluis.tee.drivers import Driver, detect
from kluis.tee.tpm import keys
from kluis.tee.tpm.tpm import Tpm

CLAIM: Final = 15
"""The PCR that states which image gets keys."""
KIND: Final = "azure-snp"


class MachineKeys:
    """Gives enclaves keys of the vTPM.

    Args:
        driver: returns the driver of this machine's TEE; None if there is none.
        tpm: opens the vTPM.
    """

    def __init__(
        self, driver: Callable[[], Driver | None] = detect, tpm: Callable[[], Tpm] = Tpm.open
    ) -> None:
        self._driver = driver
        self._tpm = tpm
        self._image_id = b""
        self._lock = threading.Lock()

    def serve(self, end: socket.socket, image_id: bytes, lack: str = "") -> None:
        """Answer one launch until its enclave closes the socket; then close it.

        Args:
            end: the agent's end of the launch's granted socket.
            image_id: of the launch, 32 bytes.
            lack: why this launch gets no key: ``debug``, or the protections that it does without.
        """
        launch = _Launch(image_id, os.urandom(keys.UNIQUE_BYTES))
        with end, end.makefile("rb") as received, contextlib.suppress(OSError, FormatError):
            while (body := _receive(received)) is not None:
                try:
                    _require_whole(lack)
                    reply = self._answer(machine_key.read_request(body), launch)
                except KluisError as error:
                    reply = Refused(error.code, error.message)
                end.sendall(machine_key.encode(reply))

    def _answer(self, request: machine_key.Request, launch: _Launch) -> machine_key.Reply:
        with self._lock:
            if isinstance(request, Offer):
                return self._offer(request.nonce, launch)
            return self._open(request, launch)

    def _offer(self, nonce: bytes, launch: _Launch) -> MachineOffer:
        driver = self._driver()
        if driver is None or driver.kind() != KIND:
            raise UnavailableError(
                "machine key: want a machine with a vTPM whose key its processor names, got another",
                hint="kluis vm start --boot uefi",
                code="driver_absent",
            )
        with self._tpm() as tpm:
            self._claim(tpm, launch.image_id)
            with tpm.holding(launch.key(tpm)) as key:
                area = tpm.read_public(key).encode()
                certification, signature = tpm.certify(key, AK)
            attestation_key = tpm.read_public(AK).encode()
        parts = driver.endorse(sha256(area + nonce) + bytes(32))
        return MachineOffer(
            key=area,
            certification=certification,
            certification_signature=signature.encode(),
            attestation_key=attestation_key,
            event_log=parts.get("event_log", b""),
            **{name: parts[name] for name in ("hcl", "quote", "signature", "pcrs", "certificates")},
        )

    def _claim(self, tpm: Tpm, image_id: bytes) -> None:
        """Name the image in PCR 15, once in each boot.

        Raises:
            PolicyError: another image has claimed the machine.
        """
        if not self._image_id:
            tpm.extend(CLAIM, image_id)
            self._image_id = image_id
        if self._image_id != image_id:
            raise PolicyError(
                f"machine key: image id: want {self._image_id.hex()}, which claimed this machine, got"
                f" {image_id.hex()}",
                hint="start another machine for this image",
                code="machine_claimed",
            )

    def _open(self, request: Open, launch: _Launch) -> Opened:
        if launch.image_id != self._image_id:
            raise UsageError("machine key: want an offer before something is opened, got none")
        if request.scheme not in keys.SCHEMES:
            raise UsageError(
                f"machine key: scheme: want {' or '.join(keys.SCHEMES)}, got {request.scheme[:40]!a}"
            )
        with self._tpm() as tpm, tpm.holding(launch.key(tpm)) as key:
            return Opened(tpm.decrypt(key, request.ciphertext, keys.SCHEMES[request.scheme]))


def _require_whole(lack: str) -> None:
    if lack:
        raise UnavailableError(
            f"machine key: want a launch with every protection, got one without: {lack}"
            if lack != "debug"
            else "machine key: want an enclave whose memory its host cannot read, got a debug one",
            code="launch_lacks",
        )


class _Launch:
    """One launch: its image, and the secret bytes from which the vTPM derives its key.

    The vTPM derives the same key from the same bytes after another boot, too. They are only here, so no later
    guest derives it.
    """

    def __init__(self, image_id: bytes, unique: bytes) -> None:
        self.image_id = image_id
        self._template = keys.decryption(unique).encode()

    def key(self, tpm: Tpm) -> int:
        """Create its key in the TPM, the same each time; return the handle, which the caller flushes."""
        return tpm.create_primary(ENDORSEMENT, self._template)


def _receive(received: BinaryIO) -> bytes | None:
    """The next message; None at the end.

    Raises:
        FormatError: it is cut, or too large.
    """
    head = received.read(machine_key.SIZE_BYTES)
    if not head:
        return None
    size = machine_key.read_size(head)
    body = received.read(size)
    if len(body) != size:
        raise FormatError(f"machine key: want {size} bytes, got {len(body)}", code="truncated")
    return body
