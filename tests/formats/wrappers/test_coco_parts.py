"""Evidence of several parts of Confidential Containers: each form, and nothing that is not of one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.wrappers import coco, coco_parts
from tests.strategies import PROPERTY, mutations

REPORT, MESSAGE, SIGNATURE, TD_QUOTE = b"HCLA report\xff\xfe", b"\xffTCG", b"\x00\x14sig", b"td quote\xfb\xff"
VALUES = [bytes((index,)) * 32 for index in range(24)]


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _plain(data: bytes) -> str:
    return base64.b64encode(data).decode()


def numbers(message: bytes, signature: bytes, values: list[bytes]) -> dict[str, Any]:
    """A TPM quote as the first version has it."""
    return {"signature": list(signature), "message": list(message), "pcrs": list(map(list, values))}


def texts(message: bytes, signature: bytes, values: list[bytes]) -> dict[str, Any]:
    """A TPM quote as later versions have it."""
    return {"signature": signature.hex(), "message": message.hex(), "pcrs": [each.hex() for each in values]}


def tpm(message: bytes, signature: bytes, values: list[bytes]) -> bytes:
    """The evidence of a TPM."""
    quote = {
        "message": _plain(message),
        "pcrs": [each.hex() for each in values],
        "signature": _plain(signature),
    }
    return json.dumps({"ak_public": "MII=", "tpm_quote": quote}, indent=2).encode()


QUOTED = (MESSAGE, SIGNATURE, VALUES)
SNP: dict[str, Any] = {
    "version": 2,
    "tpm_quote": texts(*QUOTED),
    "hcl_report": _url(REPORT),
    "vcek": _url(b"vcek"),
}
TDX: dict[str, Any] = {
    "version": 1,
    "tpm_quote": texts(*QUOTED),
    "hcl_report": _url(REPORT),
    "td_quote": _url(TD_QUOTE),
}
SNP_0: dict[str, Any] = {"quote": numbers(*QUOTED), "report": list(REPORT), "vcek": "-----BEGIN"}
TDX_0: dict[str, Any] = {
    "tpm_quote": numbers(*QUOTED),
    "hcl_report": list(REPORT),
    "td_quote": list(TD_QUOTE),
}
FORMS = {"snp": SNP, "snp, version 1": {**SNP, "version": 1}, "tdx": TDX, "snp, 0": SNP_0, "tdx, 0": TDX_0}
OF_TPM = {"tpm_quote": MESSAGE, "tpm_signature": SIGNATURE}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("form", FORMS)
def test_azure(form: str) -> None:
    """Each form gives the same parts; TDX also has its quote, and there is no certificate."""
    data = encoded(FORMS[form])
    assert coco_parts.matches_azure(data)
    assert not coco_parts.matches_tpm(data)
    parts = {label: part.value for label, part in coco_parts.parse_azure(data).parts.items()}
    assert pcrs.parse(parts.pop("pcrs")) == {HashId.SHA256: dict(enumerate(VALUES))}
    quote = {"td_quote": TD_QUOTE} if "tdx" in form else {}
    assert parts == {"hcl_report": REPORT, **OF_TPM, **quote}


def test_tpm() -> None:
    """A TPM's quote, its signature and its values."""
    data = tpm(*QUOTED)
    assert coco_parts.matches_tpm(data)
    assert not coco_parts.matches_azure(data)
    parts = {label: part.value for label, part in coco_parts.parse_tpm(data).parts.items()}
    assert pcrs.parse(parts.pop("pcrs")) == {HashId.SHA256: dict(enumerate(VALUES))}
    assert parts == OF_TPM


A = "CoCo Azure evidence"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({**SNP, "version": 3}, UnsupportedError, f"{A}.version: want one of [1, 2], got 3"),
        ({**SNP, "version": True}, UnsupportedError, f"{A}.version: want one of [1, 2], got a boolean"),
        (
            {**SNP, "event_log": ""},
            FormatError,
            f"{A}: want members ['hcl_report', 'tpm_quote', 'vcek', 'version'], "
            "got ['event_log', 'hcl_report', 'tpm_quote', 'vcek', 'version']",
        ),
        (
            {**SNP_0, "td_quote": []},
            FormatError,
            f"{A}: want members ['hcl_report', 'td_quote', 'tpm_quote'], "
            "got ['quote', 'report', 'td_quote', 'vcek']",
        ),
        (
            {**SNP, "hcl_report": list(REPORT)},
            FormatError,
            f"{A}.hcl_report: want text of at most 131072 characters",
        ),
        (
            {**SNP, "hcl_report": "a+b="},
            FormatError,
            f"{A}.hcl_report: is not base64url, or not the one of its bytes",
        ),
        ({**SNP_0, "report": "SENM"}, FormatError, f"{A}.report: want at most 65536 bytes as numbers"),
        ({**SNP_0, "report": [256]}, FormatError, f"{A}.report: want bytes as numbers"),
        ({**SNP_0, "report": [True]}, FormatError, f"{A}.report: want bytes as numbers"),
        (
            {**SNP, "tpm_quote": texts(MESSAGE, SIGNATURE, [b"short"])},
            FormatError,
            f"{A}.tpm_quote.pcrs: want 32 bytes each",
        ),
        (
            {**SNP, "tpm_quote": texts(MESSAGE, SIGNATURE, [*VALUES, VALUES[0]])},
            FormatError,
            f"{A}.tpm_quote.pcrs: has 25 items, must be at most 24",
        ),
        (
            {**SNP, "tpm_quote": {**texts(*QUOTED), "message": "ff 54"}},
            FormatError,
            f"{A}.tpm_quote.message.hex: is not hex",
        ),
        (
            {**SNP, "tpm_quote": {**texts(*QUOTED), "more": ""}},
            FormatError,
            f"{A}.tpm_quote: want members ['message', 'pcrs', 'signature'], "
            "got ['message', 'more', 'pcrs', 'signature']",
        ),
    ],
)
def test_refused(value: object, error: type[KluisError], message: str) -> None:
    """Another version, another member, and bytes written otherwise are refused."""
    with pytest.raises(error) as caught:
        coco_parts.parse_azure(encoded(value))
    assert str(caught.value) == message


@given(mutations(*map(encoded, FORMS.values()), tpm(*QUOTED)))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, parts or our errors."""
    for parse in (coco_parts.parse_azure, coco_parts.parse_tpm, coco.parse_cca):
        try:
            parse(data)
        except KluisError:
            continue
