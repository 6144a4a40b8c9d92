"""Real evidence of every TEE through the commands: verified, drafted into a policy, and appraised by it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.appraisal import loads
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.eventlog import log as event_log
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.ietf import jose
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from tests.cli.quotes import Kluis, Said, ends
from tests.evidence.tpm import forge
from tests.formats.eventlog.logs import event, log

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
# What endorses evidence, by its role; the rest is evidence, or names its source.
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
    """Some genuine evidence of every TEE that protects something and that a vendor rates well."""
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
    """--event-log is compared with a quote whose wrapper has its own log, and not ignored."""
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
    """Verify prints what is authentic; a policy drafted from it affirms it; another session's is refused."""
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
    worth = json.loads(said.out)
    assert f": keys made by {worth['keys_made_by']}; keeps out {worth['keeps_out']}\n" in plain.out
    listed = "not kept out:\n" + "".join(f"  - {each}\n" for each in worth["not_kept_out"])
    assert plain.out.endswith(listed)
    policy = tmp_path / "policy.toml"
    assert kluis("policy", "init", *words, "-o", policy).code == 0
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
    assert result["not_kept_out"] == worth["not_kept_out"]
    assert kluis("appraise", *words, "--policy", policy, *session).out.endswith(listed)
    if session:
        others = ["0011" if index % 2 else each for index, each in enumerate(session)]
        assert kluis("appraise", *words, "--policy", policy, *others).code in (5, 6)


@pytest.mark.skipif(not _google(), reason="no quotes in a wrapper")
def test_a_draft_wants_what_a_log_makes_possible(kluis: Kluis, tmp_path: Path) -> None:
    """With a log that replays, a draft requires one, and its secure boot facts; another is refused."""
    case = next(case for case in CASES if case.tee == "tpm")
    words, held = case.words(tmp_path), case.file("event_log")
    at = words.index("--event-log")
    without = words[:at] + words[at + 2 :]
    for name, given in (("with", words), ("without", without)):
        said = kluis("policy", "init", *given, "-o", tmp_path / f"{name}.toml")
        table = tomllib.loads((tmp_path / f"{name}.toml").read_text(encoding="utf-8"))["tpm"]
        assert (said.code, table["event_log_required"]) == (0, name == "with")
        assert ("ok    event log " in said.err, "kluis appraise --event-log FILE" in said.err) == (
            (name == "with",) * 2
        )
    proven = json.loads(kluis("verify", *words, "--json").out)["event_log"]["secure_boot"]
    with_log = tomllib.loads((tmp_path / "with.toml").read_text(encoding="utf-8"))["tpm"]
    assert with_log["secure_boot"] == proven
    alone = kluis("appraise", *without, "--policy", tmp_path / "with.toml", "--nonce", "00", "--json")
    assert "event_log" in {rule["name"] for rule in json.loads(alone.out)["rules"] if not rule["ok"]}
    read = event_log.parse(held.read_bytes())
    (tmp_path / "other.bin").write_bytes(dataclasses.replace(read, events=read.events[:-1]).encode())
    init = ("policy", "init", *without, "--event-log", tmp_path / "other.bin", "-o", tmp_path / "no.toml")
    refused = kluis(*init)
    assert (refused.code, "event log: want PCRs as they were quoted" in refused.err) == (4, True)
    assert not (tmp_path / "no.toml").exists()


def test_a_log_that_no_rule_wants(kluis: Kluis, tmp_path: Path) -> None:
    """A domain's log must replay as well; no rule of its table uses it, and the draft states that."""
    held = VECTORS / "eventlog" / "ccel-gce-cos113-with-quote"
    found = sorted((VECTORS / "tdx").glob("go-tdx-guest-00b2526a-*-UpToDate/meta.json"))
    if not found or not held.is_dir():
        pytest.skip("no quote with its log")
    words = Case(found[0]).words(tmp_path)
    init = ("policy", "init", *words, "-o")
    assert kluis(*init, tmp_path / "without.toml").code == 0
    said = kluis(*init, tmp_path / "with.toml", "--event-log", held / "event_log.bin")
    assert (said.code, "no rule wants a log of RTMRs" in said.err) == (0, True), said.err
    assert (tmp_path / "with.toml").read_bytes() == (tmp_path / "without.toml").read_bytes()
    read = event_log.parse((held / "event_log.bin").read_bytes())
    (tmp_path / "other.bin").write_bytes(dataclasses.replace(read, events=read.events[:9]).encode())
    refused = kluis(*init, tmp_path / "no.toml", "--event-log", tmp_path / "other.bin")
    assert (refused.code, refused.err.startswith("kluis: error: event log: want one that explains")) == (
        4,
        True,
    )
    assert not (tmp_path / "no.toml").exists()


def test_a_log_that_proves_too_little(kluis: Kluis, tmp_path: Path) -> None:
    """If a log explains no register of firmware's, no rule uses it, and the draft states that."""
    key = ec.generate_private_key(ec.SECP256R1())
    loaded = log(event(9, EventType.IPL, b"a kernel"))
    held = {9: hashlib.sha256(bytes(32) + hashlib.sha256(b"a kernel").digest()).digest()}
    made = forge.Tpm(key, values={HashId.SHA256: held}, selections=(Selection.of(HashId.SHA256, 9),))
    (tmp_path / "quote.json").write_bytes(made.evidence())
    (tmp_path / "log.bin").write_bytes(loaded.encode())
    (tmp_path / "ak.pem").write_bytes(forge.pem(key))
    words = ("--root", tmp_path / "ak.pem", "--root-level", "vtpm", "--event-log", tmp_path / "log.bin")
    init = ("policy", "init", *words, "-o")
    plain = kluis(*init, tmp_path / "plain.toml", tmp_path / "quote.json")
    assert (plain.code, "no rule wants this log: no PCR of firmware's" in plain.err) == (0, True), plain.err


@pytest.mark.skipif(not _google(), reason="no quotes in a wrapper")
def test_a_log_that_the_wrapper_leaves_out(kluis: Kluis, tmp_path: Path) -> None:
    """A log for a wrapper without one is compared with the quote; no rule uses it, and that is stated."""
    case = next(case for case in _google() if "sha256" in case.folder.name)
    whole, held = case.file("original").read_bytes(), case.file("event_log").read_bytes()
    start = whole.index(held)
    (tmp_path / "bare.pb").write_bytes(whole[: start - 4] + whole[start + len(held) :])
    words = [tmp_path / "bare.pb", "--root", case.file("ak_pub"), "--root-level", "vtpm", "--now", SOME_TIME]
    said = kluis("policy", "init", *words, "--event-log", case.file("event_log"), "-o", tmp_path / "p.toml")
    assert (said.code, "no rule requires this log: the evidence was in a wrapper" in said.err) == (0, True)


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
        (
            (),
            "evidence: want a file, - for stdin, or --part NAME=FILE, and not both, got neither\n"
            "kluis: hint: name its file; kluis attest IMAGE -o FILE --nonce HEX makes some",
        ),
        (
            ("x", "--part", "a=b"),
            "evidence: want a file, - for stdin, or --part NAME=FILE, and not both, got both",
        ),
        (
            ("--part", "a"),
            "--part: want NAME=FILE, each name once, got 'a'\n"
            "kluis: hint: as --part tpm_quote=FILE --part tpm_signature=FILE --part pcrs=FILE",
        ),
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
