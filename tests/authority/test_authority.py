"""The emulated authority: its names are honest, what it requires only rises, what it revoked stays so."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.authority import Authority, State
from kluis.authority.state import MAX_LEVELS, MAX_REVOKED
from kluis.errors import FormatError, UsageError
from kluis.formats.kluis import channel
from kluis.formats.sgx import evaluation, extension
from kluis.formats.sgx.tcb_info import parse_tcb_info

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
PCK = ec.generate_private_key(ec.SECP256R1()).public_key()
ONES, TWOS = bytes([1] * 16), bytes([2] * 16)


@pytest.fixture
def authority() -> Authority:
    """An authority at level process."""
    return Authority.create("process", NOW)


def _chain(authority: Authority, cpusvn: bytes = ONES, pcesvn: int = 1) -> bytes:
    return authority.certify(PCK, ppid=bytes(16), cpusvn=cpusvn, pcesvn=pcesvn, now=NOW)


def test_names_say_what_they_are(authority: Authority) -> None:
    """Every certificate's name states that no hardware is behind it, and the root's states its level."""
    chain = x509.load_pem_x509_certificates(_chain(authority))
    names = [certificate.subject.rfc4514_string() for certificate in chain]
    assert all("Kluis emulated" in name and "no hardware" in name for name in names)
    (unit,) = chain[2].subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert unit.value == "process"
    assert not any(certificate.subject == chain[2].subject for certificate in chain[:2])


@pytest.mark.parametrize("level", ["hardware-sgx", "none", ""])
def test_no_other_level(level: str) -> None:
    """An emulated authority cannot be made at a level that it does not give."""
    with pytest.raises(UsageError) as caught:
        Authority.create(level, NOW)
    assert str(caught.value) == f"authority.level: want one of process, process-user, got {level}"


def test_what_a_certificate_says(authority: Authority) -> None:
    """The SGX extension states the platform, its kind, and its TCB."""
    chain = authority.certify(PCK, ppid=bytes(range(16)), cpusvn=TWOS, pcesvn=513, now=NOW)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    found = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(extension.OID)).value.value
    said = extension.parse(found)
    assert (said.ppid, said.platform_instance_id) == (bytes(range(16)), bytes(range(16)))
    assert (said.cpusvn, said.components, said.pcesvn) == (TWOS, (2,) * 16, 513)
    assert (said.fmspc.hex(), said.pceid.hex(), said.sgx_type) == ("e0e0e0000000", "0000", 0)
    assert leaf.public_key() == PCK


def test_a_state_is_read_as_it_was_written(authority: Authority) -> None:
    """Recoveries and revocations survive, and a state with anything missing is refused."""
    authority.recover(cpusvn=TWOS, pcesvn=3, advisories=("KLUIS-SA-1",), now=NOW)
    authority.revoke(_chain(authority), NOW)
    written = authority.state.encode()
    assert State.parse(written) == authority.state
    with pytest.raises(FormatError) as caught:
        State.parse(written.replace(b'"evaluation":2,', b""))
    assert str(caught.value) == "authority.json: member 'evaluation' is missing"


def test_recovery_says_who_is_behind(authority: Authority) -> None:
    """After a recovery the old level is OutOfDate with its advisories, the new UpToDate, and lower levels
    have no entry.
    """
    authority.recover(cpusvn=TWOS, pcesvn=1, advisories=("KLUIS-SA-1",), now=NOW)
    authority.recover(cpusvn=TWOS, pcesvn=2, advisories=("KLUIS-SA-2",), now=NOW)
    state = authority.state
    assert [state.status(*at) for at in ((TWOS, 2), (TWOS, 1), (ONES, 9), (bytes(16), 1))] == [
        "UpToDate",
        "OutOfDate",
        "OutOfDate",
        "NotSupported",
    ]
    assert [level.advisories for level in state.levels] == [
        (),
        ("KLUIS-SA-2",),
        ("KLUIS-SA-1", "KLUIS-SA-2"),
    ]
    assert state.evaluation == 3


def test_recovery_to_the_same_level(authority: Authority) -> None:
    """Raising the TCB to what it is keeps one level, and counts as an evaluation."""
    level = authority.state.levels[0]
    authority.recover(cpusvn=level.cpusvn, pcesvn=level.pcesvn, advisories=(), now=NOW)
    assert (len(authority.state.levels), authority.state.evaluation) == (1, 2)


def test_the_highest_that_can_be_required(authority: Authority) -> None:
    """The PCESVN goes up to 65535 and no further; every byte of the CPUSVN counts."""
    for cpusvn, pcesvn in ((ONES, 65536), (ONES, -1), (ONES + b"\1", 1), (ONES[:15], 1)):
        with pytest.raises(UsageError) as caught:
            authority.recover(cpusvn=cpusvn, pcesvn=pcesvn, advisories=(), now=NOW)
        assert str(caught.value) == "recovery: want 16 bytes of cpusvn and a pcesvn of 0..65535"
    authority.recover(cpusvn=bytes([255] * 16), pcesvn=65535, advisories=("x" * 32, "y"), now=NOW)
    newest = authority.state.levels[0]
    assert (newest.cpusvn, newest.pcesvn) == (bytes([255] * 16), 65535)
    assert authority.state.status(bytes([255] * 15 + [254]), 65535) == "OutOfDate"
    for name in ("", "a\nb"):
        with pytest.raises(UsageError):
            authority.recover(cpusvn=newest.cpusvn, pcesvn=65535, advisories=(name,), now=NOW)


def test_what_is_published_lasts(authority: Authority) -> None:
    """Documents and the PCK CRL last 30 days, the root's CRL a year, all from five minutes ago."""
    said = authority.publish(NOW)
    start = datetime(2026, 6, 1, 11, 55, 0, tzinfo=UTC)
    info = parse_tcb_info(said.tcb_info)
    assert (info.issued, info.next_update - info.issued) == (start, timedelta(days=30))
    for der, days in ((said.pck_crl, 30), (said.root_crl, 365)):
        crl = x509.load_der_x509_crl(der)
        assert crl.last_update_utc == start
        assert crl.next_update_utc == start + timedelta(days=days)


def test_what_is_required_never_falls(authority: Authority) -> None:
    """A recovery below what is required in one component is refused, and changes nothing."""
    before = authority.state
    lower = bytes([9] * 15 + [0])
    with pytest.raises(UsageError) as caught:
        authority.recover(cpusvn=lower, pcesvn=5, advisories=(), now=NOW)
    assert str(caught.value) == (
        f"recovery: want at least what is required now, cpusvn {ONES.hex()} and pcesvn 1, "
        f"got {lower.hex()} and 5"
    )
    with pytest.raises(UsageError) as caught:
        authority.recover(cpusvn=ONES[:15], pcesvn=5, advisories=(), now=NOW)
    assert str(caught.value) == "recovery: want 16 bytes of cpusvn and a pcesvn of 0..65535"
    with pytest.raises(UsageError) as caught:
        authority.recover(cpusvn=ONES, pcesvn=5, advisories=("x" * 33,), now=NOW)
    assert str(caught.value) == "recovery: advisories: want names of 1 to 32 characters"
    assert authority.state == before


def test_memory_is_bounded(authority: Authority) -> None:
    """So many levels, advisories and revoked certificates, and no more; a recovery is not refused for it."""
    for pcesvn in range(2, MAX_LEVELS + 2):
        authority.recover(cpusvn=ONES, pcesvn=pcesvn, advisories=(), now=NOW)
    state = authority.state
    assert len(state.levels) == 32
    assert [state.status(ONES, at) for at in (2, 1)] == ["OutOfDate", "NotSupported"]
    parse_tcb_info(authority.publish(NOW).tcb_info)
    names = tuple(f"KLUIS-SA-{number}" for number in range(17))
    with pytest.raises(UsageError) as caught:
        authority.recover(cpusvn=ONES, pcesvn=99, advisories=names, now=NOW)
    assert str(caught.value) == "recovery: want at most 16 advisories of a level, got more"
    names = tuple(f"{number:032}" for number in range(16))
    authority.recover(cpusvn=ONES, pcesvn=99, advisories=names, now=NOW)
    state = authority.state
    full = tuple(((serial + 1) << 149, "2026-06-01T12:00:00Z") for serial in range(MAX_REVOKED))
    authority.state = dataclasses.replace(state, revoked=full)
    with pytest.raises(UsageError) as caught:
        authority.revoke(_chain(authority), NOW)
    assert str(caught.value) == "revocation: want at most 512 certificates, got one more"
    assert len(json.dumps(authority.collateral(NOW), indent=1)) < channel.MAX_FRAME - 8192


def test_revoked_once(authority: Authority) -> None:
    """Repeated requests revoke a certificate only once; another certificate of the same key stays valid."""
    chain = _chain(authority)
    assert not authority.is_revoked(chain)
    authority.revoke(chain, NOW)
    authority.revoke(chain, NOW)
    assert (len(authority.state.revoked), authority.is_revoked(chain)) == (1, True)
    assert not authority.is_revoked(_chain(authority))
    crl = x509.load_der_x509_crl(authority.publish(NOW).pck_crl)
    assert [one.serial_number for one in crl] == [x509.load_pem_x509_certificates(chain)[0].serial_number]


def test_the_numbers_in_force(authority: Authority) -> None:
    """The evaluation numbers name the one in force, as Intel's document of that name does."""
    authority.recover(cpusvn=TWOS, pcesvn=1, advisories=(), now=NOW)
    published = authority.publish(NOW)
    numbers = evaluation.parse(published.evaluation_numbers)
    assert (numbers.tee, [one.number for one in numbers.numbers]) == ("SGX", [2])
    assert json.loads(published.tcb_info)["tcbEvaluationDataNumber"] == 2
