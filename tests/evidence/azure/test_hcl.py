"""Azure confidential VMs: one forged case a step, and nothing but our errors from any input."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnavailableError,
    UnsupportedError,
)
from kluis.evidence import (
    AzureClaims,
    AzureEndorsements,
    Claims,
    ProtectionLevel,
    SnpClaims,
    TdxClaims,
    Tee,
    TpmClaims,
    TpmEndorsements,
    TrustAnchors,
    Verifier,
)
from kluis.evidence.azure import hcl
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.hcl.report import ReportType
from kluis.formats.snp.flags import GuestPolicy
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.hashes import Digest, sha256
from tests.evidence.azure.forge import AzureForge
from tests.evidence.tpm.forge import VALUES, collection, quote, rsa_key, spki
from tests.formats.eventlog.logs import event, log
from tests.formats.hcl.reports import hcl_report, runtime_json
from tests.strategies import PROPERTY, mutations

FORGE = AzureForge()


@pytest.fixture(scope="module")
def azure() -> AzureForge:
    return FORGE


def _vendor(claims: Claims) -> AzureClaims:
    assert isinstance(claims.vendor, AzureClaims)
    return claims.vendor


def test_snp(azure: AzureForge) -> None:
    """SNP's level and measurement, the vTPM's nonce and PCRs, the guest's user data."""
    claims = azure.verify(azure.parts(azure.snp(), **azure.tpm()))
    assert (claims.kind, claims.tee) == ("Azure HCL report v1 (SNP)", Tee.AZURE)
    assert claims.level is ProtectionLevel.HARDWARE_SNP
    assert claims.nonce == b"nonce"
    assert claims.registers == {f"pcr{i}": Digest("sha256", VALUES[HashId.SHA256][i]) for i in (0, 1, 7)}
    assert claims.report_data == bytes(64)
    vendor = _vendor(claims)
    assert isinstance(vendor.hardware.vendor, SnpClaims)
    assert claims.measurement == vendor.hardware.measurement
    assert vendor.hardware.report_data == azure.bound()
    assert vendor.key == spki(azure.ak)
    assert (vendor.key_certified, vendor.vm_id) == (False, "A")
    assert vendor.tpm is not None
    assert (vendor.tpm.level, vendor.tpm.anchor) == (claims.level, claims.anchor)
    assert isinstance(vendor.tpm.vendor, TpmClaims)


def test_tdx(azure: AzureForge) -> None:
    """TDX's level and measurement, with its registers and the vTPM's."""
    claims = azure.verify(azure.parts(azure.tdx(), td_quote=azure.td_quote(), **azure.tpm()))
    assert claims.kind == "Azure HCL report v2 (TDX)"
    assert {"rtmr0", "rtmr3", "pcr7"} <= set(claims.registers)
    vendor = _vendor(claims)
    assert isinstance(vendor.hardware.vendor, TdxClaims)
    assert claims.level is vendor.hardware.level
    assert claims.tcb == vendor.hardware.tcb
    assert vendor.tpm is not None
    assert vendor.hardware.collateral_issued is not None
    issued = vendor.hardware.collateral_issued
    assert (vendor.tpm.collateral_issued, vendor.tpm.verified_at) == (issued, azure.now)


def test_without_a_quote(azure: AzureForge) -> None:
    """A bare report is authentic, and the claims state that it is not fresh."""
    for data in (azure.snp(), azure.parts(azure.snp())):
        claims = azure.verify(data, azure.amd.endorsements())
        assert (claims.nonce, dict(claims.registers), _vendor(claims).tpm) == (None, {}, None)


def test_collateral_of_the_hardware_alone(azure: AzureForge) -> None:
    """The hardware's own endorsements will do, as fetched or held."""
    data = azure.parts(azure.tdx(), td_quote=azure.td_quote())
    held = holding.hold(azure.intel.collateral(), azure.anchors)
    for collateral in (azure.intel.collateral(), held):
        assert azure.verify(data, collateral).tee is Tee.AZURE


def test_longer_hashes(azure: AzureForge) -> None:
    """The runtime data may be bound by a longer hash, which the whole of the report data then is."""
    for hash_type, name in ((2, "sha384"), (3, "sha512")):
        data = azure.snp(hash_type=hash_type, report_data=azure.bound(name=name))
        assert azure.verify(data).tee is Tee.AZURE


def test_signature_in_either_form(azure: AzureForge) -> None:
    """A TPMT_SIGNATURE or the raw bytes, distinguished by their length."""
    for raw in (True, False):
        assert azure.verify(azure.parts(azure.snp(), **azure.tpm(raw=raw))).nonce == b"nonce"


def test_debug_is_no_protection(azure: AzureForge) -> None:
    """A VM whose memory its host may read has no level, whatever its vTPM states."""
    policy = azure.amd.fields().policy | 1 << 19
    assert GuestPolicy.parse(policy).debug
    claims = azure.verify(azure.parts(azure.snp(policy=policy), **azure.tpm()))
    assert (claims.level, claims.debug) == (ProtectionLevel.NONE, True)


# --- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["tpm_quote", "tpm_signature", "pcrs"])
def test_step_1_parts(azure: AzureForge, part: str) -> None:
    """A quote's parts come together; a log comes with a quote; nothing else comes at all."""
    parts = azure.tpm()
    del parts[part]
    for extra, message in (
        (parts, "together"),
        ({"event_log": b"log"}, "want a TPM quote with an event log"),
        ({"tpm_public": b"area"}, "want parts"),
        ({"td_quote": azure.td_quote()}, "want no TD quote with an SNP report"),
    ):
        with pytest.raises(FormatError, match=message) as caught:
            azure.verify(azure.parts(azure.snp(), **extra))
        assert caught.value.code == "bad_type"


@pytest.mark.parametrize("kind", [ReportType.VBS, ReportType.TVM, ReportType.CCA])
def test_step_2_no_tee(azure: AzureForge, kind: ReportType) -> None:
    """A trusted-launch VM, or one of VBS, writes the same report and has no TEE behind it."""
    with pytest.raises(UnsupportedError, match="there is no TEE behind it") as caught:
        azure.verify(azure.snp(kind=kind))
    assert caught.value.code == "bad_type"


def test_step_3_runtime_data(azure: AzureForge) -> None:
    """Runtime data with another key, or one space more, are not those that the hardware bound."""
    other = runtime_json(rsa_key().public_key().public_numbers().n)
    hardware = azure.amd.report(report_data=azure.bound(), vmpl=0)
    for runtime in (other, azure.runtime + b" "):
        with pytest.raises(AuthenticityError, match="want sha256 of the runtime data") as caught:
            azure.verify(hcl_report(hardware, runtime).encode())
        assert caught.value.code == "runtime_data_binding"


def test_step_3_all_of_the_report_data(azure: AzureForge) -> None:
    """All 64 bytes are compared: what follows the hash is zero."""
    for data in (
        azure.snp(report_data=azure.bound()[:63] + b"\1"),
        azure.snp(report_data=azure.bound()[:32] * 2),
        azure.snp(hash_type=2),
    ):
        with pytest.raises(AuthenticityError) as caught:
            azure.verify(data)
        assert caught.value.code == "runtime_data_binding"


def test_step_4_snp(azure: AzureForge) -> None:
    """A report that AMD's key did not sign is refused, as SNP's own verifier does."""
    report = bytearray(azure.snp())
    report[32 + 0x90] ^= 1
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(bytes(report))
    assert caught.value.code == "sig_report"


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_step_4_asked_for_by_a_guest(azure: AzureForge, vmpl: int) -> None:
    """The guest below the paravisor can bind its own runtime data, with its own key: only VMPL 0 counts."""
    with pytest.raises(AuthenticityError, match=f"want VMPL 0, the paravisor's, got {vmpl}") as caught:
        azure.verify(azure.snp(vmpl=vmpl))
    assert caught.value.code == "vmpl"


def test_step_4_nothing_is_signed(azure: AzureForge) -> None:
    """A TDREPORT without a TD quote proves nothing, even if well-formed; the error states what to add."""
    for data in (azure.tdx(), azure.parts(azure.tdx(), **azure.tpm())):
        with pytest.raises(UnavailableError, match="a TDREPORT is signed by nobody") as caught:
            azure.verify(data)
        assert caught.value.code == "collateral_missing"
        assert "tdquote" in (caught.value.hint or "")


@pytest.mark.parametrize("part", ["tcb_info", "td_info"])
def test_step_4_a_report_of_two_pieces(azure: AzureForge, part: str) -> None:
    """A TDREPORT whose module or domain is not what it was MACed over is refused, with a quote or without."""
    good = azure.tdreport()
    changes: dict[str, dict[str, Any]] = {
        "tcb_info": {"tcb_info": dataclasses.replace(good.tcb_info, tee_tcb_svn_2=bytes([9]) * 16)},
        "td_info": {"td_info": dataclasses.replace(good.td_info, servtd_hash=bytes([9]) * 48)},
    }
    report = azure.tdx(dataclasses.replace(good, **changes[part]))
    for data in (report, azure.parts(report, td_quote=azure.td_quote())):
        with pytest.raises(AuthenticityError, match="as its TDREPORT has it, got another") as caught:
            azure.verify(data)
        assert caught.value.code == "td_report_mismatch"


def test_step_4_no_endorsement(azure: AzureForge) -> None:
    """Without the hardware's endorsements nothing can be decided."""
    with pytest.raises(UnavailableError):
        azure.verify(azure.snp(), AzureEndorsements())
    with pytest.raises(UnavailableError):
        azure.verify(azure.parts(azure.tdx(), td_quote=azure.td_quote()), AzureEndorsements())


def test_step_4_nobody_could_endorse(azure: AzureForge) -> None:
    """Data that the VM's own parts refute is refused, with any endorsement of its hardware."""
    swapped = pcrs.dumps({HashId.SHA256: dict.fromkeys(range(24), bytes(32))})
    for data, code in (
        (azure.parts(azure.snp(), **azure.tpm(pcrs=swapped)), "pcr_digest"),
        (azure.parts(azure.snp(), **azure.tpm(tpm_signature=bytes(256))), "sig_tpm"),
        (azure.parts(azure.tdx(), **azure.tpm(pcrs=swapped)), "pcr_digest"),
        (azure.parts(azure.tdx(), td_quote=azure.td_quote(rtmr0=bytes(48))), "td_report_mismatch"),
    ):
        with pytest.raises(AuthenticityError) as caught:
            azure.verify(data, AzureEndorsements())
        assert caught.value.code == code


def test_step_4_a_key_that_nobody_vouches_for_is_not_kept(azure: AzureForge) -> None:
    """A vTPM's quote that is checked while its hardware's endorsements are missing leaves no key behind."""
    context = Context(azure.anchors)
    with pytest.raises(UnavailableError):
        hcl.verify(
            azure.parts(azure.snp(), **azure.tpm()),
            context=context,
            collateral=AzureEndorsements(),
            now=azure.now,
        )
    assert len(context.memory) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"report_data": bytes(64)},
        {"mrtd": bytes(48)},
        {"rtmr0": bytes(48)},
        {"rtmr3": bytes(48)},
        {"td_attributes": 0},
        {"xfam": 3},
        {"mrconfigid": bytes(48)},
        {"mrowner": bytes(48)},
        {"mrownerconfig": bytes(48)},
        {"mrseam": bytes(48)},
        {"tee_tcb_svn": bytes((6, 1, 2, *bytes(13)))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_step_4_td_quote_of_another_report(azure: AzureForge, changes: dict[str, Any]) -> None:
    """A good TD quote of another domain, or of another report of this one, is not of this TDREPORT."""
    (name,) = changes
    with pytest.raises(AuthenticityError, match=f"TD quote.{name}: want the TDREPORT's") as caught:
        azure.verify(azure.parts(azure.tdx(), td_quote=azure.td_quote(**changes)))
    assert caught.value.code == "td_report_mismatch"


DOMAIN = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "xfam", "mrconfigid", "mrowner", "mrownerconfig")
MODULE = ("tee_tcb_svn", "mrseam", "mrsignerseam")


@pytest.mark.parametrize(
    ("part", "field", "name"),
    [
        *(("td_info", field, field) for field in DOMAIN),
        *(("tcb_info", field, field) for field in MODULE),
        ("td_info", "attributes", "td_attributes"),
        ("tcb_info", "attributes", "seam_attributes"),
    ],
    ids=lambda text: text,
)
def test_step_4_tdreport_of_another_quote(azure: AzureForge, part: str, field: str, name: str) -> None:
    """A TDREPORT that nobody signed is the quote's in every field that both have."""
    good = azure.tdreport()
    held = getattr(good, part)
    value = getattr(held, field)
    other = value ^ 1 if isinstance(value, int) else bytes((value[0] ^ 1,)) + value[1:]
    changed = dataclasses.replace(good, **{part: dataclasses.replace(held, **{field: other})})
    report = azure.of_one_piece(changed)
    with pytest.raises(AuthenticityError, match=f"TD quote.{name}: want the TDREPORT's") as caught:
        azure.verify(azure.parts(azure.tdx(report), td_quote=azure.td_quote()))
    assert caught.value.code == "td_report_mismatch"


def test_step_4_td_quote_forged(azure: AzureForge) -> None:
    """A TD quote that is not signed is refused, as TDX's own verifier does."""
    quote = bytearray(azure.td_quote())
    quote[200] ^= 1
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(azure.parts(azure.tdx(), td_quote=bytes(quote)))
    assert caught.value.code == "sig_quote"


def test_step_4_no_tdreport(azure: AzureForge) -> None:
    """A report with the type of a TDREPORT and another content is malformed."""
    good = azure.tdreport()
    others = [
        dataclasses.replace(good, mac=dataclasses.replace(good.mac, type=other)) for other in (0, 0x80, 0x82)
    ]
    for hardware in (*(other.encode() for other in others), good.encode() + b"\1"):
        with pytest.raises(FormatError, match="want a TDREPORT and zeros") as caught:
            azure.verify(azure.tdx(hardware=hardware))
        assert caught.value.code == "bad_type"


def test_step_5_certificate(azure: AzureForge) -> None:
    """The key's certificate is no must, is verified where it is given, and is of the same key."""
    data = azure.parts(azure.snp(), **azure.tpm())
    maker = azure.maker
    true = azure.verify(data, azure.endorsements(maker.endorse(maker.ak(azure.ak))))
    assert _vendor(true).key_certified
    assert true.valid_until < azure.verify(data).valid_until
    tpm = _vendor(true).tpm
    assert tpm is not None
    assert isinstance(tpm.vendor, TpmClaims)
    assert (tpm.vendor.key_certified, tpm.valid_until) == (True, true.valid_until)
    assert not _vendor(azure.verify(data, azure.endorsements(TpmEndorsements()))).key_certified
    for other in (ec.generate_private_key(ec.SECP256R1()), rsa_key(3072)):  # less, and greater
        with pytest.raises(AuthenticityError, match="want the certificate of HCLAkPub") as caught:
            azure.verify(data, azure.endorsements(maker.endorse(maker.ak(other))))
        assert caught.value.code == "key_binding"
    expired = maker.ak(azure.ak, end=azure.now - timedelta(days=2))
    with pytest.raises(FreshnessError) as stale:
        azure.verify(data, azure.endorsements(maker.endorse(expired)))
    assert stale.value.code == "cert_expired"
    # The same root, without a level: the user did not state that it is a TPM's.
    (maker_root,) = maker.anchors
    nobody = TrustAnchors((dataclasses.replace(maker_root, level=ProtectionLevel.NONE),))
    anchors = azure.amd.anchors | azure.intel.anchors | nobody
    with pytest.raises(AuthenticityError, match="want a certificate under a root of level vtpm") as unrooted:
        azure.verify(data, azure.endorsements(maker.endorse(maker.ak(azure.ak))), anchors=anchors)
    assert unrooted.value.code == "root_untrusted"


def test_step_5_a_key_whose_issuer_is_missing(azure: AzureForge) -> None:
    """A certificate that nobody can judge leaves the VM undecided, unless its own parts refute it."""
    alone = dataclasses.replace(azure.maker.endorse(azure.maker.ak(azure.ak)), chain=b"")
    given = azure.endorsements(alone)
    with pytest.raises(UnavailableError):
        azure.verify(azure.parts(azure.snp(), **azure.tpm()), given)
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(azure.parts(azure.snp(), **azure.tpm(tpm_signature=bytes(256))), given)
    assert caught.value.code == "sig_tpm"


def test_step_5_two_keys(azure: AzureForge) -> None:
    """Two keys named HCLAkPub, bound or not, are one too many to choose from."""
    key = {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "_" * 342}
    with pytest.raises(FormatError, match="want 1 key HCLAkPub, got 2"):
        azure.verify(azure.snp(runtime_json(keys=[key, key])))


def test_step_6_no_vtpm(azure: AzureForge) -> None:
    """A quote with runtime data without a vTPM is of something else."""
    azure.verify(azure.parts(azure.snp(azure.no_tpm)))
    one = azure.no_tpm.replace(b"false", b"1")
    assert one != azure.no_tpm
    for runtime in (azure.no_tpm, one):
        with pytest.raises(AuthenticityError, match="there is no vTPM") as caught:
            azure.verify(azure.parts(azure.snp(runtime), **azure.tpm()))
        assert caught.value.code == "ak_binding"


def test_step_7_quote_of_another_vm(azure: AzureForge) -> None:
    """A quote of another VM's vTPM is refused, though its key may be certified by the same cloud."""
    other = AzureForge.__new__(AzureForge)
    other.ak = rsa_key()
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(azure.parts(azure.snp(), **other.tpm()))
    assert caught.value.code == "sig_tpm"


def test_step_7_values(azure: AzureForge) -> None:
    """PCR values that were not quoted are refused; a quote's other steps have separate tests."""
    swapped = azure.tpm()["pcrs"].replace(b"01" * 32, b"09" * 32)
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(azure.parts(azure.snp(), **{**azure.tpm(), "pcrs": swapped}))
    assert caught.value.code == "pcr_digest"


def test_step_8_event_log(azure: AzureForge) -> None:
    """A log is worth what it replays to, and is refused where that is not what was quoted."""
    made = log(event(7, EventType.SEPARATOR, bytes(4)))
    values = {HashId.SHA256: {7: sha256(bytes(32) + sha256(bytes(4)))}}
    message = quote(values, (Selection.of(HashId.SHA256, 7),)).encode()
    good = azure.tpm(tpm_quote=message, pcrs=pcrs.dumps(values), event_log=made.encode())
    tpm = _vendor(azure.verify(azure.parts(azure.snp(), **good))).tpm
    assert tpm is not None
    assert isinstance(tpm.vendor, TpmClaims)
    assert tpm.vendor.log is not None
    assert tpm.vendor.log.reproduced == {7}
    with pytest.raises(AuthenticityError) as caught:
        azure.verify(azure.parts(azure.snp(), event_log=made.encode(), **azure.tpm()))
    assert caught.value.code == "event_log"


# --- any input -----------------------------------------------------------------------------------


def test_kind(azure: AzureForge) -> None:
    """A report, or a collection with one, is an Azure VM's evidence."""
    assert hcl.matches(azure.snp())
    assert hcl.matches(azure.parts(azure.snp()))
    assert not hcl.matches(collection(azure.tpm()))
    for data in (b'"hcl_report":[', b'{"hcl_report":"application/octet-stream"}'):
        assert not hcl.matches(data)


GOOD = (
    FORGE.snp(),
    FORGE.parts(FORGE.snp(), **FORGE.tpm()),
    FORGE.parts(FORGE.tdx(), td_quote=FORGE.td_quote()),
)
VERIFIER = Verifier(FORGE.anchors)
SAID = [FORGE.verify(good) for good in GOOD]


@PROPERTY
@given(mutations(*GOOD))
def test_changed_evidence_says_the_same_or_is_refused(data: bytes) -> None:
    """No change of a byte gives other claims; only our errors escape."""
    try:
        claims = VERIFIER.verify(data, collateral=FORGE.endorsements(), now=FORGE.now).value
    except KluisError:
        return
    vendor = _vendor(claims)
    assert (claims.measurement, vendor.key) in [(true.measurement, _vendor(true).key) for true in SAID]
    assert claims.nonce in (None, b"nonce")
