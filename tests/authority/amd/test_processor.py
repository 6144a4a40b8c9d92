"""The emulated processor: the verifier of SNP reports accepts its reports as they are, and no others."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from kluis.authority.amd import Processor, State, reports
from kluis.authority.amd.reports import Selection
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.evidence import Claims, ProtectionLevel, SnpClaims, SnpEndorsements, TrustAnchors, denylist, verify
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import response
from kluis.formats.snp.tcb import Product, TcbVersion
from tests.authority.amd.chips import GUEST, NOW, SECRET, chip, launch
from tests.strategies import PROPERTY

CHIP = chip()
DATA = bytes(range(64))


def _endorsements(processor: Processor, **changes: Any) -> SnpEndorsements:
    vek, *rest = processor.certificates().split(b"-----END CERTIFICATE-----\n")[:-1]
    ask, ark = rest
    parts = {"vek": vek, "ask": ask, "ark": ark}
    whole = {name: part + b"-----END CERTIFICATE-----\n" for name, part in parts.items()}
    return SnpEndorsements(**{**whole, "crl": processor.crl(NOW), **changes})


def _verify(data: bytes, processor: Processor = CHIP, **changes: Any) -> Claims:
    anchors = TrustAnchors.from_pem(processor.root_pem())
    collateral = _endorsements(processor, **changes)
    return verify(data, anchors=anchors, collateral=collateral, now=NOW).value


def _request(data: bytes = DATA, vmpl: int = 0, reserved: bytes = bytes(28)) -> bytes:
    return data + vmpl.to_bytes(4, "little") + reserved


def _key_request(**changes: Any) -> bytes:
    fields = {"root": 0, "reserved": 0, "selected": 0, "vmpl": 0, "guest_svn": 0, "tcb": bytes(8), **changes}
    sizes = {"root": 4, "reserved": 4, "selected": 8, "vmpl": 4, "guest_svn": 4}
    numbers = b"".join(int(fields[name]).to_bytes(size, "little") for name, size in sizes.items())
    return numbers + fields["tcb"]


@pytest.mark.parametrize("product", [Product.MILAN, Product.GENOA, Product.TURIN])
def test_the_verifier_accepts_its_reports(product: Product) -> None:
    """A report has what the launch has, at level vm, under a root that is trusted by its file only."""
    processor = chip(product=product)
    found = _verify(processor.report(launch(host_data=b"\5" * 32), DATA), processor)
    assert found.level is ProtectionLevel.VM
    assert found.anchor.startswith(f"Kluis emulated ARK-{product} (no hardware)")
    assert (found.measurement.value, found.report_data, found.debug) == (GUEST, DATA, False)
    vendor = found.vendor
    assert isinstance(vendor, SnpClaims)
    assert (vendor.host_data, vendor.vmpl, vendor.version) == (b"\5" * 32, 0, 3)
    assert vendor.crl_checked
    assert not any((vendor.provisional_firmware, vendor.migratable, vendor.chip_id_masked))
    assert found.platform.id == processor.chip_id
    assert found.family_id == b"KLUIS-NO-HARDWAR"
    with pytest.raises(AuthenticityError, match="want root Intel SGX Root CA") as caught:
        verify(
            processor.report(launch(), DATA),
            anchors=TrustAnchors.shipped(),
            collateral=_endorsements(processor),
            now=NOW,
        )
    assert caught.value.code == "root_untrusted"


def test_a_genoa_is_on_no_list_that_software_reaches() -> None:
    """The default product has no entry in the dated denylists but those of a memory bus."""
    assert denylist.match(_verify(CHIP.report(launch(), DATA))) == ()


def test_debug_is_level_none() -> None:
    """A guest whose host may read its memory has no protection level."""
    found = _verify(CHIP.report(launch(debug=True), DATA))
    assert found.debug
    assert found.level is ProtectionLevel.NONE


def test_author_keys() -> None:
    """The flag of an author's key is set when a digest of one is there."""
    named = launch(id_key_digest=b"\1" * 48, author_key_digest=b"\2" * 48)
    vendor = _verify(CHIP.report(named, DATA)).vendor
    assert isinstance(vendor, SnpClaims)
    assert vendor.author_key_digest is not None
    assert vendor.author_key_digest.value == b"\2" * 48


def test_names_state_that_there_is_no_hardware() -> None:
    """Every certificate's name states that no hardware is behind it, and the root's states its level."""
    chain = x509.load_pem_x509_certificates(CHIP.certificates())
    names = [certificate.subject.rfc4514_string() for certificate in chain]
    assert all("Kluis emulated" in name and "no hardware" in name for name in names)
    (unit,) = chain[2].subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert unit.value == "vm"


def test_another_chip_has_other_keys() -> None:
    """A report of another chip of the same vendor is not signed by this chip's key."""
    other = chip(bytes(32))
    assert other.chip_id != CHIP.chip_id
    with pytest.raises(AuthenticityError) as caught:
        _verify(other.report(launch(), DATA))
    assert caught.value.code == "sig_report"


def test_recovery_gives_another_key() -> None:
    """After an update of the firmware, reports are of the new TCB, and need its certificate."""
    processor = chip()
    before = _endorsements(processor)
    old = processor.report(launch(), DATA)
    tcb = dataclasses.replace(processor.state.tcb, snp=25)
    processor.recover(tcb, NOW)
    vendor = _verify(processor.report(launch(), DATA), processor).vendor
    assert isinstance(vendor, SnpClaims)
    assert vendor.reported_tcb == vendor.committed_tcb == tcb
    with pytest.raises(AuthenticityError):
        _verify(processor.report(launch(), DATA), processor, vek=before.vek)
    assert _verify(old, processor, vek=before.vek).measurement.value == GUEST
    with pytest.raises(UsageError) as caught:
        processor.recover(dataclasses.replace(tcb, snp=24, microcode=99), NOW)
    assert caught.value.message == (
        "recovery: want at least boot_loader=10 tee=0 snp=25 microcode=84, "
        "got boot_loader=10 tee=0 snp=24 microcode=99"
    )


def test_a_revoked_authority() -> None:
    """Once the ASK is on the root's list, nothing under it verifies with that list."""
    processor = chip()
    processor.revoke()
    with pytest.raises(AuthenticityError) as caught:
        _verify(processor.report(launch(), DATA), processor)
    assert caught.value.code == "cert_revoked"
    listed = dataclasses.replace(processor.state, revoked=tuple(range(1, 65)))
    with pytest.raises(UsageError) as full:
        Processor(processor.keys, listed).revoke()
    assert full.value.message == "revocation: want at most 64 serial numbers, got 65"


def test_certificates_end() -> None:
    """Certificates last ten years, and the list one."""
    anchors = TrustAnchors.from_pem(CHIP.root_pem())
    data = CHIP.report(launch(), DATA)
    given = _endorsements(CHIP, crl=None)
    late = NOW + timedelta(days=3649)
    assert verify(data, anchors=anchors, collateral=given, now=late).value.debug is False


def test_the_firmwares_answer() -> None:
    """A request of 96 bytes gets the 4000 bytes that Linux gives its caller."""
    answer = CHIP.answer_report(launch(), _request(vmpl=1))
    assert len(answer) == 4000
    assert response.parse(answer).report.vmpl == 1
    assert _verify(answer).report_data == DATA
    assert answer[32:36] == (3).to_bytes(4, "little")
    assert not any(answer[32 + snp_report.SIZE :])


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        _request()[:-1],
        _request() + b"\0",
        _request(reserved=b"\1" + bytes(27)),
        _request(vmpl=4),
        _request(vmpl=0),
    ],
)
def test_requests_that_the_firmware_refuses(request_: bytes) -> None:
    """Another size, a reserved byte, an unknown level or a more privileged one: a status, and no report."""
    answer = CHIP.answer_report(launch(vmpl=1), request_)
    assert answer == (0x16).to_bytes(4, "little") + bytes(3996)


def test_derived_keys() -> None:
    """A key depends on the chip, the level and what is selected, and on nothing else."""
    own = launch(guest_svn=3, image_id=b"i" * 16)

    def key(given: Any = own, processor: Processor = CHIP, **changes: Any) -> bytes:
        answer = processor.answer_key(given, _key_request(**changes))
        assert answer[:32] == bytes(32)
        assert len(answer) == 64
        return answer[32:]

    bare = key()
    assert bare == key() == key(dataclasses.replace(own, measurement=bytes(48)))
    assert (
        len({bare, key(processor=chip(bytes(32))), key(vmpl=1), *(key(selected=part) for part in Selection)})
        == 9
    )
    changed = {
        Selection.POLICY: launch(debug=True, guest_svn=3, image_id=b"i" * 16),
        Selection.IMAGE_ID: dataclasses.replace(own, image_id=bytes(16)),
        Selection.FAMILY_ID: dataclasses.replace(own, family_id=bytes(16)),
        Selection.MEASUREMENT: dataclasses.replace(own, measurement=bytes(48)),
    }
    for part, given_ in changed.items():
        assert key(selected=part) != key(given_, selected=part)
        assert key(given_, selected=~part & 63) == key(selected=~part & 63)
    assert key(selected=Selection.GUEST_SVN, guest_svn=2) != key(selected=Selection.GUEST_SVN, guest_svn=3)
    assert key(guest_svn=2) == bare


def test_keys_of_earlier_firmware() -> None:
    """After an update the keys of the earlier TCB are still there, and never those of a later one."""
    processor = chip()
    early = processor.state.tcb.encode()
    later = dataclasses.replace(processor.state.tcb, snp=25)

    def key(tcb: bytes) -> bytes:
        return processor.answer_key(launch(), _key_request(selected=Selection.TCB_VERSION, tcb=tcb))

    before = key(early)
    assert key(later.encode()) == (0x16).to_bytes(4, "little") + bytes(60)
    processor.recover(later, NOW)
    assert key(early) == before != key(later.encode())


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (0x27, {"root": 1}),
        (0x16, {"reserved": 1}),
        (0x16, {"selected": 64}),
        (0x16, {"vmpl": 0}),
        (0x16, {"vmpl": 4}),
        (0x16, {"guest_svn": 1}),
        (0x16, {"tcb": b"\0\0\1" + bytes(5)}),
        (0x16, {"tcb": bytes(9)}),
    ],
)
def test_keys_that_the_firmware_refuses(status: int, changes: dict[str, Any]) -> None:
    """A migration agent's key, a reserved bit, a privileged level, a newer version: a status, and no key."""
    answer = CHIP.answer_key(launch(vmpl=1), _key_request(**{"vmpl": 1, **changes}))
    assert answer == status.to_bytes(4, "little") + bytes(60)


@PROPERTY
@given(st.binary(max_size=128))
def test_any_request_has_an_answer(data: bytes) -> None:
    """Whatever a guest sends, the answers have their size."""
    assert len(CHIP.answer_report(launch(), data)) == reports.REPORT_ANSWER_SIZE
    assert len(CHIP.answer_key(launch(), data)) == reports.KEY_ANSWER_SIZE


def test_state_reads_back() -> None:
    """Keys and state are all of a processor: another one with the same signs the same."""
    again = Processor(CHIP.keys, State.parse(CHIP.state.encode()))
    assert again.state == CHIP.state
    assert again.certificates() == CHIP.certificates()
    assert _verify(again.report(launch(), DATA)).measurement.value == GUEST
    assert "chip" not in repr(CHIP.keys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"Genoa"', b'"Rome"', "processor.json: want one of Milan, Genoa, Turin and 3 certificates"),
        (b'"revoked":[]', b'"revoked":["1"]', "processor.json.revoked.serial: is not hex"),
        (b'"version":1', b'"version":2', "processor.json.version: want one of [1], got 2"),
    ],
)
def test_states_that_are_not(old: bytes, new: bytes, message: str) -> None:
    """A state with a value of another kind is refused, and named."""
    with pytest.raises(FormatError) as caught:
        State.parse(CHIP.state.encode().replace(old, new))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chip(bytes(31)), "processor.secret: want 32 bytes, got 31"),
        (
            lambda: chip(product=Product.VENICE),
            "processor.product: want one of Milan, Genoa, Turin, got Venice",
        ),
        (lambda: launch(measurement=bytes(32)), "launch.measurement: want 48 bytes, got 32"),
        (lambda: launch(vmpl=4), "launch.vmpl: want 0..3, got 4"),
        (lambda: CHIP.report(launch(), bytes(63)), "report_data: want 64 bytes, got 63"),
        (lambda: CHIP.report(launch(vmpl=2), DATA, 1), "vmpl: want 2..3, got 1"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    """Another size, product or level is refused."""
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.message == message


def test_generated_keys_have_the_vendors_size() -> None:
    """Without keys given, root and authority have RSA keys of 4096 bits, as AMD's do."""
    made = Processor.create(NOW, secret=SECRET)
    assert made.keys.ark.key_size == made.keys.ask.key_size == 4096
    assert _verify(made.report(launch(), DATA), made).level is ProtectionLevel.VM
    assert made.state.tcb == TcbVersion(boot_loader=10, tee=0, snp=24, microcode=84)
