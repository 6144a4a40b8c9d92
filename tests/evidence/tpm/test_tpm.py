"""TPM quotes as evidence: one forged case a step, and nothing but our errors from any input."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import Claims, ProtectionLevel, TrustAnchors, Verifier, verify
from kluis.evidence.model import NOT_JUDGED, TcbStatus, Tee
from kluis.evidence.tpm import tpm as room
from kluis.evidence.tpm.claims import TpmClaims
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import EventLog
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import ECDSA, RSAPSS, RSASSA, HashId
from kluis.formats.tpm.attest import Selection, encode_sized
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.public import Attribute
from kluis.hashes import Digest, sha256
from tests.evidence.tpm import forge
from tests.evidence.tpm.forge import NOW, VALUES, Maker, Tpm, rsa_key
from tests.formats.eventlog.logs import event, log
from tests.strategies import PROPERTY, mutations

SHIPPED = TrustAnchors.shipped()


def _verify(
    data: bytes, anchors: TrustAnchors, collateral: TpmEndorsements | None = None, days: int = 0
) -> Claims:
    return verify(data, anchors=anchors, collateral=collateral, now=NOW + timedelta(days=days)).value


def _vendor(claims: Claims) -> TpmClaims:
    assert isinstance(claims.vendor, TpmClaims)
    return claims.vendor


def test_named_key(tpm: Tpm) -> None:
    """A key that the relying party names is believed at the level that it states."""
    claims = _verify(tpm.evidence(), tpm.named())
    assert (claims.kind, claims.tee, claims.level) == ("TPM quote", Tee.TPM, ProtectionLevel.VTPM)
    assert claims.nonce == b"nonce"
    assert claims.registers["pcr7"] == Digest("sha256", VALUES[HashId.SHA256][7])
    assert sorted(claims.registers) == ["pcr0", "pcr1", "pcr7"]
    assert claims.measurement == Digest.of("sha256", b"".join(VALUES[HashId.SHA256][i] for i in (0, 1, 7)))
    assert claims.tcb.status is TcbStatus.NOT_JUDGED
    assert claims.platform.id == sha256(forge.spki(tpm.key))
    assert (claims.valid_until.year, claims.collateral_issued, claims.report_data) == (9999, None, b"")
    vendor = _vendor(claims)
    assert not vendor.key_certified
    assert not vendor.revocation_checked
    assert (vendor.key_name, vendor.key_attributes, vendor.log, vendor.secure_boot) == (None,) * 4
    assert (vendor.reset_count, vendor.restart_count, vendor.clock_safe) == (1, 2, True)
    assert (vendor.clock_milliseconds, vendor.firmware_version) == (5, 7)
    assert _verify(tpm.evidence(), tpm.named(None)).level is ProtectionLevel.NONE


def test_what_is_claimed(tpm: Tpm) -> None:
    """What a TPM does not say is not claimed: no debug, no signer, no version, no judgement."""
    claims = _verify(tpm.evidence(), tpm.named())
    assert (claims.kind, claims.tee, claims.debug, claims.tcb) == ("TPM quote", Tee.TPM, False, NOT_JUDGED)
    assert (claims.platform.product, claims.platform.id) == ("TPM 2.0", sha256(forge.spki(tpm.key)))
    assert claims.verified_at == NOW
    absent = "signer", "product_id", "svn", "config_id", "family_id", "collateral_issued", "wrapper"
    assert [getattr(claims, name) for name in absent] == [None] * 7
    vendor = _vendor(claims)
    assert (vendor.clock_safe, vendor.revocation_checked, vendor.key_certified) == (True, False, False)
    for held in (claims.registers, vendor.pcrs):
        with pytest.raises(TypeError):
            held["pcr0"] = Digest("sha256", bytes(32))  # type: ignore[index]
    weak = _booted(tpm.key, BOOT, HashId.SHA1)
    registers = _verify(weak.evidence(), tpm.named()).registers
    assert registers == {}
    with pytest.raises(TypeError):
        registers["pcr0"] = Digest("sha256", bytes(32))  # type: ignore[index]


@pytest.mark.parametrize("state", [True, False, None])
def test_secure_boot_is_the_logs(tpm: Tpm, state: bool | None) -> None:
    """Secure boot is what a log proves of it; without a log nothing is known."""
    vendor = _vendor(_verify(_booted(tpm.key, BOOT).evidence(event_log=BOOT.encode()), tpm.named()))
    assert vendor.log is not None
    log = dataclasses.replace(vendor.log, secure_boot=state)
    assert dataclasses.replace(vendor, log=log).secure_boot is state
    assert dataclasses.replace(vendor, log=None).secure_boot is None


def test_a_tpm_is_no_processor(tpm: Tpm) -> None:
    """A key that a relying party stated to be of a TEE's hardware signs no TPM's quote."""
    hardware = tpm.named(ProtectionLevel.HARDWARE_SNP)
    for data in (tpm.evidence(), tpm.evidence(tpm_public=forge.area(tpm.key).encode())):
        with pytest.raises(AuthenticityError) as caught:
            _verify(data, hardware)
        assert (caught.value.code, str(caught.value), caught.value.hint) == (
            "root_untrusted",
            f"AK: want a key of vtpm, got {next(iter(hardware)).name} of hardware-snp",
            "state the level of a TPM's key: --root-level vtpm",
        )
    with pytest.raises(AuthenticityError, match="not signed by the key"):
        _verify(tpm.evidence(), hardware | Tpm(rsa_key()).named())
    assert _verify(tpm.evidence(), hardware | tpm.named()).level is ProtectionLevel.VTPM


def test_certified_key(maker: Maker, tpm: Tpm) -> None:
    """A key certified by a vendor's chain is trusted, with its end date and the revocation status."""
    data = tpm.evidence(tpm_public=forge.area(tpm.key).encode())
    claims = _verify(data, maker.anchors, maker.endorse(maker.ak(tpm.key)))
    assert claims.level is ProtectionLevel.VTPM
    assert claims.valid_until == NOW + timedelta(days=30)
    vendor = _vendor(claims)
    assert vendor.key_certified
    assert not vendor.revocation_checked
    assert vendor.key_name == forge.area(tpm.key).name
    assert vendor.key_attributes == forge.ATTRIBUTES
    crls = (maker.crl(), maker.crl(issuer="Maker Root", signer=maker.root_key))
    claims = _verify(data, maker.anchors, maker.endorse(maker.ak(tpm.key), crls=crls))
    assert claims.valid_until == NOW + timedelta(days=6)
    assert claims.collateral_issued == NOW - timedelta(days=1)
    assert _vendor(claims).revocation_checked
    crls = (maker.crl(start=NOW - timedelta(days=2)), crls[1])
    claims = _verify(data, maker.anchors, maker.endorse(maker.ak(tpm.key), crls=crls))
    assert claims.collateral_issued == NOW - timedelta(days=2)
    assert claims.valid_until == NOW + timedelta(days=5)


def test_key_on_a_curve(maker: Maker) -> None:
    """A key on P-256, certified; its certificate may be PEM, and the area have its size before it."""
    tpm = Tpm(ec.generate_private_key(ec.SECP256R1()))
    endorsed = maker.endorse(maker.ak(tpm.key))
    text = TpmEndorsements(
        certificate=maker.ak(tpm.key).public_bytes(Encoding.PEM),
        chain=endorsed.chain,
        public=encode_sized(forge.area(tpm.key).encode()),
    )
    assert _vendor(_verify(tpm.evidence(), maker.anchors, text)).key_attributes == forge.ATTRIBUTES


def test_an_anchor_below_the_root(maker: Maker, tpm: Tpm) -> None:
    """Whom the relying party names ends the chain, root or not."""
    ca = TrustAnchors.from_pem(
        b"-----BEGIN PUBLIC KEY-----\n"
        + base64.encodebytes(forge.spki(maker.ca_key))
        + b"-----END PUBLIC KEY-----\n",
        ProtectionLevel.VTPM,
    )
    assert (
        _verify(tpm.evidence(), ca, maker.endorse(maker.ak(tpm.key), maker.ca)).level is ProtectionLevel.VTPM
    )


def test_one_of_several_named_keys(tpm: Tpm) -> None:
    """Of several named keys, the one that signed."""
    other = Tpm(rsa_key())
    both = tpm.named() | other.named() | SHIPPED
    for each in (tpm, other):
        assert _vendor(_verify(each.evidence(), both)).key == forge.spki(each.key)
    with pytest.raises(AuthenticityError, match="not signed by the key"):
        _verify(Tpm(rsa_key()).evidence(), both)


def test_bank_of_sha1(tpm: Tpm) -> None:
    """Values of a SHA-1 bank are reported, but never as registers."""
    made = Tpm(tpm.key, selections=(Selection.of(HashId.SHA1, 10),))
    claims = _verify(made.evidence(), tpm.named())
    assert claims.registers == {}
    assert _vendor(claims).pcrs == {"sha1": {10: b"\x10" * 20}}


# --- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["tpm_quote", "tpm_signature", "pcrs"])
def test_step_1_parts(tpm: Tpm, part: str) -> None:
    """Each part must be there, and nothing else may."""
    message = forge.quote(VALUES, forge.SELECTED).encode()
    parts = {
        "tpm_quote": message,
        "tpm_signature": forge.sign(tpm.key, message).encode(),
        "pcrs": pcrs.dumps(VALUES),
    }
    del parts[part]
    with pytest.raises(FormatError, match=r"want parts|no known kind"):
        _verify(forge.collection(parts), tpm.named())
    with pytest.raises(FormatError, match="want parts"):
        _verify(tpm.evidence(other=b"x"), tpm.named())


@pytest.mark.parametrize(
    "attributes",
    [
        *(forge.ATTRIBUTES & ~flag for flag in (Attribute.FIXED_TPM, Attribute.FIXED_PARENT)),
        *(forge.ATTRIBUTES & ~flag for flag in (Attribute.SENSITIVE_DATA_ORIGIN, Attribute.SIGN)),
        forge.ATTRIBUTES & ~Attribute.RESTRICTED,
        forge.ATTRIBUTES | Attribute.DECRYPT,
    ],
)
def test_step_2_an_unrestricted_key_signs_anything(tpm: Tpm, attributes: int) -> None:
    """A key that may sign what it is handed, or may leave its TPM, proves nothing of PCRs."""
    area = forge.area(tpm.key, attributes).encode()
    for data, collateral in (
        (tpm.evidence(tpm_public=area), None),
        (tpm.evidence(), TpmEndorsements(public=area)),
    ):
        with pytest.raises(AuthenticityError, match="want a restricted signing key") as caught:
            _verify(data, tpm.named(), collateral)
        assert caught.value.code == "ak_binding"


def test_step_3_nobody_vouches(tpm: Tpm) -> None:
    """Without a certificate or a named key nothing can be decided, and the error states what to give."""
    with pytest.raises(UnavailableError, match="want a certificate, or a root that names the key") as caught:
        _verify(tpm.evidence(), SHIPPED)
    assert (caught.value.code, bool(caught.value.hint)) == ("chain_missing", True)


ZEROS = pcrs.dumps({HashId.SHA256: dict.fromkeys(range(24), bytes(32))})
OTHER_BOOT = log(event(7, EventType.SEPARATOR, bytes(4))).encode()
REFUTED: dict[str, tuple[dict[str, bytes], str]] = {
    "magic": ({"tpm_quote": b"\xfe" + forge.quote(VALUES, forge.SELECTED).encode()[1:]}, "bad_magic"),
    "hash": ({"tpm_signature": bytes.fromhex("0014000400020000")}, "sig_tpm"),
    "digest": ({"pcrs": ZEROS}, "pcr_digest"),
    "log": ({"event_log": OTHER_BOOT}, "event_log"),
}


@pytest.mark.parametrize("what", REFUTED)
def test_step_3_nobody_could_vouch(what: str, tpm: Tpm) -> None:
    """Data that its own bytes refute is refused, with any certificate of its key."""
    parts, code = REFUTED[what]
    with pytest.raises((FormatError, AuthenticityError)) as caught:
        _verify(tpm.evidence(**parts), SHIPPED)
    assert caught.value.code == code


def test_step_3_values_that_are_not_there_refute_nothing(tpm: Tpm) -> None:
    """A quote of which PCR values are missing stays undecided."""
    few: pcrs.Values = {HashId.SHA256: {0: VALUES[HashId.SHA256][0]}}
    two = Tpm(tpm.key, selections=(*forge.SELECTED, Selection.of(HashId.SHA1, 10)))
    one: pcrs.Values = {HashId.SHA256: VALUES[HashId.SHA256]}
    none: pcrs.Values = {}
    nothing: dict[str, bytes] = {}
    for quoted, values in ((tpm, none), (tpm, few), (two, one)):
        for parts in (nothing, {"event_log": OTHER_BOOT}):
            with pytest.raises(UnavailableError, match="want a certificate, or a root that names the key"):
                _verify(quoted.evidence(pcrs=pcrs.dumps(values), **parts), SHIPPED)


def test_step_3_another_key_is_named(tpm: Tpm) -> None:
    """A key that was not named is not believed, though the attester sends its area along."""
    other = Tpm(rsa_key())
    with pytest.raises(AuthenticityError, match="want one of the keys that were named") as caught:
        _verify(other.evidence(tpm_public=forge.area(other.key).encode()), tpm.named())
    assert caught.value.code == "root_untrusted"
    with pytest.raises(AuthenticityError) as caught:
        _verify(other.evidence(), tpm.named())
    assert caught.value.code == "sig_tpm"


def test_step_3_area_of_another_key(maker: Maker, tpm: Tpm) -> None:
    """A public area next to a certificate is of the certificate's key, or refused."""
    area = forge.area(rsa_key()).encode()
    with pytest.raises(AuthenticityError, match="area is of another key") as caught:
        _verify(tpm.evidence(tpm_public=area), maker.anchors, maker.endorse(maker.ak(tpm.key)))
    assert caught.value.code == "key_binding"


def test_step_4_scheme_of_the_area(tpm: Tpm) -> None:
    """A key that is bound to a scheme made no signature of another."""
    area = forge.area(tpm.key, scheme=RSASSA).encode()
    assert _verify(tpm.evidence(tpm_public=area), tpm.named()).level is ProtectionLevel.VTPM
    bound = forge.area(tpm.key, scheme=RSAPSS).encode()
    assert _verify(tpm.evidence(pss=True, tpm_public=bound), tpm.named()).level is ProtectionLevel.VTPM
    with pytest.raises(
        AuthenticityError, match="want a signature of the AK's scheme 0x16, got 0x14"
    ) as caught:
        _verify(tpm.evidence(tpm_public=bound), tpm.named())
    assert caught.value.code == "sig_tpm"


def test_step_4_hash_of_the_area(tpm: Tpm) -> None:
    """A key that is bound to a scheme and its hash made no signature over another hash."""
    curve = Tpm(ec.generate_private_key(ec.SECP256R1()))
    for each, scheme in ((tpm, RSASSA), (curve, ECDSA)):
        area = forge.area(each.key, scheme=scheme).encode()
        assert _verify(each.evidence(tpm_public=area), each.named()).level is ProtectionLevel.VTPM
        with pytest.raises(AuthenticityError, match="over sha384") as caught:
            _verify(each.evidence(HashId.SHA384, tpm_public=area), each.named())
        assert caught.value.code == "sig_tpm"


def test_of_two_areas_the_relying_partys_is_told(tpm: Tpm) -> None:
    """The relying party's area of a key is reported, and not the attester's of the same key."""
    sent = forge.area(tpm.key, forge.ATTRIBUTES | Attribute.NO_DA).encode()
    wanted = TpmEndorsements(public=forge.area(tpm.key).encode())
    claims = _verify(tpm.evidence(tpm_public=sent), tpm.named(), wanted)
    assert _vendor(claims).key_attributes == forge.ATTRIBUTES


def test_step_5_quote(tpm: Tpm) -> None:
    """Values that were not quoted are refused; the rest of a quote's steps have separate tests."""
    held = VALUES[HashId.SHA256]
    swapped = pcrs.dumps({HashId.SHA256: {**held, 0: held[1], 1: held[0]}})
    with pytest.raises(AuthenticityError) as caught:
        _verify(tpm.evidence(pcrs=swapped), tpm.named())
    assert caught.value.code == "pcr_digest"


# --- event logs ----------------------------------------------------------------------------------

BOOT = log(
    event(0, EventType.S_CRTM_VERSION, b"1\0"),
    event(4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option"),
    *(event(index, EventType.SEPARATOR, bytes(4)) for index in range(8)),
)


def _booted(key: forge.PRIVATE, made: EventLog, bank: HashId = HashId.SHA256) -> Tpm:
    """A TPM whose PCRs a log was extended into."""
    held = {index: bytes(bank.size) for index in range(17)}
    for each in made.events:
        digest = each.digest(bank)
        if each.extends and digest is not None:
            held[each.index] = hashlib.new(bank.label, held[each.index] + digest).digest()
    return Tpm(key, values={bank: held}, selections=(Selection.of(bank, *held),))


def test_event_log(tpm: Tpm) -> None:
    """A log that replays is worth what its digests prove."""
    made = _booted(tpm.key, BOOT)
    found = _vendor(_verify(made.evidence(event_log=BOOT.encode()), tpm.named())).log
    assert found is not None
    assert found.reproduced == frozenset(range(8))
    assert found.bank is HashId.SHA256


def test_event_log_in_the_strongest_bank(tpm: Tpm) -> None:
    """Of the banks that were quoted and are in the log, the strongest counts: SHA-1's values are nobody's."""
    strong, weak = _booted(tpm.key, BOOT), _booted(tpm.key, BOOT, HashId.SHA1)
    for selections in (strong.selections + weak.selections, weak.selections + strong.selections):
        made = Tpm(tpm.key, values={**weak.values, **strong.values}, selections=selections)
        found = _vendor(_verify(made.evidence(event_log=BOOT.encode()), tpm.named())).log
        assert found is not None
        assert found.bank is HashId.SHA256


def test_event_log_in_a_bank_that_it_has(tpm: Tpm) -> None:
    """A stronger bank that was quoted does not count where the log has no digests of it."""
    made = _booted(tpm.key, BOOT)
    longer = {index: bytes(48) for index in range(17)}
    for selections in (
        (Selection.of(HashId.SHA384, *longer), *made.selections),
        (*made.selections, Selection.of(HashId.SHA384, *longer)),
    ):
        both = Tpm(tpm.key, values={HashId.SHA384: longer, **made.values}, selections=selections)
        found = _vendor(_verify(both.evidence(event_log=BOOT.encode()), tpm.named())).log
        assert found is not None
        assert found.bank is HashId.SHA256


def test_logs_that_follow_each_other(tpm: Tpm) -> None:
    """A log that is continued by others is judged with them, in their order, and not without."""
    values = _booted(tpm.key, BOOT).values
    head, body = BOOT.events[:1], BOOT.events[1:]
    parts = [
        EventLog(BOOT.algorithms, True, head + events, b"").encode() for events in (body[:-3], body[-3:])
    ]
    found, whole = room.check_log(parts[0], values, parts[1]), room.check_log(BOOT.encode(), values)
    assert found.reproduced == whole.reproduced == frozenset(range(8))
    assert [each.event.data for each in found.events if each.event.extends] == [
        each.event.data for each in whole.events if each.event.extends
    ]
    with pytest.raises(AuthenticityError, match="event log: want PCRs as they were quoted"):
        room.check_log(parts[0], values)


@pytest.mark.parametrize(
    "kept",
    [
        BOOT.events[:1] + BOOT.events[2:],
        BOOT.events[:-1],
        (*BOOT.events, event(4, EventType.EFI_ACTION, b"more")),
    ],
)
def test_step_6_log_that_does_not_replay(tpm: Tpm, kept: tuple[object, ...]) -> None:
    """A log with a record taken out, or put in, is refused; so is one that is silent on a closed register."""
    changed = EventLog(BOOT.algorithms, True, kept, b"")  # type: ignore[arg-type]
    with pytest.raises(AuthenticityError, match="event log: want PCRs as they were quoted") as caught:
        _verify(_booted(tpm.key, BOOT).evidence(event_log=changed.encode()), tpm.named())
    assert caught.value.code == "event_log"


def test_step_6_failed_firmware(tpm: Tpm) -> None:
    """A separator of one tells that firmware failed, whatever its type and data pretend."""
    for data in (b"\1\0\0\0", bytes(4)):
        failed = log(*BOOT.events[1:-1], event(7, EventType.SEPARATOR, data, over=b"\1\0\0\0"))
        with pytest.raises(AuthenticityError, match=r"PCRs \[7\] tell that firmware failed") as caught:
            _verify(_booted(tpm.key, failed).evidence(event_log=failed.encode()), tpm.named())
        assert caught.value.code == "event_log"


def test_step_6_log_of_other_banks(tpm: Tpm) -> None:
    """A log without digests of a quoted bank proves nothing, and is no match."""
    with pytest.raises(FormatError, match="want digests of") as caught:
        _verify(_booted(tpm.key, log(), HashId.SHA384).evidence(event_log=BOOT.encode()), tpm.named())
    assert caught.value.code == "event_log"


# --- endorsements, and any input ------------------------------------------------------------------


def test_endorsements_as_json(maker: Maker, tpm: Tpm) -> None:
    """Endorsements are written and read again, with what is not there left out."""
    full = TpmEndorsements(certificate=b"c", chain=b"PEM", crls=(b"1", b"2"), public=b"p")
    for each in (full, TpmEndorsements(), maker.endorse(maker.ak(tpm.key), crls=(maker.crl(),))):
        assert TpmEndorsements.from_json(each.to_json()) == each
    with pytest.raises(FormatError, match="want text, got an integer"):
        TpmEndorsements.from_json(b'{"crls":[1]}')
    with pytest.raises(FormatError, match=r"want members \[\], got \['crl'\]"):
        TpmEndorsements.from_json(b'{"crl":["00"]}')


def test_kind(tpm: Tpm) -> None:
    """A collection with a TPM quote, and no report of a TEE, is a TPM quote."""
    assert room.matches(tpm.evidence())
    assert not room.matches(forge.collection({"tpm_quote": b"q", "hcl_report": b"r"}))
    assert not room.matches(b"\xffTCG")
    assert not room.matches(forge.collection({"tpm_signature": b"q"}))
    assert not room.matches(b"\xff" + tpm.evidence())


TPM = Tpm(rsa_key())
MAKER = Maker()
GOOD = [
    TPM.evidence(tpm_public=forge.area(TPM.key).encode()),
    _booted(TPM.key, BOOT).evidence(event_log=BOOT.encode()),
]
ENDORSED = MAKER.endorse(MAKER.ak(TPM.key))
ANCHORS = MAKER.anchors
TRUE = [_verify(data, ANCHORS, ENDORSED) for data in GOOD]


@PROPERTY
@given(mutations(*GOOD))
def test_changed_evidence_says_the_same_or_is_refused(data: bytes) -> None:
    """No change of a byte gives other claims; only our errors escape."""
    try:
        claims = _verify(data, ANCHORS, ENDORSED)
    except KluisError:
        return
    assert claims.registers in [true.registers for true in TRUE]
    assert (claims.nonce, claims.level) == (b"nonce", ProtectionLevel.VTPM)


@PROPERTY
@given(mutations(ENDORSED.certificate or b"", ENDORSED.chain))
def test_changed_endorsements(data: bytes) -> None:
    """A changed certificate is refused; only our errors escape."""
    for changed in (
        TpmEndorsements(certificate=data, chain=ENDORSED.chain),
        TpmEndorsements(certificate=ENDORSED.certificate, chain=data),
    ):
        try:
            claims = _verify(GOOD[0], ANCHORS, changed)
        except KluisError:
            continue
        assert claims.level is ProtectionLevel.VTPM


def test_time_is_judged_anew(maker: Maker, tpm: Tpm) -> None:
    """Certificates have their time, and revocations count, whatever was proven of them before."""
    endorsed = maker.endorse(maker.ak(tpm.key))
    verifier = Verifier(maker.anchors)
    data = tpm.evidence()
    for _ in range(2):
        assert verifier.verify(data, collateral=endorsed, now=NOW).value.level is ProtectionLevel.VTPM
    with pytest.raises(FreshnessError) as late:
        verifier.verify(data, collateral=endorsed, now=NOW + timedelta(days=31))
    assert late.value.code == "cert_expired"
    revoked = dataclasses.replace(endorsed, crls=(maker.crl(9),))
    with pytest.raises(AuthenticityError) as gone:
        verifier.verify(data, collateral=revoked, now=NOW)
    assert gone.value.code == "cert_revoked"
    for days, code in ((-31, "cert_not_yet_valid"), (31, "cert_expired")):
        with pytest.raises(FreshnessError) as caught:
            _verify(tpm.evidence(), maker.anchors, endorsed, days)
        assert caught.value.code == code
