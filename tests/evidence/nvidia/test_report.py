"""NVIDIA reports: the good one passes, and each step has a case that breaks only it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given

from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnavailableError,
    UnsupportedError,
)
from kluis.evidence import NvidiaClaims, ProtectionLevel, TcbStatus, Tee, TrustAnchors, Verifier, verify
from kluis.evidence.nvidia import report as nvidia
from kluis.evidence.nvidia.device import Device
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.nvidia.opaque import Feature, Field, Header, Opaque
from kluis.hashes import Digest
from tests.evidence.nvidia.forge import (
    DAY,
    DRIVER,
    FWID,
    NAMES,
    NONCE,
    NOW,
    VBIOS,
    Forge,
    composite,
    tcb_info,
    usage,
)
from tests.strategies import PROPERTY, mutations

FORGE = Forge()
GOOD = FORGE.evidence()
COUNT = 0x29
"""Where a report has the number of its measurements."""


def test_claims(gpu: Forge) -> None:
    """A good report gives its fields as claims; the level is its root's."""
    claims = gpu.verify()
    assert (claims.kind, claims.tee, claims.level) == (nvidia.KIND, Tee.NVIDIA, ProtectionLevel.HARDWARE_GPU)
    assert claims.anchor.startswith("NVIDIA forged root sha256:")
    assert (claims.nonce, claims.debug, claims.report_data) == (NONCE, False, b"")
    assert claims.registers["block3"] == Digest("sha384", b"\2" * 48)
    assert list(claims.registers) == ["block1", "block2", "block3"]
    assert claims.measurement == Digest.of("sha384", bytes(48) + b"\1" * 48 + b"\2" * 48)
    assert (claims.platform.product, claims.platform.id.hex()) == ("GH100", "48b02df44660da06")
    assert claims.tcb.status is TcbStatus.NOT_JUDGED
    assert claims.valid_until == NOW + 90 * DAY
    assert claims.vendor == NvidiaClaims(
        device=Device.GPU,
        driver_version="590.12",
        vbios_version="96.00.A5.00.01",
        project=None,
        fwid=FWID,
        flags=None,
        feature=None,
        protected_pcie=None,
        switches=(),
        device_nonce=bytes(32),
        revocation_checked=False,
        trailing_bytes=0,
    )


def test_more_claims(gpu: Forge) -> None:
    """Board, feature and a byte after the signature are reported."""
    fields = {
        Field.PROJECT: b"G520\0",
        Field.PROJECT_SKU: b"0200\0",
        Field.CHIP_SKU: b"885\0\0",
        Field.FEATURE_FLAG: b"\1\0",
    }
    vendor = gpu.verify(gpu.evidence(gpu.report(fields=fields) + b"\0")).vendor
    assert isinstance(vendor, NvidiaClaims)
    assert vendor.project == ("G520", "0200", "885")
    assert (vendor.feature, vendor.trailing_bytes) == (Feature.MULTIPLE_PASS_THROUGH, 1)
    for missing in (Field.PROJECT, Field.PROJECT_SKU, Field.CHIP_SKU):
        vendor = gpu.verify(gpu.evidence(gpu.report(fields={**fields, missing: None}))).vendor
        assert isinstance(vendor, NvidiaClaims)
        assert vendor.project is None


def test_switch(gpu: Forge) -> None:
    """A switch has no driver and no firmware id, and may have one link's id."""
    leaf = gpu.certificate(0, extensions=(gpu.device_name(b"NVIDIA:LS_10:48B02DAE0092CDDB"), composite()))
    fields = {
        Field.DRIVER_VERSION: None,
        Field.FWID: None,
        Field.VBIOS_VERSION: b"96.10.55.00.01",
        Field.SWITCH_PDI: bytes(range(8)),
        Field.MSRSCNT: bytes(8),
    }
    claims = gpu.verify(gpu.evidence(gpu.report(fields=fields), gpu.chain(at0=leaf)))
    assert isinstance(claims.vendor, NvidiaClaims)
    assert (claims.vendor.device, claims.vendor.driver_version) == (Device.SWITCH, None)
    assert (claims.vendor.vbios_version, claims.vendor.switches) == ("96.10.55.00.01", (bytes(range(8)),))
    assert (claims.platform.product, claims.vendor.fwid) == ("LS_10", FWID)


def test_no_firmware_id_at_all(gpu: Forge) -> None:
    """If neither report nor leaf has it, there is no claim."""
    leaf = gpu.certificate(0, extensions=(gpu.device_name(),))
    claims = gpu.verify(gpu.evidence(gpu.report(fields={Field.FWID: None}), gpu.chain(at0=leaf)))
    assert isinstance(claims.vendor, NvidiaClaims)
    assert claims.vendor.fwid is None


@pytest.mark.parametrize("flag", [1 << 28, 1 << 30])
def test_debug(gpu: Forge, flag: int) -> None:
    """Firmware that its certificate calls debuggable, or not secure, is worth nothing."""
    leaf = gpu.certificate(0, extensions=(gpu.device_name(), tcb_info(flags=flag)))
    claims = gpu.verify(gpu.evidence(chain=gpu.chain(at0=leaf)))
    assert (claims.debug, claims.level) == (True, ProtectionLevel.NONE)


def test_blackwell(gpu: Forge) -> None:
    """The later extension's flags are reported."""
    leaf = gpu.certificate(0, extensions=(gpu.device_name(b"NVIDIA:GB100:48B02D8C2C985EA1"), tcb_info()))
    claims = gpu.verify(gpu.evidence(chain=gpu.chain(at0=leaf)))
    assert isinstance(claims.vendor, NvidiaClaims)
    assert (claims.vendor.flags, claims.debug) == (0x80000001, False)


Case = Callable[[Forge], object]
LEAF_ONLY = {"report": Part(OCTETS, FORGE.report())}
MORE = {**Collection.parse(GOOD).parts, "more": Part(OCTETS, b"")}


def later_form(**fields: bytes) -> Opaque:
    """Fields behind a header, which say what kind of value they hold."""
    held = {
        Field.VBIOS_VERSION: VBIOS,
        Field.FWID: FWID,
        **{Field[name]: value for name, value in fields.items()},
    }
    header = Header(magic=b"NVDAOD", profile=0, major=2, minor=0)
    return Opaque(
        {int(kind): value for kind, value in held.items()}, header, dict.fromkeys(map(int, held), 0x86)
    )


def test_later_form(gpu: Forge) -> None:
    """Behind a header the same fields say the same."""
    vendor = gpu.verify(gpu.evidence(gpu.report(opaque=later_form(DRIVER_VERSION=DRIVER)))).vendor
    assert isinstance(vendor, NvidiaClaims)
    assert vendor == gpu.verify(gpu.evidence()).vendor


def test_later_form_is_signed(gpu: Forge) -> None:
    """The header and the type of each field are signed like the rest."""
    report = gpu.report(opaque=later_form(DRIVER_VERSION=DRIVER))
    at = report.index(b"NVDAOD")
    for place in (at + 9, at + 14):
        changed = report[:place] + bytes((report[place] ^ 1,)) + report[place + 1 :]
        with pytest.raises(AuthenticityError) as caught:
            gpu.verify(gpu.evidence(changed))
        assert caught.value.code == "sig_report"


STEPS: dict[str, tuple[Case, type[KluisError], str]] = {
    "1: a part more": (lambda gpu: gpu.verify(Collection(MORE).encode()), FormatError, "bad_type"),
    "1: the report": (lambda gpu: gpu.verify(gpu.evidence(gpu.report()[:-1])), FormatError, "truncated"),
    "1: the chain": (lambda gpu: gpu.verify(gpu.evidence(chain=b"none")), FormatError, "bad_encoding"),
    "2: too few": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.pem(0) + gpu.pem(4))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: too many": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain() + gpu.pem(4) * 2)),
        FormatError,
        "too_large",
    ),
    "2: a leaf that is a CA": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, ca=True)))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: a leaf that may not sign": (
        lambda gpu: gpu.verify(
            gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, usage=usage(sign=False))))
        ),
        AuthenticityError,
        "cert_profile",
    ),
    "2: a leaf without key usage": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, usage=None)))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: an issuer that is no CA": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at1=gpu.certificate(1, ca=False)))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: an issuer that may not issue": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at2=gpu.certificate(2, usage=usage(sign=True))))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: a path that is too long": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at3=gpu.certificate(3, path_length=1)))),
        AuthenticityError,
        "cert_profile",
    ),
    "2: another product": (
        lambda gpu: gpu.verify(
            gpu.evidence(
                chain=gpu.chain(
                    at0=gpu.certificate(0, extensions=(gpu.device_name(b"NVIDIA:XX100:48B02DF44660DA06"),))
                )
            )
        ),
        UnsupportedError,
        "bad_version",
    ),
    "3: another root": (
        lambda gpu: verify(gpu.evidence(), anchors=TrustAnchors.shipped(), collateral=None, now=NOW),
        AuthenticityError,
        "root_untrusted",
    ),
    "3: a root for others": (
        lambda gpu: verify(
            gpu.evidence(),
            anchors=TrustAnchors.from_pem(gpu.pem(4), ProtectionLevel.HARDWARE_NITRO),
            collateral=None,
            now=NOW,
        ),
        AuthenticityError,
        "root_untrusted",
    ),
    "4: another issuer's name": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at1=gpu.certificate(1, issuer="other")))),
        AuthenticityError,
        "cert_chain",
    ),
    "4: another issuer's key": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, signer=gpu.keys[2])))),
        AuthenticityError,
        "cert_chain",
    ),
    "5: not yet": (lambda gpu: gpu.verify(now=NOW - 2 * DAY), FreshnessError, "cert_not_yet_valid"),
    "5: no more": (lambda gpu: gpu.verify(now=NOW + 91 * DAY), FreshnessError, "cert_expired"),
    "5: one CA no more": (
        lambda gpu: gpu.verify(gpu.evidence(chain=gpu.chain(at2=gpu.certificate(2, after=NOW - DAY / 2)))),
        FreshnessError,
        "cert_expired",
    ),
    "6: no response": (lambda gpu: gpu.verify(ocsp=(b"none",)), FormatError, "bad_encoding"),
    "7: another key": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report(sign_with=gpu.keys[1]))),
        AuthenticityError,
        "sig_report",
    ),
    "7: another nonce": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report().replace(NONCE, bytes(32)))),
        AuthenticityError,
        "sig_report",
    ),
    "8: other firmware": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report(fields={Field.FWID: bytes(48)}))),
        AuthenticityError,
        "key_binding",
    ),
    "8: firmware that no leaf names": (
        lambda gpu: gpu.verify(
            gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, extensions=(gpu.device_name(),))))
        ),
        AuthenticityError,
        "key_binding",
    ),
    "9: a GPU without a driver": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report(fields={Field.DRIVER_VERSION: None}))),
        AuthenticityError,
        "product_mismatch",
    ),
    "9: a switch with a driver": (
        lambda gpu: gpu.verify(
            gpu.evidence(
                chain=gpu.chain(
                    at0=gpu.certificate(
                        0, extensions=(gpu.device_name(b"NVIDIA:LS_10:48B02DAE0092CDDB"), composite())
                    )
                )
            )
        ),
        AuthenticityError,
        "product_mismatch",
    ),
    "9: a GPU without a driver, in the later form": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report(opaque=later_form()))),
        AuthenticityError,
        "product_mismatch",
    ),
    "9: no VBIOS": (
        lambda gpu: gpu.verify(gpu.evidence(gpu.report(fields={Field.VBIOS_VERSION: None}))),
        AuthenticityError,
        "product_mismatch",
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_step(gpu: Forge, step: str) -> None:
    """Each numbered step refuses what breaks only it."""
    case, error, code = STEPS[step]
    with pytest.raises(KluisError) as caught:
        case(gpu)
    assert (type(caught.value), caught.value.code) == (error, code)


def test_the_shortest_and_the_longest_chain(gpu: Forge) -> None:
    """A chain has 3 to 6 certificates, whatever the order of issuers."""
    short = gpu.certificate(0, signer=gpu.keys[3], issuer=NAMES[3]).public_bytes(Encoding.PEM)
    key = ec.generate_private_key(ec.SECP384R1())
    more = gpu.certificate(1, key=key, signer=gpu.keys[1], issuer=NAMES[1]).public_bytes(Encoding.PEM)
    leaf = gpu.certificate(0, signer=key).public_bytes(Encoding.PEM)
    for chain in (
        short + gpu.pem(3) + gpu.pem(4),
        leaf + more + b"".join(map(gpu.pem, range(1, 5))),
    ):
        assert gpu.verify(gpu.evidence(chain=chain)).nonce == NONCE


def test_the_first_and_the_last_second(gpu: Forge) -> None:
    """A chain is good at its first and at its last second."""
    for now in (NOW - DAY, NOW + 90 * DAY):
        assert gpu.verify(now=now).verified_at == now


def test_chain_of_p256(gpu: Forge) -> None:
    """Keys on another curve are refused before any signature is checked."""
    leaf = gpu.certificate(0, key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(AuthenticityError) as caught:
        gpu.verify(gpu.evidence(chain=gpu.chain(at0=leaf)))
    assert caught.value.code == "cert_profile"


@pytest.mark.parametrize("issuer", [NAMES[-1], "another root"])
def test_a_root_that_somebody_wrote(gpu: Forge, issuer: str) -> None:
    """A copy of the root with other times, which its own key did not sign, is refused."""
    other = ec.generate_private_key(ec.SECP384R1())
    root = gpu.certificate(4, signer=other, issuer=issuer, after=NOW + timedelta(days=3000))
    with pytest.raises(AuthenticityError) as caught:
        gpu.verify(gpu.evidence(chain=gpu.chain(at4=root)))
    assert (caught.value.code, caught.value.message.split(": ")[0]) == (
        "cert_chain",
        "NVIDIA certificate chain.root",
    )


def test_zero_signature_is_refused_cleanly(gpu: Forge) -> None:
    """A signature of zeros, or past the order, is a refusal and no crash."""
    body = gpu.report()[:-96]
    for signature in (bytes(96), b"\xff" * 96, bytes(95) + b"\1"):
        with pytest.raises(AuthenticityError) as caught:
            gpu.verify(gpu.evidence(body + signature))
        assert caught.value.code == "sig_report"


def test_revocation_is_told(gpu: Forge) -> None:
    """Only when NVIDIA has answered for all that it issued is revocation checked."""
    every = tuple(gpu.answer(index) for index in (1, 2, 3))
    for given_, checked in (
        (every, True),
        (every[:2], False),
        (every[1:], False),
        ((), False),
        ((gpu.answer(0), *every), True),
    ):
        claims = gpu.verify(ocsp=given_)
        assert isinstance(claims.vendor, NvidiaClaims)
        assert claims.vendor.revocation_checked is checked
        assert claims.valid_until == (NOW + DAY if given_ else NOW + 90 * DAY)
        assert claims.collateral_issued == (NOW - DAY / 4 if given_ else None)


def test_the_first_answer_to_run_out_counts(gpu: Forge) -> None:
    """Of several answers the oldest tells the age, and the first to run out ends the claims."""
    answers = tuple(gpu.answer(i, start=NOW - i * DAY, end=NOW + i * DAY) for i in (1, 2, 3))
    for given_ in (answers, answers[::-1]):
        claims = gpu.verify(ocsp=given_)
        assert (claims.collateral_issued, claims.valid_until) == (NOW - 3 * DAY, NOW + DAY)


def test_what_another_report_says_is_not_remembered(gpu: Forge) -> None:
    """Reports of one device are read by all of their bytes: measurements, fields and their count."""
    verifier = Verifier(gpu.anchors)
    reports = (
        gpu.report(),
        gpu.report(digests=(bytes(48), b"\1" * 48, b"\3" * 48)),
        gpu.report(fields={Field.DRIVER_VERSION: b"591.00\0"}),
        gpu.report(device_nonce=b"\1" * 32),
    )
    for report in reports:
        data = gpu.evidence(report)
        assert verifier.verify(data, collateral=None, now=NOW).value == gpu.verify(data)
    body = reports[0][:COUNT] + bytes((reports[0][COUNT] + 1,)) + reports[0][COUNT + 1 : -96]
    r, s = decode_dss_signature(gpu.keys[0].sign(body, ec.ECDSA(hashes.SHA384())))
    with pytest.raises(UnsupportedError, match="want 55 for each of 4 measurements"):
        verifier.verify(
            gpu.evidence(body + r.to_bytes(48, "big") + s.to_bytes(48, "big")), collateral=None, now=NOW
        )


def test_memory_holds_no_time_and_no_status(gpu: Forge) -> None:
    """A verifier that has seen a chain still refuses it when it has run out, or is on hold."""
    verifier = Verifier(gpu.anchors)
    data = gpu.evidence()
    for _ in range(2):
        verifier.verify(data, collateral=None, now=NOW)
    with pytest.raises(FreshnessError):
        verifier.verify(data, collateral=None, now=NOW + timedelta(days=91))


def test_remembers_successes_only(gpu: Forge) -> None:
    """A chain that failed is looked at again, and a good report's chain does not help a bad one."""
    verifier = Verifier(gpu.anchors)
    verifier.verify(gpu.evidence(), collateral=None, now=NOW)
    bad = gpu.evidence(chain=gpu.chain(at0=gpu.certificate(0, signer=gpu.keys[2])))
    for _ in range(2):
        with pytest.raises(AuthenticityError):
            verifier.verify(bad, collateral=None, now=NOW)


def test_parts_in_any_order(gpu: Forge) -> None:
    """The chain may come before the report, and a collection may state its type."""
    parts = Collection.parse(gpu.evidence()).parts
    turned = Collection(dict(reversed(parts.items()))).encode()
    typed = Collection(parts, "tag:a.example").encode()
    verifier = Verifier(gpu.anchors)
    both = Collection(dict(reversed(parts.items())), "tag:a.example").encode()
    for data in (turned, gpu.evidence(), typed, both) * 2:
        assert verifier.verify(data, collateral=None, now=NOW).value.nonce == NONCE


def test_a_chain_that_was_seen_hides_nothing_before_it(gpu: Forge) -> None:
    """With its chain seen before, a collection is still read whole: a part more, or one twice, is refused."""
    verifier = Verifier(gpu.anchors)
    good = gpu.evidence()
    verifier.verify(good, collateral=None, now=NOW)
    chain = good.index(b',"cert_chain"')
    more = b',"more":["a/b","AA"]'
    for data in (
        good[:chain] + more + good[chain:],
        good[:chain] + good[chain:-1] + good[chain:],
        good[:chain] + b"," + good[1:chain] + good[chain:],
        good[:chain] + b"x" + good[chain:],
        good + b"}",
    ):
        with pytest.raises(FormatError):
            verifier.verify(data, collateral=None, now=NOW)


def test_unavailable_is_not_no(gpu: Forge) -> None:
    """A responder that does not know the certificate leaves the question open."""
    from cryptography.x509 import ocsp

    with pytest.raises(UnavailableError):
        gpu.verify(ocsp=(gpu.answer(status=ocsp.OCSPCertStatus.UNKNOWN),))


def test_matches() -> None:
    """Collections of other vendors are not ours."""
    assert nvidia.matches(GOOD)
    assert not nvidia.matches(Collection(LEAF_ONLY).encode())
    assert not nvidia.matches(
        Collection({"report": Part(OCTETS, b"x"), "cert_chain": Part(OCTETS, b"")}).encode()
    )
    assert not nvidia.matches(b"{}")


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Whatever changed in the evidence, it is refused by our errors, or reads as before."""
    try:
        claims = FORGE.verify(data)
    except KluisError:
        return
    assert dataclasses.replace(claims, verified_at=NOW) == FORGE.verify(GOOD)


def test_what_another_chain_says_of_the_same_key_is_not_remembered(gpu: Forge) -> None:
    """Two certificates of one key, of two roots: neither lends the other its identity or its debug flags."""
    other = Forge()
    other.keys[0] = gpu.keys[0]
    bad = gpu.chain(at0=gpu.certificate(0, extensions=(gpu.device_name(), tcb_info(flags=0x90000001))))
    fine = other.chain(
        at0=other.certificate(0, extensions=(gpu.device_name(b"NVIDIA:GB100:48B02DF44660DA06"), tcb_info()))
    )
    verifier = Verifier(gpu.anchors | TrustAnchors.from_pem(other.pem(4)))
    report = gpu.report()
    alone = gpu.verify(gpu.evidence(report, bad))
    verifier.verify(gpu.evidence(report, fine), collateral=None, now=NOW)
    again = verifier.verify(gpu.evidence(report, bad), collateral=None, now=NOW).value
    assert (alone.debug, alone.level) == (True, ProtectionLevel.NONE)
    assert again == alone
