"""Real evidence of every TEE through the commands: verified, drafted into a policy, and appraised by it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kluis.appraisal import loads
from kluis.formats import jose
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.eventlog import log as event_log
from tests.cli.quotes import Kluis, Said, ends

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
SOME_TIME = "2026-06-01T00:00:00Z"
EACH = 2
PARTS = {
    "report": "report",
    "cert_chain": "cert_chain",
    "hcl_report": "hcl_report",
    "td_quote": "td_quote",
    "tpm_quote": "tpm_quote_msg",
    "tpm_signature": "tpm_quote_sig",
    "pcrs": "pcrs",
}
# What endorses evidence, by its role; the rest is evidence, or says where it comes from.
ENDORSING = (
    "tcb_info",
    "tcb_info_issuer_chain",
    "qe_identity",
    "pck_crl",
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "endorsement_key",
    "ask",
    "ark",
    "ark_crl",
)


class Case:
    """One recorded piece of evidence, as words of a command line."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        self.files: dict[str, Any] = self.meta["files"]
        self.tee: str = self.meta["tee"]
        self.name = f"{self.tee}-{self.folder.name}"

    def file(self, role: str) -> Path:
        """The path of a part."""
        return self.folder / self.files[role]["file"]

    def words(self, scratch: Path) -> list[object]:
        """Evidence, endorsements, roots and time."""
        words: list[object] = ["--now", self.meta.get("verify_time") or SOME_TIME]
        for role in ENDORSING:
            if role in self.files:
                words += ["--collateral", self.file(role)]
        if self.tee == "cca":
            key = jose.parse_jwk(self.file("cpak").read_bytes(), "CPAK")
            pem = json.loads(CcaEndorsements(cpak=key.spki).to_json())["cpak"]
            (scratch / "cpak.pem").write_text(pem, encoding="utf-8")
            words += ["--root", scratch / "cpak.pem", "--root-level", "hardware-cca"]
        if self.tee == "tpm":
            for part, role in (("tpm_quote", "quote_msg"), ("tpm_signature", "quote_sig"), ("pcrs", "pcrs")):
                words += ["--part", f"{part}={self.file(role)}"]
            words += ["--root", self.file("ak_pub"), "--root-level", "vtpm"]
            return words + (["--event-log", self.file("event_log")] if "event_log" in self.files else [])
        single = {"sgx": "quote", "tdx": "quote", "snp": "report", "nitro": "document", "cca": "token"}
        if self.tee in single:
            return [self.file(single[self.tee]), *words]
        for part, role in PARTS.items():
            if role in self.files:
                words += ["--part", f"{part}={self.file(role)}"]
        return words


def _cases() -> list[Case]:
    """Some genuine evidence of every TEE that protects something and that a maker judges well."""
    found: list[Case] = []
    for tee in ("sgx", "tdx", "snp", "nitro", "tpm", "azure", "nvidia", "cca"):
        good = []
        for path in sorted((VECTORS / tee).glob("*/meta.json")):
            case = Case(path)
            status = case.meta["expected"].get("tcb_status")
            known = case.meta.get("known", {})
            whole = case.meta["expected"]["outcome"] == "valid" and not case.meta["expected"].get("debug")
            evidence = {"quote", "report", "document", "token", "hcl_report", "pcrs"} & set(case.files)
            sha1 = known.get("pcr_selection", [["", []]])[0][0] == "0x4"
            if whole and evidence and status in (None, "UpToDate", "OutOfDate") and not sha1:
                good.append(case)
        found += good[-EACH:]
    return found


CASES = _cases()
pytestmark = pytest.mark.skipif(not CASES, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")


def _google() -> list[Case]:
    """Quotes with an event log in Google's own wrapper."""
    found = [Case(path) for path in sorted((VECTORS / "tpm").glob("gce-*/meta.json"))]
    return [case for case in found if {"original", "event_log"} <= set(case.files)]


@pytest.mark.skipif(not _google(), reason="no quotes in a wrapper")
def test_a_log_beside_a_wrapper_is_judged(kluis: Kluis, tmp_path: Path) -> None:
    """--event-log is held against a quote whose wrapper has a log of its own, and not passed over."""
    for case in _google():
        log = event_log.parse(case.file("event_log").read_bytes())
        (tmp_path / "other.bin").write_bytes(dataclasses.replace(log, events=log.events[:-1]).encode())
        words = [case.file("original"), "--root", case.file("ak_pub"), "--root-level", "vtpm"]
        words += ["--now", SOME_TIME]
        assert kluis("verify", *words, "--event-log", case.file("event_log")).code == 0
        said = kluis("verify", *words, "--event-log", tmp_path / "other.bin")
        assert (said.code, "event log: want PCRs as they were quoted" in said.err) == (4, True)
        assert kluis("verify", *words, "--event-log", case.file("ak_pub")).code == 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_from_evidence_to_a_verdict(kluis: Kluis, tmp_path: Path, case: Case) -> None:
    """Verify says what is authentic; a policy drafted from it affirms it; another session's is refused."""
    words = case.words(tmp_path)
    said = kluis("verify", *words, "--json")
    assert said.code == 0, said.err
    claims = json.loads(said.out)["claims"]
    assert claims["tee"] == case.tee
    if claims["debug"] or claims["protection"] == "none":
        refused = kluis("policy", "init", *words, "-o", tmp_path / "p.toml")
        assert refused.code == 6
        return
    plain = kluis("verify", *words)
    assert "authentic, and not appraised" in plain.out
    policy = tmp_path / "policy.toml"
    assert kluis("policy", "init", *_without_log(words), "-o", policy).code == 0
    loads(policy.read_bytes())
    # What changes from session to session the relying party gives; dated lists are tested elsewhere.
    text = policy.read_text(encoding="utf-8").replace("denylists = true", "denylists = false")
    policy.write_text(text, encoding="utf-8")
    session = ["--report-data", claims["report_data"]] if 'report_data = "given"' in text else []
    if claims["nonce"]:
        session += ["--nonce", claims["nonce"]]
    aged = text.replace("max_document_age_seconds = 300", "max_document_age_seconds = 86400")
    policy.write_text(aged.replace("age_days = 30", "age_days = 400"), encoding="utf-8")
    given = kluis("appraise", *words, "--policy", policy, *session, "--json")
    result = json.loads(given.out)
    failed = {rule["name"]: (rule["want"], rule["got"]) for rule in result["rules"] if not rule["ok"]}
    assert set(failed) <= {"collateral_age"}, failed
    if session:
        others = ["0011" if index % 2 else each for index, each in enumerate(session)]
        assert kluis("appraise", *words, "--policy", policy, *others).code in (5, 6)


def _without_log(words: list[object]) -> list[object]:
    """The same words for a command that takes no log."""
    at = words.index("--event-log") if "--event-log" in words else len(words)
    return words[:at] + words[at + 2 :]


def _some(tee: str) -> Case:
    found = [case for case in CASES if case.tee == tee]
    return found[0] if found else pytest.skip(f"no vectors of {tee}")


@pytest.mark.parametrize("form", ["hex", "base64", "stdin"])
def test_evidence_in_other_forms(
    kluis: Kluis, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hex, base64 and stdin give the same claims as the bytes themselves."""
    import base64
    import io
    import sys

    case = _some("nitro")
    path, *words = case.words(tmp_path)
    data = Path(str(path)).read_bytes()
    written = tmp_path / "evidence"
    if form == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        written = Path("-")
    else:
        written.write_bytes(data.hex().encode() if form == "hex" else base64.b64encode(data))
    assert kluis("verify", written, *words, "--json") == kluis("verify", path, *words, "--json")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "evidence: want a file, - for stdin, or --part NAME=FILE, and not both"),
        (("x", "--part", "a=b"), "evidence: want a file, - for stdin, or --part NAME=FILE, and not both"),
        (("--part", "a"), "--part: want NAME=FILE, each name once, got 'a'"),
        (("x", "--root-level", "vtpm"), "--root-level: is the level of a root that --root names"),
        (
            ("x", "--root", "r", "--root-level", "best"),
            "--root-level: want one of none, process-user, process, vm, vtpm, hardware-cca, hardware-nitro, "
            "hardware-snp, hardware-tdx, hardware-sgx, hardware-gpu, got 'best'",
        ),
    ],
)
def test_what_means_nothing(
    kluis: Kluis, tmp_path: Path, argv: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that mean nothing are a usage error, before anything is verified."""
    monkeypatch.chdir(tmp_path)
    for name in ("x", "b"):
        (tmp_path / name).write_bytes(b"\3\0")
    said = kluis("verify", *argv)
    assert (said.code, said.out) == (2, "")
    if "--root-level: want" in said.err:
        assert said.err.startswith("kluis: error: --root-level: want one of none, ")
        assert said.err.endswith("got 'best'\n" + ends("usage"))
        return
    assert said == Said(2, "", f"kluis: error: {message}\n" + ends("usage"))
