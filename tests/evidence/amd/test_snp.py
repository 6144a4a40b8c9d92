"""SNP reports: one forged case for each step, which breaks only that step, and the claims of good ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import Anchor, Claims, ProtectionLevel, SnpClaims, SnpEndorsements, TrustAnchors
from kluis.evidence.model import NOT_JUDGED, Tee
from kluis.formats.snp import table
from kluis.formats.snp.flags import SigningKey
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.hashes import Digest
from tests.evidence.amd import forge as forging
from tests.evidence.amd.forge import CPUIDS, CSP, NOW, YEAR, Forge, rsa_key, sign, with_signature
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

MILAN, GENOA, TURIN = Forge("Milan"), Forge("Genoa"), Forge("Turin")
VLEK = Forge("Milan", vlek=True)
EMULATED = Forge("Milan", emulated=True)
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
P256 = ec.generate_private_key(ec.SECP256R1())
ALL = {"Milan": MILAN, "Genoa": GENOA, "Turin": TURIN, "VLEK": VLEK, "emulated": EMULATED}

Case = Callable[[], object]


def _given(forge: Forge, **changed: Any) -> Case:
    """Verify a good report with endorsements changed."""
    return lambda: forge.verify(endorsements=forge.endorsements(**changed))


def _report(forge: Forge, **changed: Any) -> Case:
    """Verify a report that is changed and signed, with good endorsements."""
    return lambda: forge.verify(forge.report(**changed))


def _vek(forge: Forge, **changed: Any) -> Case:
    """Verify a good report with a key's certificate that is changed and signed."""
    return _given(forge, vek=forge.make_vek(**changed))


def _vek_says(forge: Forge, **changed: Any) -> Case:
    """Verify a good report with a key's certificate whose extensions are changed and signed."""
    return _given(forge, vek=forge.make_vek(forge.extensions(**changed)))


def _ask(forge: Forge, **changed: Any) -> Case:
    return _given(forge, ask=forge.make_ask(**changed))


def _ark(forge: Forge, **changed: Any) -> Case:
    return _given(forge, ark=forge.make_ark(**changed))


def _anchored(forge: Forge, **changed: Any) -> Case:
    """Verify everything good under an anchor over the same key that is changed."""
    (anchor,) = forge.anchors
    fields = {"name": anchor.name, "vendor": anchor.vendor, "spki": anchor.spki, "product": anchor.product}
    made = Anchor(**{**fields, "level": anchor.level, **changed})
    return lambda: forge.verify(anchors=TrustAnchors((made,)))


OTHER_ROOT = forging.Forge("Milan")
OTHER_ROOT.ark_key = rsa_key("other ARK")
OTHER_ROOT.ark = OTHER_ROOT.make_ark()
OTHER_ROOT.ask = OTHER_ROOT.make_ask()
PAST = {"start": NOW - 2 * YEAR, "end": NOW - timedelta(seconds=1)}
FUTURE = {"start": NOW + timedelta(seconds=1), "end": NOW + YEAR}

STEPS: dict[str, tuple[str, str, Case]] = {
    # 1
    "1 version": (
        "bad_version",
        "SNP report version 6; supported: [2, 3, 4, 5]",
        lambda: MILAN.verify(sign(forging.changed(MILAN.report(), 0, b"\6"), MILAN.vek_key)),
    ),
    "1 algorithm": (
        "bad_type",
        "SNP report v3.signature_algo at 0x34: want 1, ECDSA P-384 with SHA-384, got 2",
        _report(MILAN, signature_algo=2),
    ),
    "1 reserved byte": (
        "bad_encoding",
        "SNP report v3.reserved at 0x4c: must be zero, found 0x01",
        lambda: MILAN.verify(sign(forging.changed(MILAN.report(), 0x4C, b"\1"), MILAN.vek_key)),
    ),
    "1 padding of the signature": (
        "bad_encoding",
        "SNP report v3.reserved at 0x330: must be zero, found 0x01",
        lambda: MILAN.verify(forging.changed(MILAN.report(), 0x330, b"\1")),
    ),
    "1 policy": (
        "bad_encoding",
        "SNP guest policy: want bit 17 on and none above 25, got 0x1001f",
        _report(MILAN, policy=0x1001F),
    ),
    "1 flags": (
        "bad_encoding",
        "SNP report flags: want signing key 0, 1 or 7 and none of bits 31:5, got 0x8",
        _report(MILAN, flags=8),
    ),
    # 2
    "2 host's report": (
        "vmpl",
        "SNP report v3.vmpl: want a guest's, got the host's own report",
        _report(MILAN, vmpl=0xFFFFFFFF),
    ),
    "2 no such level": ("vmpl", "SNP report v3.vmpl: want 0..3, got 4", _report(MILAN, vmpl=4)),
    # 3
    "3 not signed": (
        "signer_kind_mismatch",
        "SNP report v3: states that no key signed it",
        _report(MILAN, flags=7 << 2),
    ),
    "3 a VCEK for a VLEK": (
        "signer_kind_mismatch",
        "SNP report: want a VLEK, which its signing key field names, got a VCEK",
        _report(MILAN, flags=1 << 2),
    ),
    "3 a VLEK for a VCEK": (
        "signer_kind_mismatch",
        "SNP report: want a VCEK, which its signing key field names, got a VLEK",
        _report(VLEK, flags=0),
    ),
    "3 a VLEK's name under an ASK": (
        "signer_kind_mismatch",
        "VCEK certificate: want 'SEV-VCEK', got 'SEV-VLEK'",
        _vek(MILAN, name="SEV-VLEK"),
    ),
    "3 a VCEK's name under an ASVK": (
        "signer_kind_mismatch",
        "VLEK certificate: want 'SEV-VLEK', got 'SEV-VCEK'",
        _vek(VLEK, name="SEV-VCEK"),
    ),
    "3 a short name": (
        "signer_kind_mismatch",
        "VCEK certificate: want 'SEV-VCEK', got 'VCEK'",
        _vek(MILAN, name="VCEK"),
    ),
    "3 a VCEK without a chip": (
        "signer_kind_mismatch",
        "VCEK certificate: want hwID and no cspID",
        _vek_says(MILAN, hw_id=None),
    ),
    "3 a VCEK with a cloud": (
        "signer_kind_mismatch",
        "VCEK certificate: want hwID and no cspID",
        _vek_says(MILAN, csp_id=CSP),
    ),
    "3 a VLEK with a chip": (
        "signer_kind_mismatch",
        "VLEK certificate: want cspID and no hwID",
        _vek_says(VLEK, hw_id=samples.CHIP_ID),
    ),
    "3 a VLEK without a cloud": (
        "signer_kind_mismatch",
        "VLEK certificate: want cspID and no hwID",
        _vek_says(VLEK, csp_id=None),
    ),
    # 4
    "4 another root": (
        "root_untrusted",
        "SNP endorsements: want root forged ARK-Milan, got another key named 'ARK-Milan'",
        _given(MILAN, ark=OTHER_ROOT.ark, ask=OTHER_ROOT.ask),
    ),
    "4 an anchor of another TEE": (
        "root_untrusted",
        "SNP endorsements: forged ARK-Milan is no root of SEV-SNP",
        _anchored(MILAN, level=ProtectionLevel.HARDWARE_SGX),
    ),
    "4 an anchor of a vTPM": (
        "root_untrusted",
        "SNP endorsements: forged ARK-Milan is no root of SEV-SNP",
        _anchored(MILAN, level=ProtectionLevel.VTPM),
    ),
    # 5
    "5 root is no CA": (
        "cert_profile",
        "ARK certificate: want a CA that signs certificates",
        _ark(MILAN, ca=False),
    ),
    "5 root has no key usage": (
        "cert_profile",
        "ARK certificate: want a CA that signs certificates",
        _ark(MILAN, usage=None),
    ),
    "5 root signs no certificates": (
        "cert_profile",
        "ARK certificate: want a CA that signs certificates",
        _ark(MILAN, usage={"crl_sign"}),
    ),
    "5 root signs no CRLs": (
        "cert_profile",
        "ARK certificate: want a CA that signs CRLs",
        _ark(MILAN, usage={"key_cert_sign"}),
    ),
    "5 root's path length": (
        "cert_profile",
        "ARK certificate: want path length 1, got 0",
        _ark(MILAN, path_length=0),
    ),
    "5 root is not signed by itself": (
        "cert_chain",
        "ARK certificate: is not signed by the key it should be",
        _ark(MILAN, issuer_key=rsa_key("nobody")),
    ),
    "5 root has another issuer": (
        "cert_chain",
        "ARK certificate: its issuer is not 'ARK-Milan'",
        _ark(MILAN, issuer=GENOA.ark),
    ),
    "5 CA is no CA": (
        "cert_profile",
        "ASK certificate: want a CA that signs certificates",
        _ask(MILAN, ca=False, path_length=None),
    ),
    "5 CA has no key usage": (
        "cert_profile",
        "ASK certificate: want a CA that signs certificates",
        _ask(MILAN, usage=None),
    ),
    "5 CA signs no certificates": (
        "cert_profile",
        "ASK certificate: want a CA that signs certificates",
        _ask(MILAN, usage={"crl_sign"}),
    ),
    "5 CA's path length": (
        "cert_profile",
        "ASK certificate: want path length 0, got 1",
        _ask(MILAN, path_length=1),
    ),
    "5 CA without path length": (
        "cert_profile",
        "ASVK certificate: want path length 0, got None",
        _ask(VLEK, path_length=None),
    ),
    "5 CA has another issuer": (
        "cert_chain",
        "ASK certificate: its issuer is not 'ARK-Milan'",
        _ask(MILAN, issuer=GENOA.ark),
    ),
    "5 CA signed by another": (
        "cert_chain",
        "ASVK certificate: is not signed by the key it should be",
        _ask(VLEK, issuer_key=rsa_key("nobody")),
    ),
    "5 CA in another scheme": (
        "cert_profile",
        "ASK certificate: want RSASSA-PSS with SHA-384, got RSASSA-PKCS1-v1_5 with SHA-384",
        _ask(MILAN, padding=padding.PKCS1v15()),
    ),
    "5 leaf is a CA": (
        "cert_profile",
        "VCEK certificate: want an end entity",
        _vek(MILAN, ca=True),
    ),
    "5 leaf signs certificates": (
        "cert_profile",
        "VLEK certificate: want an end entity",
        _vek(VLEK, usage={"key_cert_sign"}),
    ),
    "5 leaf's curve": (
        "cert_profile",
        "VCEK certificate: want a key on P-384, got P-256",
        _vek(MILAN, key=P256),
    ),
    "5 leaf's key is RSA": (
        "cert_profile",
        "VCEK certificate: want a key on P-384, got RSA",
        _vek(MILAN, key=rsa_key("nobody")),
    ),
    "5 leaf has another issuer": (
        "cert_chain",
        "VCEK certificate: its issuer is not 'SEV-Milan'",
        _vek(MILAN, issuer=MILAN.ark),
    ),
    "5 leaf signed by another": (
        "cert_chain",
        "VCEK certificate: is not signed by the key it should be",
        _vek(MILAN, issuer_key=rsa_key("nobody")),
    ),
    "5 leaf in another scheme": (
        "cert_profile",
        "VCEK certificate: want RSASSA-PSS with SHA-384, got RSASSA-PSS with SHA-256",
        _vek(
            MILAN,
            hash=hashes.SHA256(),
            padding=padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32),
        ),
    ),
    # 6
    "6 anchor of another product": (
        "product_mismatch",
        "ARK certificate: want 'ARK-Genoa', got 'ARK-Milan'",
        _anchored(MILAN, product="Genoa"),
    ),
    "6 root of no product": (
        "product_mismatch",
        "ARK certificate: want 'ARK-Milan', got 'ARK-Rome'",
        _ark(MILAN, name="ARK-Rome"),
    ),
    "6 CA of another product": (
        "product_mismatch",
        "ASK certificate: want 'SEV-Milan' or 'SEV-VLEK-Milan', got 'SEV-Genoa'",
        _ask(MILAN, name="SEV-Genoa"),
    ),
    "6 leaf of another product": (
        "product_mismatch",
        "VCEK certificate: want product Milan, got 'Genoa'",
        _vek_says(MILAN, product_name="Genoa"),
    ),
    "6 leaf of no product": (
        "product_mismatch",
        "VCEK certificate: want product Milan, got 'Milano'",
        _vek_says(MILAN, product_name="Milano"),
    ),
    "6 processor of another product": (
        "product_mismatch",
        "SNP report v3.cpuid: want a Milan, got family 0x19 model 0x11",
        _report(MILAN, cpuid_model=0x11),
    ),
    "6 processor of no product": (
        "product_mismatch",
        "SNP report v3.cpuid: want a Genoa, got family 0x17 model 0x11",
        _report(GENOA, cpuid_family=0x17),
    ),
    # 7
    "7 root run out": (
        "cert_expired",
        "ARK certificate expired on 2026-06-01T11:59:59Z, judged at 2026-06-01T12:00:00Z",
        _ark(MILAN, **PAST),
    ),
    "7 root to come": (
        "cert_not_yet_valid",
        "ARK certificate is not valid before 2026-06-01T12:00:01Z, judged at 2026-06-01T12:00:00Z",
        _ark(MILAN, **FUTURE),
    ),
    "7 CA run out": (
        "cert_expired",
        "ASK certificate expired on 2026-06-01T11:59:59Z, judged at 2026-06-01T12:00:00Z",
        _ask(MILAN, **PAST),
    ),
    "7 CA to come": (
        "cert_not_yet_valid",
        "ASVK certificate is not valid before 2026-06-01T12:00:01Z, judged at 2026-06-01T12:00:00Z",
        _ask(VLEK, **FUTURE),
    ),
    "7 leaf run out": (
        "cert_expired",
        "VCEK certificate expired on 2026-06-01T11:59:59Z, judged at 2026-06-01T12:00:00Z",
        _vek(MILAN, **PAST),
    ),
    "7 leaf to come": (
        "cert_not_yet_valid",
        "VLEK certificate is not valid before 2026-06-01T12:00:01Z, judged at 2026-06-01T12:00:00Z",
        _vek(VLEK, **FUTURE),
    ),
    # 8
    "8 CRL of another issuer": (
        "crl_issuer",
        "ARK CRL: its issuer is not 'ARK-Milan'",
        _given(MILAN, crl=GENOA.crl()),
    ),
    "8 CRL signed by another": (
        "crl_sig",
        "ARK CRL: is not signed by the key it should be",
        _given(MILAN, crl=MILAN.crl(key=rsa_key("nobody"))),
    ),
    "8 CRL by the CA": (
        "crl_issuer",
        "ARK CRL: its issuer is not 'ARK-Milan'",
        _given(MILAN, crl=MILAN.crl(issuer=MILAN.ask, key=MILAN.ask_key)),
    ),
    "8 CRL run out": (
        "crl_expired",
        "ARK CRL expired on 2026-06-01T11:59:59Z, judged at 2026-06-01T12:00:00Z",
        _given(MILAN, crl=MILAN.crl(**PAST)),
    ),
    "8 CRL to come": (
        "crl_not_yet_valid",
        "ARK CRL is not valid before 2026-06-01T12:00:01Z, judged at 2026-06-01T12:00:00Z",
        _given(MILAN, crl=MILAN.crl(**FUTURE)),
    ),
    "8 CA revoked": (
        "cert_revoked",
        "ASK certificate: serial 0x10001 is revoked",
        _given(MILAN, crl=MILAN.crl(7, 65537)),
    ),
    "8 root revoked": (
        "cert_revoked",
        "ARK certificate: serial 0x10000 is revoked",
        _given(VLEK, crl=VLEK.crl(65536)),
    ),
    # 9
    "9 signed by another": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(sign(MILAN.fields().encode(), GENOA.vek_key)),
    ),
    "9 changed": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(forging.replace(MILAN.report(), measurement=bytes(48))),
    ),
    "9 a signature of zeros": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(with_signature(MILAN.report(), 0, 0)),
    ),
    "9 r is zero": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(with_signature(MILAN.report(), 0, 1)),
    ),
    "9 s out of range": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(with_signature(MILAN.report(), 1, ORDER)),
    ),
    "9 the largest numbers": (
        "sig_report",
        "SNP report v3: is not signed by the key it should be",
        lambda: MILAN.verify(with_signature(MILAN.report(), (1 << 384) - 1, (1 << 384) - 1)),
    ),
    # 10
    "10 another TCB": (
        "tcb_cert_mismatch",
        "VCEK certificate: want TCB boot_loader=4 tee=1 snp=23 microcode=219, "
        "got boot_loader=4 tee=1 snp=24 microcode=219",
        _report(MILAN, reported_tcb=bytes((4, 1, 0, 0, 0, 0, 23, 219))),
    ),
    "10 a VLEK's TCB": (
        "tcb_cert_mismatch",
        "VLEK certificate: want TCB boot_loader=5 tee=1 snp=24 microcode=219, "
        "got boot_loader=4 tee=1 snp=24 microcode=219",
        _report(VLEK, reported_tcb=bytes((5, 1, 0, 0, 0, 0, 24, 219))),
    ),
    "10 bytes that the layout reserves": (
        "bad_encoding",
        "reported_tcb.reserved at 0x2: must be zero in Milan's layout, found 0x01",
        _report(MILAN, reported_tcb=bytes((4, 1, 1, 0, 0, 0, 24, 219))),
    ),
    "10 Turin in Milan's layout": (
        "bad_encoding",
        "reported_tcb.reserved at 0x6: must be zero in Turin's layout, found 0x18",
        _report(TURIN, reported_tcb=samples.TCB),
    ),
    # 11
    "11 another chip": (
        "chip_id_mismatch",
        "VCEK certificate: want chip 0909090909090909 at byte 0, got 0102030405060708",
        _report(MILAN, chip_id=b"\x09" * 64),
    ),
    "11 another chip by its last byte": (
        "chip_id_mismatch",
        "VCEK certificate: want chip 00 at byte 63, got 40",
        _report(GENOA, chip_id=samples.CHIP_ID[:63] + b"\0"),
    ),
    "11 another Turin": (
        "chip_id_mismatch",
        "VCEK certificate: want chip 0909090909090909 at byte 0, got 0102030405060708",
        _report(TURIN, chip_id=b"\x09" * 8 + bytes(56)),
    ),
    "11 more than a Turin's id": (
        "chip_id_mismatch",
        "VCEK certificate: want chip 090a0b0c0d0e0f10 at byte 8, got 0000000000000000",
        _report(TURIN, chip_id=samples.CHIP_ID),
    ),
    "11 a Turin's id on Milan": (
        "cert_profile",
        "VCEK certificate: want an hwID of 64 bytes, got 8",
        _vek_says(MILAN, hw_id=bytes(8)),
    ),
    "11 a Milan's id on Turin": (
        "cert_profile",
        "VCEK certificate: want an hwID of 8 bytes, got 64",
        _vek_says(TURIN, hw_id=samples.CHIP_ID),
    ),
    # 12
    **{
        f"12 a {name} in another layout": (
            "bad_encoding",
            f"{name}.reserved at 0x6: must be zero in Turin's layout, found 0x18",
            _report(TURIN, **{name: samples.TCB}),
        )
        for name in ("current_tcb", "committed_tcb", "launch_tcb")
    },
    # What is no certificate and no CRL is named by the place it was given for.
    **{
        f"a malformed {what}": (
            "truncated",
            f"{what} at 0x0: element is cut short",
            _given(forge, **{part: b"\x30"}),
        )
        for part, what, forge in (
            ("ark", "ARK certificate", MILAN),
            ("ask", "ASK certificate", MILAN),
            ("vek", "VCEK certificate", MILAN),
            ("crl", "ARK CRL", MILAN),
            ("vek", "VLEK certificate", VLEK),
        )
    },
    "a reported TCB that names no certificate": (
        "bad_encoding",
        "reported_tcb.reserved at 0x2: must be zero in Milan's layout, found 0x01",
        lambda: MILAN.verify(
            MILAN.report(reported_tcb=bytes((4, 1, 1, 0, 0, 0, 24, 219))), SnpEndorsements()
        ),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    """A report that is wrong in one step is refused by that step, with the reason."""
    code, message, case = STEPS[name]
    with pytest.raises((AuthenticityError, FreshnessError, FormatError)) as caught:
        case()
    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize("component", ["fmc", "boot_loader", "tee", "snp", "microcode"])
@pytest.mark.parametrize("by", [1, -1])
def test_every_component_is_bound(component: str, by: int) -> None:
    """A key's TCB is the reported one in every component: neither above nor below it."""
    spls = {**TURIN.spls, component: TURIN.spls[component] + by}
    with pytest.raises(AuthenticityError) as caught:
        _vek_says(TURIN, spls=spls)()
    assert caught.value.code == "tcb_cert_mismatch"
    assert caught.value.hint == "fetch the certificate for the report's reported_tcb"


def test_the_reported_tcb_counts_and_not_the_current_one() -> None:
    """A key of the current TCB is refused where another one is reported, and the reverse accepted."""
    newer = TcbVersion(boot_loader=4, tee=1, snp=25, microcode=219)
    report = MILAN.report(current_tcb=newer.encode(), committed_tcb=newer.encode())
    assert MILAN.verify(report).level is ProtectionLevel.HARDWARE_SNP
    vek = MILAN.make_vek(MILAN.extensions(spls={**MILAN.spls, "snp": 25}))
    with pytest.raises(AuthenticityError) as caught:
        MILAN.verify(report, MILAN.endorsements(vek=vek))
    assert caught.value.code == "tcb_cert_mismatch"


def test_a_leaf_is_no_authority() -> None:
    """A VCEK cannot replace the CA, whatever it signs."""
    forge = Forge("Milan")
    forge.ask_key = rsa_key("leaf")
    pretender = forge.make_vek(key=forge.ask_key, issuer_key=rsa_key("ASK"))
    vek = forge.make_vek(issuer=pretender, issuer_key=forge.ask_key)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(endorsements=forge.endorsements(vek=vek, ask=pretender))
    assert caught.value.code == "product_mismatch"
    named = forge.make_vek(name="SEV-Milan", key=forge.ask_key, issuer_key=rsa_key("ASK"))
    vek = forge.make_vek(issuer=named, issuer_key=forge.ask_key)
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(endorsements=forge.endorsements(vek=vek, ask=named))
    assert caught.value.code == "cert_profile"


def test_one_report_has_two_signatures() -> None:
    """A signature's twin (r, n - s) is as good: bytes of evidence identify nothing, the report id does."""
    report = MILAN.report()
    r, s = int.from_bytes(report[0x2A0:0x2E8], "little"), int.from_bytes(report[0x2E8:0x330], "little")
    twin = with_signature(report, r, ORDER - s)
    assert twin != report
    assert MILAN.verify(twin) == MILAN.verify(report)


def test_an_older_crl_tells_its_age() -> None:
    """A CRL that was replaced and is still in its time is not caught here, and shows when it is of."""
    old, new = NOW - timedelta(days=40), NOW - timedelta(days=1)
    replaced = MILAN.endorsements(crl=MILAN.crl(start=old))
    assert MILAN.verify(endorsements=replaced).collateral_issued == old
    with pytest.raises(AuthenticityError):
        MILAN.verify(endorsements=MILAN.endorsements(crl=MILAN.crl(65537, start=new)))


def test_missing_endorsements() -> None:
    """Without a certificate nothing can be decided, and the error states where to get it."""
    chip = samples.CHIP_ID.hex()
    cases: list[tuple[Case, str, str, str]] = [
        (
            _given(MILAN, vek=None),
            "SNP report v3: no VCEK certificate given",
            "kluis collateral fetch REPORT; it is https://kdsintf.amd.com/vcek/v1/Milan/"
            f"{chip}?blSPL=04&teeSPL=01&snpSPL=24&ucodeSPL=219",
            "collateral_missing",
        ),
        (
            _given(TURIN, vek=None),
            "SNP report v3: no VCEK certificate given",
            "kluis collateral fetch REPORT; it is https://kdsintf.amd.com/vcek/v1/Turin/"
            f"{chip[:16]}?fmcSPL=02&blSPL=04&teeSPL=01&snpSPL=24&ucodeSPL=219",
            "collateral_missing",
        ),
        (
            _given(VLEK, vek=None),
            "SNP report v3: no VLEK certificate given",
            "the cloud delivers the VLEK with the report, in its certificate table, or through its service",
            "collateral_missing",
        ),
        (
            lambda: MILAN.verify(MILAN.report(2), SnpEndorsements()),
            "SNP report v2: no VCEK certificate given",
            "kluis collateral fetch REPORT; AMD's service is https://kdsintf.amd.com/vcek/v1/PRODUCT/CHIP_ID",
            "collateral_missing",
        ),
        (
            lambda: MILAN.verify(MILAN.report(chip_id=bytes(64)), SnpEndorsements()),
            "SNP report v3: no VCEK certificate given",
            "kluis collateral fetch REPORT; AMD's service is https://kdsintf.amd.com/vcek/v1/PRODUCT/CHIP_ID",
            "collateral_missing",
        ),
        (
            _given(MILAN, ask=None),
            "SNP endorsements: ASK or ASVK missing",
            "https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain, or vlek for a VLEK",
            "chain_missing",
        ),
        (
            _given(MILAN, ask=None, ark=None),
            "SNP endorsements: ASK or ASVK and ARK missing",
            "https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain, or vlek for a VLEK",
            "chain_missing",
        ),
        (
            _given(MILAN, ark=None),
            "SNP endorsements: ARK missing",
            "https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain, or vlek for a VLEK",
            "chain_missing",
        ),
    ]
    for case, message, hint, code in cases:
        with pytest.raises(UnavailableError) as caught:
            case()
        assert (caught.value.message, caught.value.hint, caught.value.code) == (message, hint, code)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("lacks", [{"ask": None}, {"ark": None}, {"ask": None, "ark": None}])
def test_refuted_without_the_chain(name: str, lacks: dict[str, None]) -> None:
    """Data that the leaf did not sign is refused, for any issuer; for signed data the result stays
    open.
    """
    forge = ALL[name]
    good = forge.endorsements(**lacks)
    with pytest.raises(UnavailableError):
        forge.verify(endorsements=good)
    flipped = bytearray(forge.report())
    flipped[0x50] ^= 1
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(bytes(flipped), good)
    assert caught.value.code == "sig_report"
    with pytest.raises(AuthenticityError) as caught:
        forge.verify(endorsements=forge.endorsements(vek=forge.ask, **lacks))
    assert (caught.value.code, "want a key on P-384" in caught.value.message) == ("cert_profile", True)
    with pytest.raises(FormatError):
        forge.verify(endorsements=forge.endorsements(vek=b"no certificate", **lacks))


def test_no_collateral_at_all() -> None:
    """None is no collateral: it is missing, and nothing is assumed."""
    from kluis.evidence import verify

    with pytest.raises(UnavailableError):
        verify(MILAN.report(), anchors=MILAN.anchors, collateral=None, now=NOW)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_good(name: str, version: int) -> None:
    """Good reports verify, of every version and product, by VCEK and by VLEK, under either anchor."""
    forge = ALL[name]
    claims = forge.verify(forge.report(version))
    vendor = claims.vendor
    assert isinstance(vendor, SnpClaims)
    (anchor,) = forge.anchors
    masked = forge.vlek
    assert claims == Claims(
        kind=f"SNP report v{version}",
        tee=Tee.SNP,
        level=ProtectionLevel.VM if forge.emulated else ProtectionLevel.HARDWARE_SNP,
        anchor=anchor.name,
        debug=False,
        measurement=Digest("sha384", b"m" * 48),
        signer=Digest("sha384", b"k" * 48),
        product_id=None,
        svn=7,
        config_id=None,
        family_id=b"f" * 16,
        registers={},
        report_data=b"d" * 64,
        nonce=None,
        tcb=NOT_JUDGED,
        platform=claims.platform,
        collateral_issued=None,
        valid_until=NOW + YEAR,
        verified_at=NOW,
        vendor=vendor,
    )
    assert (claims.platform.id, claims.platform.product) == (
        b"" if masked else forge.chip_id,
        str(forge.product),
    )
    assert (vendor.version, vendor.product, vendor.vmpl) == (version, forge.product, 0)
    assert vendor.cpuid == (CPUIDS[forge.product] if version > 2 else None)
    assert vendor.signing_key is (SigningKey.VLEK if forge.vlek else SigningKey.VCEK)
    assert vendor.csp_id == (CSP if forge.vlek else None)
    assert (vendor.chip_id_masked, vendor.mask_chip_key) == (masked, False)
    assert (vendor.image_id, vendor.host_data, vendor.report_id) == (b"i" * 16, b"h" * 32, b"r" * 32)
    assert vendor.reported_tcb == vendor.current_tcb == forge.tcb
    assert vendor.committed_tcb == vendor.launch_tcb == forge.tcb
    assert vendor.current_version == vendor.committed_version == (1, 55, 29)
    assert (vendor.launch_mitigations, vendor.current_mitigations) == (
        (0xB, 0xF) if version > 4 else (None,) * 2
    )
    assert (vendor.crl_checked, vendor.crl_issued, vendor.unknown_extensions) == (False, None, ())


def test_emulated_names() -> None:
    """Under an emulated anchor names are marked; AMD's own names only appear under AMD's anchors."""
    emulated = Forge("Milan", emulated=True)
    ark = emulated.make_ark(name="ARK-Milan")
    with pytest.raises(AuthenticityError) as caught:
        emulated.verify(endorsements=emulated.endorsements(ark=ark))
    assert str(caught.value) == (
        "ARK certificate: want 'Kluis emulated ARK-Milan or Genoa or Turin or Venice (no hardware)', "
        "got 'ARK-Milan'"
    )
    with pytest.raises(AuthenticityError) as caught:
        emulated.verify(endorsements=emulated.endorsements(ask=emulated.make_ask(name="SEV-Milan")))
    assert caught.value.code == "product_mismatch"
    with pytest.raises(AuthenticityError) as caught:
        emulated.verify(endorsements=emulated.endorsements(vek=emulated.make_vek(name="SEV-VCEK")))
    assert str(caught.value) == (
        "VCEK certificate: want 'Kluis emulated SEV-VCEK (no hardware)', got 'SEV-VCEK'"
    )
    with pytest.raises(AuthenticityError) as caught:
        emulated.verify(anchors=MILAN.anchors)
    assert caught.value.code == "product_mismatch"


def test_an_anchor_of_every_product_takes_its_roots_word() -> None:
    """An anchor that names no product, such as a test authority's, verifies what its root names."""
    pem = MILAN.ark.public_bytes(Encoding.PEM)
    stated = TrustAnchors.from_pem(pem, ProtectionLevel.HARDWARE_SNP)
    assert MILAN.verify(anchors=stated).level is ProtectionLevel.HARDWARE_SNP
    assert MILAN.verify(anchors=TrustAnchors.from_pem(pem)).level is ProtectionLevel.NONE


@pytest.mark.parametrize("forge", [MILAN, VLEK], ids=["VCEK", "VLEK"])
def test_with_a_crl(forge: Forge) -> None:
    """A CRL that lists others is checked, and the claims say so and of when it is.

    Leaves are not looked for: the serial of every one is 0, and the list is not their issuer's.
    """
    start, end = NOW - timedelta(days=9), NOW + timedelta(days=30)
    crl = forge.crl(0x20001, 1, start=start, end=end)
    claims = forge.verify(endorsements=forge.endorsements(crl=crl))
    vendor = claims.vendor
    assert isinstance(vendor, SnpClaims)
    assert (vendor.crl_checked, vendor.crl_issued, claims.collateral_issued) == (True, start, start)
    assert claims.valid_until == end


@pytest.mark.parametrize("part", ["ark", "ask", "vek"])
def test_claims_hold_until_the_first_end(part: str) -> None:
    """Claims are good until the first of the certificates runs out."""
    forge, end = Forge("Milan"), NOW + timedelta(days=1)
    made = {"ark": forge.make_ark, "ask": forge.make_ask, "vek": forge.make_vek}[part]
    claims = forge.verify(endorsements=forge.endorsements(**{part: made(end=end)}))
    assert claims.valid_until == end


def test_the_last_second_counts() -> None:
    """A certificate is good at its first and at its last second."""
    for part in ({"start": NOW}, {"end": NOW}):
        assert MILAN.verify(endorsements=MILAN.endorsements(vek=MILAN.make_vek(**part)))


def test_a_leaf_may_say_what_it_signs() -> None:
    """A leaf without key usage is AMD's way; one that signs data, and no certificates, is as good."""
    vek = MILAN.make_vek(usage={"digital_signature"})
    assert MILAN.verify(endorsements=MILAN.endorsements(vek=vek)) == MILAN.verify()


def test_pem_is_as_good_as_der() -> None:
    """Certificates may come in PEM, one in each."""
    parts = {
        name: certificate.public_bytes(Encoding.PEM)
        for name, certificate in (("vek", MILAN.vek), ("ask", MILAN.ask), ("ark", MILAN.ark))
    }
    assert MILAN.verify(endorsements=MILAN.endorsements(**parts)) == MILAN.verify()
    with pytest.raises(FormatError) as caught:
        MILAN.verify(endorsements=MILAN.endorsements(ask=parts["ask"] + parts["ark"]))
    assert str(caught.value) == "ASK certificate: more than 1 certificates"


def test_debug() -> None:
    """A debug guest is open to its host: its level is ``none``, and the claims state it."""
    claims = MILAN.verify(MILAN.report(policy=0xB001F))
    assert (claims.debug, claims.level) == (True, ProtectionLevel.NONE)
    vendor = claims.vendor
    assert isinstance(vendor, SnpClaims)
    assert vendor.policy.debug


@pytest.mark.parametrize(
    ("changed", "migratable", "agent"),
    [
        ({}, False, None),
        ({"policy": 0x7001F}, True, None),
        ({"report_id_ma": b"a" * 32}, True, b"a" * 32),
        ({"report_id_ma": bytes(32)}, True, bytes(32)),
    ],
)
def test_migration(changed: dict[str, Any], migratable: bool, agent: bytes | None) -> None:
    """A guest that may migrate, or that has a migration agent, is reported."""
    vendor = MILAN.claims(**changed)
    assert (vendor.migratable, vendor.report_id_ma) == (migratable, agent)


@pytest.mark.parametrize("vmpl", [0, 1, 2, 3])
def test_privilege_levels(vmpl: int) -> None:
    """The requester's privilege level is reported: policy decides which is right."""
    assert MILAN.claims(vmpl=vmpl).vmpl == vmpl


def test_a_masked_chip() -> None:
    """A host may mask its chip: nothing is compared, and the claims name no platform."""
    claims = MILAN.verify(MILAN.report(chip_id=bytes(64), flags=2))
    vendor = claims.vendor
    assert isinstance(vendor, SnpClaims)
    assert (vendor.chip_id_masked, vendor.mask_chip_key, claims.platform.id) == (True, True, b"")


def test_a_vlek_names_no_chip() -> None:
    """A VLEK belongs to a cloud and not to a chip: the report's own chip id is kept as a claim."""
    claims = VLEK.verify(VLEK.report(chip_id=samples.CHIP_ID))
    assert claims.platform.id == samples.CHIP_ID


def test_keys_of_the_id_block() -> None:
    """The launcher of the guest is reported by digests of keys, the author's only if it is used."""
    vendor = MILAN.claims(author_key_digest=b"a" * 48, flags=1)
    assert vendor.author_key_digest == Digest("sha384", b"a" * 48)
    assert MILAN.claims(author_key_digest=b"a" * 48).author_key_digest is None
    claims = MILAN.verify(MILAN.report(id_key_digest=bytes(48)))
    assert claims.signer is None
    assert MILAN.claims(id_key_digest=bytes(48)).id_key_digest is None


def _tcb(**changed: int) -> bytes:
    fields = {"boot_loader": 4, "tee": 1, "snp": 24, "microcode": 219, **changed}
    return TcbVersion(**fields).encode()


@pytest.mark.parametrize(
    ("changed", "provisional", "order"),
    [
        ({}, False, (True, True, True)),
        ({"current_tcb": _tcb(snp=25)}, True, (True, True, True)),
        ({"current_tcb": _tcb(snp=23)}, True, (True, False, False)),
        ({"committed_tcb": _tcb(snp=23)}, True, (False, True, True)),
        ({"launch_tcb": _tcb(microcode=220)}, False, (True, True, False)),
        ({"launch_tcb": _tcb(microcode=218)}, False, (True, True, True)),
        ({"current_build": 30}, True, (True, True, True)),
        ({"current_build": 28}, True, (True, True, True)),
        ({"current_minor": 56}, True, (True, True, True)),
        ({"current_major": 2}, True, (True, True, True)),
        ({"current_tcb": _tcb(snp=25, microcode=218)}, True, (True, False, False)),
    ],
)
def test_firmware(changed: dict[str, Any], provisional: bool, order: tuple[bool, bool, bool]) -> None:
    """Firmware that may be rolled back is reported, and so is each unexpected TCB."""
    vendor = MILAN.claims(**changed)
    assert vendor.provisional_firmware is provisional
    assert (
        vendor.reported_within_committed,
        vendor.committed_within_current,
        vendor.launch_within_current,
    ) == order


def test_status_bits_to_come_are_told() -> None:
    """A platform bit that we do not know is reported and refuses nothing."""
    vendor = TURIN.claims(platform_info=0x67 | 1 << 40)
    assert vendor.platform_info.unknown == 1 << 40 | 1 << 6
    assert vendor.platform_info.alias_check_complete


def test_identifiers_to_come_are_told() -> None:
    """An extension of AMD's that we do not know is reported and refuses nothing."""
    values = {**MILAN.extensions().encode(), "1.3.6.1.4.1.3704.1.9": b"\5\0"}
    vek = MILAN.make_vek(values=values)
    vendor = MILAN.verify(endorsements=MILAN.endorsements(vek=vek)).vendor
    assert isinstance(vendor, SnpClaims)
    assert vendor.unknown_extensions == ("1.3.6.1.4.1.3704.1.9",)


def test_a_wrapped_chip_id() -> None:
    """A certificate that wraps the chip's id names the same chip."""
    vek = MILAN.make_vek(MILAN.extensions(hw_id_wrapped=True))
    assert MILAN.verify(endorsements=MILAN.endorsements(vek=vek)).platform.id == MILAN.chip_id


def test_a_hosts_table_fills_in() -> None:
    """Certificates after the report endorse it; the caller's have precedence."""
    parts = {
        table.VCEK: MILAN.vek.public_bytes(Encoding.DER),
        table.ASK: MILAN.ask.public_bytes(Encoding.DER),
        table.ARK: MILAN.ark.public_bytes(Encoding.DER),
        table.CRL: MILAN.crl(),
    }
    extended = MILAN.report() + table.build(parts).encode()
    vendor = MILAN.verify(extended, SnpEndorsements()).vendor
    assert isinstance(vendor, SnpClaims)
    assert vendor.crl_checked
    with pytest.raises(AuthenticityError) as caught:
        MILAN.verify(extended, SnpEndorsements(crl=MILAN.crl(65537)))
    assert caught.value.code == "cert_revoked"
    with pytest.raises(AuthenticityError) as caught:
        MILAN.verify(extended, SnpEndorsements(ark=OTHER_ROOT.ark.public_bytes(Encoding.DER)))
    assert caught.value.code == "root_untrusted"


def test_in_the_firmwares_response() -> None:
    """The response around a report changes nothing."""
    header = bytes(4) + (1184).to_bytes(4, "little") + bytes(24)
    report = MILAN.report()
    assert MILAN.verify(header + report + bytes(100)) == MILAN.verify(report)


GOOD = MILAN.report(5)
PARTS = {
    "vek": MILAN.vek.public_bytes(Encoding.DER),
    "ask": MILAN.ask.public_bytes(Encoding.DER),
    "ark": MILAN.ark.public_bytes(Encoding.DER),
    "crl": MILAN.crl(7),
}
CLAIMS = MILAN.verify(GOOD, SnpEndorsements(**PARTS))


@PROPERTY
@given(mutations(GOOD))
def test_any_changed_report(data: bytes) -> None:
    """A changed report is refused by one of our errors; only padding that is kept out may differ."""
    try:
        claims = MILAN.verify(data, SnpEndorsements(**PARTS))
    except KluisError:
        return
    assert claims == CLAIMS


@PROPERTY
@given(st.sampled_from(sorted(PARTS)), st.data())
def test_any_changed_endorsement(part: str, data: st.DataObject) -> None:
    """A changed endorsement is refused by one of our errors, or changes nothing."""
    changed = data.draw(mutations(PARTS[part]))
    try:
        claims = MILAN.verify(GOOD, SnpEndorsements(**{**PARTS, part: changed}))
    except KluisError:
        return
    assert claims == CLAIMS


def test_products_cover_every_anchor() -> None:
    """Every shipped ARK is of a product whose layout we know."""
    products = {anchor.product for anchor in TrustAnchors.shipped() if anchor.vendor == "AMD"}
    assert products == {Product.MILAN, Product.GENOA, Product.TURIN}
