"""dstack's attestation in SCALE: the evidence within is verified, and must bind the other parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError
from kluis.evidence.sniff import sniff
from kluis.formats.encoding import cbor
from kluis.formats.wrappers import dstack
from kluis.formats.wrappers.dstack_scale import Attestation, Event, Platform
from tests.evidence.amd import forge as amd
from tests.evidence.nitro.forge import Forge as NitroForge
from tests.evidence.wrappers.test_unwrap import SPKI, TDX, certificate, der_of, octets

RUNTIME = (("app-id", b"\x11" * 20), ("compose-hash", b"\x22" * 32))
LOGGED = tuple(Event(3, dstack.RUNTIME_EVENT, b"", name, payload) for name, payload in RUNTIME)
CONFIG = '{"app_id":"11","version":3}'
TOLD = b"\x33" * 64
SNP = amd.Forge()
NITRO = NitroForge()


def _tdx(report_data: bytes = TOLD, events: tuple[Event, ...] = LOGGED, **changes: Any) -> Attestation:
    """A domain whose registers are those of its events."""
    made = Attestation(
        platform=Platform.TDX,
        evidence=b"",
        events=events,
        certificates=(),
        config="",
        runtime=RUNTIME,
        report_data=report_data,
        vm_config="{}",
    )
    replayed = dstack.replay(dstack.parse_log(made.log()))
    registers = {f"rtmr{index}": value for index, value in replayed.items()}
    quote = TDX.quote(TDX.td(report_data=report_data, **registers))
    return replace(made, **{"evidence": quote, **changes})


def _snp(**changes: Any) -> Attestation:
    host_data = replace(_tdx(), platform=Platform.SNP, config=CONFIG).host_data
    report = SNP.report(report_data=TOLD, host_data=host_data)
    made = replace(_tdx(), platform=Platform.SNP, events=(), config=CONFIG, evidence=report)
    return replace(made, **changes)


def test_tdx() -> None:
    """A domain's quote is verified, and its registers prove the log."""
    wrapper = TDX.verify(_tdx().encode()).wrapper
    assert wrapper is not None
    assert wrapper.name == "dstack attestation"
    assert dict(wrapper.binds) == {"report data": TOLD, "event log": _tdx().log()}
    assert [event.name for event in dstack.parse_log(wrapper.binds["event log"])] == [n for n, _ in RUNTIME]


def test_tdx_without_a_log() -> None:
    """Without a log, what the software recorded must be what the register tells."""
    assert TDX.verify(_tdx(events=()).encode()).wrapper is not None


def test_snp() -> None:
    """A guest's report is verified, and binds the configuration; what was recorded nothing proves."""
    wrapper = SNP.verify(_snp().encode()).wrapper
    assert wrapper is not None
    assert dict(wrapper.binds) == {"report data": TOLD, "configuration": CONFIG.encode()}


def test_nitro() -> None:
    """A document is verified, and its user data is the report data."""
    made = replace(_tdx(), platform=Platform.NITRO, events=(), runtime=(),
                   evidence=NITRO.document(user_data=TOLD))  # fmt: skip
    wrapper = NITRO.verify(made.encode()).wrapper
    assert wrapper is not None
    assert dict(wrapper.binds) == {"report data": TOLD}


def test_certificate() -> None:
    """In a certificate it binds the key, too; in an envelope it is the same as bare."""
    bound = _tdx(dstack.key_report_data(SPKI))
    wrapper = TDX.verify(der_of(dstack.ATTESTATION_OID, octets(bound.encode()))).wrapper
    assert wrapper is not None
    assert (wrapper.name, wrapper.binds["public key"]) == ("dstack certificate", SPKI)
    enveloped = TDX.verify(cbor.dumps([42, _tdx().encode()])).wrapper
    assert enveloped is not None
    assert enveloped.name == "dstack attestation in CMW record"


def test_sniffed() -> None:
    """It is shown with the evidence and the log within."""
    found = sniff(_tdx().encode())
    assert found.name == "dstack attestation"
    assert {label: part.name for label, part in found.within} == {
        "evidence": "TDX quote v4",
        "event log": "dstack event log",
    }
    pem = certificate(**{dstack.ATTESTATION_OID: octets(_tdx().encode())}).public_bytes(Encoding.PEM)
    assert sniff(pem).name == "dstack certificate"


REFUSED: dict[str, tuple[bytes, Any, type[KluisError], str]] = {
    "other report data": (_tdx(report_data=TOLD).encode().replace(TOLD, bytes(64)), TDX, AuthenticityError,
                          "sig_quote"),
    "report data that are not the quote's": (replace(_tdx(), report_data=bytes(64)).encode(), TDX,
                                             AuthenticityError, "report_data"),
    "an event that was changed": (
        replace(_tdx(), events=(replace(LOGGED[0], payload=b"\x99"), LOGGED[1]), runtime=()).encode(),
        TDX, AuthenticityError, "event_log"),
    "an event left out": (replace(_tdx(), events=LOGGED[:1], runtime=()).encode(), TDX, AuthenticityError,
                          "event_log"),
    "no events": (replace(_tdx(), events=(), runtime=()).encode(), TDX, AuthenticityError, "event_log"),
    "events that the log has not": (replace(_tdx(), runtime=RUNTIME[::-1]).encode(), TDX, AuthenticityError,
                                    "event_log"),
    "recorded events without a log, changed": (replace(_tdx(events=()), runtime=RUNTIME[::-1]).encode(), TDX,
                                               AuthenticityError, "event_log"),
    "an event with another's digest": (
        replace(_tdx(), events=(replace(LOGGED[0], digest=bytes(48)), LOGGED[1])).encode(), TDX, FormatError,
        "event_log"),
    "another configuration": (_snp(config="{}").encode(), SNP, AuthenticityError, "report_data"),
    "a configuration of another platform": (_snp(evidence=_tdx().evidence).encode(), TDX, AuthenticityError,
                                            "report_data"),
    "another key": (der_of(dstack.ATTESTATION_OID, octets(_tdx().encode())), TDX, AuthenticityError,
                    "key_binding"),
    "forged evidence": (replace(_tdx(), evidence=TDX.requote(signature=bytes(64))).encode(), TDX,
                        AuthenticityError, "sig_quote"),
    "MessagePack in a certificate": (der_of(dstack.ATTESTATION_OID, octets(b"\x83\xa7version\1")), TDX,
                                     UnsupportedError, "bad_version"),
    "TDX of Google's": (der_of(dstack.ATTESTATION_OID, octets(b"\0\1")), TDX, UnsupportedError, "bad_type"),
    "no octets": (der_of(dstack.ATTESTATION_OID, b""), TDX, FormatError, "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Parts that genuine evidence does not bind are refused."""
    data, forge, error, code = REFUSED[case]
    with pytest.raises(error) as caught:
        forge.verify(data)
    assert caught.value.code == code
