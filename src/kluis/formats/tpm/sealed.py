"""The file of a secret sealed to a TPM: sealed objects, each under its own PCR values. Nothing is verified.

    {"objects": [{"pcrs": {"sha256": {"4": hex, ...}}, "private": hex, "public": hex}], "version": 1}

Canonical JSON (RFC 8785). Only the TPM that made an object can unseal it, and only while its PCRs have the
values that the object's policy names; ``pcrs`` is a hint that selects the object.

Spec: TCG "TPM 2.0 Library Part 1: Architecture", "PolicyPCR"; Part 2: Structures, "TPMS_KEYEDHASH_PARMS".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import NULL, HashId
from kluis.formats.tpm.attest import Selection, encode_sized
from kluis.formats.tpm.command import Command
from kluis.formats.tpm.public import Attribute
from kluis.frozen import frozen

MAX_SIZE: Final = 64 * 1024
MAX_OBJECTS: Final = 4
MAX_AREA: Final = 2048
BANK: Final = HashId.SHA256
_KEYED_HASH: Final = 0x0008
_WHAT: Final = "sealed secret"
_MEMBERS: Final = ("pcrs", "private", "public")


@frozen
class SealedObject:
    """One object.

    Attributes:
        values: of the PCRs under which it unseals, by index; 32 bytes each.
        public: TPMT_PUBLIC, at most 2 KiB.
        private: encrypted by the TPM, at most 2 KiB.
    """

    values: Mapping[int, bytes]
    public: bytes
    private: bytes


@frozen
class SealedSecret:
    """The file: 1 to 4 objects that contain the same secret."""

    objects: tuple[SealedObject, ...]

    def encode(self) -> bytes:
        """Write the file."""
        return jcs.dumps(
            {
                "version": 1,
                "objects": [
                    {
                        "pcrs": jcs.loads(pcrs.dumps({BANK: each.values}), _WHAT),
                        "public": each.public.hex(),
                        "private": each.private.hex(),
                    }
                    for each in self.objects
                ],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the file in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing or unknown, or out of bounds.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        value.only(("objects", "version"))
        value.version(1)
        objects = tuple(_object(each) for each in value.objects("objects", most=MAX_OBJECTS))
        if not objects:
            raise FormatError(f"{_WHAT}.objects: want 1..{MAX_OBJECTS}, got 0", code="bad_length")
        if cls(objects).encode() != data:
            raise FormatError(f"{_WHAT}.pcrs: want lower-case hex under {BANK.label}", code="bad_encoding")
        return cls(objects)


def _object(value: Members) -> SealedObject:
    value.only(_MEMBERS)
    banks = pcrs.parse_json(jcs.dumps(dict(value.object("pcrs").entries(most=1))))
    if list(banks) != [BANK] or not banks[BANK]:
        raise FormatError(f"{value.what}.pcrs: want values of the bank {BANK.label}", code="bad_type")
    areas = {name: value.hex(name, lower=True) for name in ("public", "private")}
    for name, area in areas.items():
        if len(area) > MAX_AREA:
            raise FormatError(
                f"{value.what}.{name}: is {len(area)} bytes, must be at most {MAX_AREA}", code="too_large"
            )
    return SealedObject(banks[BANK], areas["public"], areas["private"])


def selection(indices: Iterable[int]) -> bytes:
    """Write the TPML_PCR_SELECTION of these PCRs in the bank of SHA-256."""
    chosen = Selection.of(BANK, *indices)
    return (1).to_bytes(4, "big") + BANK.to_bytes(2, "big") + bytes([len(chosen.bitmap)]) + chosen.bitmap


def digest_of(values: Mapping[int, bytes]) -> bytes:
    """SHA-256 over the values, in ascending order of their PCRs: 32 bytes."""
    return hashlib.sha256(b"".join(values[index] for index in sorted(values))).digest()


def policy(values: Mapping[int, bytes]) -> bytes:
    """The policy digest of TPM2_PolicyPCR for these values, with SHA-256: 32 bytes."""
    command = Command.POLICY_PCR.to_bytes(4, "big")
    return hashlib.sha256(bytes(32) + command + selection(values) + digest_of(values)).digest()


def template(values: Mapping[int, bytes]) -> bytes:
    """The TPMT_PUBLIC of data that unseal only under these values; no password unseals them."""
    attributes = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.ADMIN_WITH_POLICY | Attribute.NO_DA
    return b"".join(
        (
            _KEYED_HASH.to_bytes(2, "big"),
            BANK.to_bytes(2, "big"),
            attributes.to_bytes(4, "big"),
            encode_sized(policy(values)),
            NULL.to_bytes(2, "big"),
            encode_sized(b""),
        )
    )
