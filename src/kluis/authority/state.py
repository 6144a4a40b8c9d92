"""The state of an authority apart from its keys, and its canonical JSON."""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

FMSPC: Final = bytes.fromhex("e0e0e0000000")
PCEID: Final = bytes(2)
CPUSVN: Final = bytes([1] * 16)
PCESVN: Final = 1
UP_TO_DATE: Final = "UpToDate"
OUT_OF_DATE: Final = "OutOfDate"
NOT_SUPPORTED: Final = "NotSupported"
REVOKED: Final = "Revoked"
# Even if all of these are full, collateral fits into one frame from a platform to its enclaves.
MAX_LEVELS: Final = 32
MAX_REVOKED: Final = 512
MAX_ADVISORIES: Final = 16
WHAT: Final = "authority.json"


@frozen(kw_only=True)
class TcbLevel:
    """One line of the TCB info: platforms that reach these SVNs have this status.

    Attributes:
        cpusvn: 16 bytes, one component SVN each.
        pcesvn: 0..65535.
        status: in Intel's spelling: ``UpToDate``, ``OutOfDate`` or ``Revoked``.
        date: when the level became current, such as ``2026-01-31T00:00:00Z``.
        advisories: names of the advisories that affect it.
    """

    cpusvn: bytes
    pcesvn: int
    status: str
    date: str
    advisories: tuple[str, ...] = ()

    def reached_by(self, cpusvn: bytes, pcesvn: int) -> bool:
        """Whether a platform at these SVNs, 16 bytes and 0..65535, meets the level."""
        return pcesvn >= self.pcesvn and all(
            have >= need for have, need in zip(cpusvn, self.cpusvn, strict=True)
        )


@frozen(kw_only=True)
class State:
    """The state of an authority apart from its keys; times as text, certificates as PEM."""

    level: str
    fmspc: bytes
    evaluation: int
    levels: tuple[TcbLevel, ...]
    revoked: tuple[tuple[int, str], ...]
    root: str
    platform_ca: str
    tcb_signing: str

    def status(self, cpusvn: bytes, pcesvn: int) -> str:
        """A platform's status at these SVNs, as a verifier determines it: ``NotSupported`` below every
        level.
        """
        return next((one.status for one in self.levels if one.reached_by(cpusvn, pcesvn)), NOT_SUPPORTED)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return jcs.dumps(
            {
                "version": 1,
                "level": self.level,
                "fmspc": self.fmspc.hex(),
                "evaluation": self.evaluation,
                "levels": [
                    {**dataclasses.asdict(level), "cpusvn": level.cpusvn.hex()} for level in self.levels
                ],
                "revoked": [{"serial": f"{serial:040x}", "date": when} for serial, when in self.revoked],
                "certificates": [self.root, self.platform_ca, self.tcb_signing],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the output of ``encode``.

        Raises:
            FormatError: not such a state.
        """
        value = Members(jcs.loads_canonical(data, WHAT), WHAT)
        value.version(1)
        certificates = value.texts("certificates", most=3)
        if len(certificates) != 3:
            raise FormatError(
                f"{value.what}.certificates: want 3, got {len(certificates)}", code="bad_length"
            )
        root, platform_ca, tcb_signing = certificates
        return cls(
            level=value.text("level"),
            fmspc=value.hex("fmspc", 6),
            evaluation=value.integer("evaluation", least=1),
            levels=tuple(
                TcbLevel(
                    cpusvn=level.hex("cpusvn", 16),
                    pcesvn=level.integer("pcesvn", most=0xFFFF),
                    status=level.text("status"),
                    date=level.text("date"),
                    advisories=level.texts("advisories", most=MAX_ADVISORIES),
                )
                for level in value.objects("levels", most=MAX_LEVELS)
            ),
            revoked=tuple(
                (int.from_bytes(entry.hex("serial", 20), "big"), entry.text("date"))
                for entry in value.objects("revoked", most=MAX_REVOKED)
            ),
            root=root,
            platform_ca=platform_ca,
            tcb_signing=tcb_signing,
        )
