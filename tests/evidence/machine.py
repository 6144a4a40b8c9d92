"""A forger of machines: an enclave's quote, and evidence of a TEE over the root of the platform inside."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from kluis.authority.amd import Launch, Processor
from kluis.evidence import Claims, Collateral, TrustAnchors, verify
from kluis.formats.kluis import machine, runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.x509 import Certificate, parse_pem
from tests.authority.amd.chips import chip, launch
from tests.evidence.forge import NOW, Forge

BOOT: Final = bytes([0xB0]) * 16


class MachineForge:
    """One machine under one processor, the platform inside it, and every key of both.

    Args:
        processor: that signs the machine's reports.
        inside: the platform inside, with its root and an enclave.
    """

    def __init__(self, processor: Processor | None = None, inside: Forge | None = None) -> None:
        self.processor = processor or chip()
        self.inside = inside or Forge()
        self.launch: Launch = launch()
        self.anchors = TrustAnchors.from_pem(self.processor.root_pem())

    @property
    def root(self) -> Certificate:
        """The root of the platform inside."""
        return parse_pem(self.inside.authority.root_pem(), "root")[0]

    def configuration(self, **changes: Any) -> MachineConfiguration:
        """The machine's configuration, with fields replaced."""
        good: dict[str, Any] = {
            "root": machine.name_of(self.root.spki),
            "boot": BOOT,
            "debug": False,
            "missing": (),
        }
        return MachineConfiguration(**{**good, **changes})

    def report(self, document: bytes, **changes: Any) -> bytes:
        """A report over this runtime data, of a launch with fields replaced."""
        given = dataclasses.replace(self.launch, **changes)
        return self.processor.report(given, runtime_data.report_data(document))

    def parts(self, document: bytes, **changes: Any) -> dict[str, bytes]:
        """The parts of an endorsement over this runtime data."""
        return {
            "report": self.report(document, **changes),
            "certificates": self.processor.certificates(),
            "crl": self.processor.crl(NOW),
        }

    def endorsement(
        self,
        configuration: MachineConfiguration | None = None,
        *,
        document: bytes | None = None,
        kind: str = "snp",
        without: tuple[str, ...] = (),
        **parts: bytes,
    ) -> bytes:
        """A good endorsement, with its configuration, runtime data or parts replaced."""
        held = (configuration or self.configuration()).runtime_data() if document is None else document
        whole = {**self.parts(held), **parts}
        return Endorsement(
            kind=kind,
            runtime_data=held,
            parts={name: part for name, part in whole.items() if name not in without},
        ).encode()

    def collateral(self, endorsement: bytes | None = None) -> Collateral:
        """The collateral of the platform inside, with an endorsement: by default a good one."""
        given = self.endorsement() if endorsement is None else endorsement
        return dataclasses.replace(self.inside.collateral(), endorsement=given)

    def verify(self, endorsement: bytes | None = None, **other: Any) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": NOW, **other}
        quote = given.pop("quote", None) or self.inside.quote()
        collateral = given.pop("collateral", None) or self.collateral(endorsement)
        return verify(quote, collateral=collateral, **given).value
