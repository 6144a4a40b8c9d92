"""A time is found where none is recorded: inside every window that there is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import UsageError
from tests.collateral.service import signed
from tests.corpus.moment import FALLBACK, certificates, instant
from tests.evidence.forge import NOW, Forge, pem
from tests.evidence.samples import sample
from tests.meta.corpus import samples


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


def test_a_time_inside_every_window(forge: Forge) -> None:
    """Where no time is recorded, one inside the window of every certificate is taken."""
    when = instant(samples.files(forge))
    for one in (forge.root, forge.ca, forge.signer()):
        assert one.not_valid_before_utc <= when <= one.not_valid_after_utc
    assert instant({"log": b"no certificate"}) == FALLBACK


def test_no_time_inside_every_window(forge: Forge) -> None:
    """Certificates of different times have none in common, which is said."""
    later = forge.leaf(now=NOW + timedelta(days=20_000))
    with pytest.raises(UsageError, match="no time is inside the window of every certificate"):
        instant({"a": pem(later), "b": pem(forge.leaf())})


def test_certificates_wherever_they_stand(forge: Forge) -> None:
    """Those of a chain, within a quote, of DER, and of a Nitro document; what is broken has none."""
    leaf = forge.leaf()
    assert len(certificates(pem(leaf, forge.ca))) == 2
    assert len(certificates(forge.quote())) == 3
    assert len(certificates(leaf.public_bytes(Encoding.DER))) == 1
    document = sample("nitro.document").data
    assert len(certificates(document)) == 5
    broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    for data in (document[:-1], broken, b"\x30\x00", b""):
        assert certificates(data) == ()


def test_a_time_inside_what_evidence_holds() -> None:
    """A document of a few hours' certificates is verified within them."""
    made = sample("nitro.document")
    when = instant({"document": made.data})
    held = certificates(made.data)
    assert max(one.not_before for one in held) <= when <= min(one.not_after for one in held)


def test_a_time_inside_what_makers_publish(forge: Forge) -> None:
    """Documents and lists are valid as well; if they never are at the same time, only certificates count."""
    files = samples.files(forge)
    when = instant(files)
    info = json.loads(files["tcb_info"])["tcbInfo"]
    start, end = (datetime.fromisoformat(info[name]) for name in ("issueDate", "nextUpdate"))
    assert start <= when <= end
    late = forge.collateral(
        **forge.signed(
            "tcb_info", {**info, "issueDate": "2050-01-01T00:00:00Z", "nextUpdate": "2050-02-01T00:00:00Z"}
        )
    )
    files["tcb_info"] = signed("tcbInfo", late, "x").body
    assert instant(files) < datetime(2050, 1, 1, tzinfo=UTC)
