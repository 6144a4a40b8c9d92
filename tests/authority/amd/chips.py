"""Emulated processors for tests, with RSA keys that are made once in a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from kluis.authority.amd import Launch, Processor
from kluis.authority.amd.reports import guest_policy
from kluis.formats.snp.tcb import Product
from tests.keys import rsa_key

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECRET: Final = bytes(range(32))
GUEST: Final = bytes([0xA1]) * 48


def chip(secret: bytes = SECRET, product: Product = Product.GENOA, now: datetime = NOW) -> Processor:
    """A processor whose vendor has test keys of 2048 bits, the same for every processor."""
    return Processor.create(now, secret=secret, product=product, rsa_keys=(rsa_key(50), rsa_key(51)))


def launch(*, debug: bool = False, **changes: Any) -> Launch:
    """One launch of the test guest, with fields replaced."""
    fields = {"measurement": GUEST, "report_id": bytes([7]) * 32, "policy": guest_policy(debug=debug)}
    return Launch(**{**fields, **changes})


class ChipDriver:
    """An emulated processor as a driver: its report of one launch, with its certificates."""

    name = "emulated"

    def __init__(self, processor: Processor, of: Launch) -> None:
        self._processor, self._launch = processor, of

    def available(self) -> str | None:
        """It always is."""
        return None

    def kind(self) -> str:
        """``snp``."""
        return "snp"

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """A report, its chain and the CRL of now."""
        return {
            "report": self._processor.report(self._launch, report_data),
            "certificates": self._processor.certificates(),
            "crl": self._processor.crl(datetime.now(UTC)),
        }

    def seal_secret(self) -> bytes | None:
        """It has none."""
        return None
