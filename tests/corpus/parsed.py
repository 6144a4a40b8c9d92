"""A record's facts about the bytes themselves, which are in no claim: read from the formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from kluis.errors import FormatError
from kluis.formats import x509
from kluis.formats.cca import token as cca_token
from kluis.formats.cca.platform import Platform
from kluis.formats.cca.realm import Realm
from kluis.formats.cca.token import Token
from kluis.formats.encoding import cbor
from kluis.formats.eventlog import log as event_log
from kluis.formats.hcl import report as hcl_report
from kluis.formats.ietf.cose import ALGORITHM, Sign1
from kluis.formats.nitro.document import DIGEST, Document
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.snp import response as snp_response
from kluis.formats.snp.flags import Flags, GuestPolicy
from kluis.formats.snp.report import Report
from kluis.formats.tpm import signature
from kluis.hashes import sha256
from tests.corpus.moment import certificates

Reader: TypeAlias = Callable[[Mapping[str, bytes]], Any]


def _quote(files: Mapping[str, bytes]) -> Any:
    return dcap_quote.parse(files["quote"])


def _pck(files: Mapping[str, bytes]) -> x509.Certificate:
    """The platform's certificate: the quote's, or else one in the same record."""
    beside = (data for role, data in files.items() if role != "quote")
    for data in (files["quote"], *beside):
        for one in certificates(data):
            if extension.OID in one.extensions:
                return one
    raise FormatError("PCK chain: has no PCK certificate")


def _log(files: Mapping[str, bytes]) -> event_log.EventLog:
    return event_log.parse(files["event_log"])


def _algorithms(files: Mapping[str, bytes]) -> dict[str, int]:
    return {f"{algorithm:#x}": size for algorithm, size in _log(files).algorithms}


def _document(files: Mapping[str, bytes]) -> Any:
    return Document.parse(files["document"])


def _report(files: Mapping[str, bytes]) -> Report:
    return snp_response.parse(files["report"]).report


def _abi(files: Mapping[str, bytes]) -> str:
    policy = GuestPolicy.parse(_report(files).policy)
    return f"{policy.abi_major}.{policy.abi_minor}"


def _platform(files: Mapping[str, bytes]) -> Sign1:
    return cca_token.message(Token.parse(files["token"]).platform, "platform")


def _realm(files: Mapping[str, bytes]) -> Sign1:
    return cca_token.message(Token.parse(files["token"]).realm, "realm")


def _devices(files: Mapping[str, bytes]) -> tuple[x509.Certificate, ...]:
    return x509.parse_pem(files["cert_chain"], "chain", most=8)


_QUOTE: Final[Mapping[str, Reader]] = {
    "qe_svn": lambda files: _quote(files).header.qe_svn,
    "pce_svn_header": lambda files: _quote(files).header.pce_svn,
    "cert_data_type": lambda files: int(_quote(files).certification_type),
    "qe_mrsigner": lambda files: _quote(files).qe_report.mrsigner,
    "qe_isvprodid": lambda files: _quote(files).qe_report.isvprodid,
    "pck_not_before": lambda files: _pck(files).not_before,
    "pck_not_after": lambda files: _pck(files).not_after,
}
PLACES: Final[Mapping[str, Mapping[str, Reader]]] = {
    "sgx": {
        **_QUOTE,
        "cpusvn": lambda files: _quote(files).body.cpusvn,
        "miscselect": lambda files: _quote(files).body.miscselect,
    },
    "tdx": _QUOTE,
    "snp": {
        "signature_algo": lambda files: _report(files).signature_algo,
        "policy_abi": _abi,
        "author_key_en": lambda files: Flags.parse(_report(files).flags).author_key,
        "report_id_ma": lambda files: _report(files).report_id_ma,
    },
    "nitro": {
        "digest": lambda files: DIGEST if _document(files) else None,
        "protected_header": lambda files: str(cbor.loads(_document(files).message.protected, "header")),
        "cose_tagged": lambda files: files["document"][:1] == b"\xd2",
        "chain_len": lambda files: len(_document(files).cabundle) + 1,
        "leaf_not_before": lambda files: x509.parse(_document(files).certificate, "leaf").not_before,
        "leaf_not_after": lambda files: x509.parse(_document(files).certificate, "leaf").not_after,
    },
    "nvidia": {
        "len": lambda files: len(files["report"]),
        "validity": lambda files: [
            max(one.not_before for one in _devices(files)),
            min(one.not_after for one in _devices(files)),
        ],
        "spdm_request_code": lambda files: files["report"][1],
    },
    "cca": {
        "tag": lambda files: Token.parse(files["token"]).tag,
        "platform.alg": lambda files: _platform(files).headers[ALGORITHM],
        "platform.nonce": lambda files: Platform.parse(_platform(files).payload).challenge,
        "realm.alg": lambda files: _realm(files).headers[ALGORITHM],
        "realm.rak_hash_algo": lambda files: Realm.parse(_realm(files).payload).public_key_hash_algorithm,
    },
    "tpm": {
        "sig_alg": lambda files: _scheme(files["quote_sig"]),
        "hash_alg": lambda files: signature.parse(files["quote_sig"]).hash.value,
    },
    "eventlog": {
        "algorithms": _algorithms,
        "events": lambda files: len(_log(files).events),
        "size": lambda files: len(files["event_log"]),
        "end_offset": lambda files: len(files["event_log"]) - len(_log(files).padding),
    },
    "azure": {
        "runtime_data_size": lambda files: len(hcl_report.parse(files["hcl_report"]).runtime),
        "hash_type": lambda files: hcl_report.parse(files["hcl_report"]).hash,
        "snp_report_sha256": lambda files: sha256(hcl_report.parse(files["hcl_report"]).hardware),
    },
}


def _scheme(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")
