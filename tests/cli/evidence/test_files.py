"""Files in the wrong place, empty, or too old: each is told by name, with the command that mends it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kluis.formats.ietf import cmw
from tests.cli.quotes import FORGE, NOW, Kluis, appraising, ends
from tests.evidence.cca import forge as cca
from tests.evidence.forge import DEBUG, Forge
from tests.evidence.nvidia import forge as nvidia
from tests.evidence.tpm import forge as tpm
from tests.formats.snp import samples

EVIDENCE_FIRST = (
    "kluis: hint: pass only evidence here, its collateral in --collateral, the policy in --policy\n"
)
LATER = "2027-06-01T00:00:00Z"


def test_empty_files(kluis: Kluis, folder: Path) -> None:
    """Nothing is called nothing, whichever file it should have been."""
    empty, quote = folder / "empty", folder / "quote.bin"
    empty.touch()
    for words in (
        ("verify", empty),
        ("verify", "--part", f"tpm_quote={empty}"),
        ("verify", quote, "--collateral", empty),
        ("verify", quote, "--event-log", empty),
        ("appraise", quote, "--policy", empty),
    ):
        said = kluis(*words, "--now", NOW)
        assert (said.code, said.err) == (
            3,
            f"kluis: error: {empty}: is empty\n"
            "kluis: hint: transfer it again, and compare its size\n" + ends("truncated"),
        )


def test_evidence_and_policy_that_changed_places(kluis: Kluis, folder: Path) -> None:
    """Each hears what it is, and where it goes."""
    quote, policy = folder / "quote.bin", folder / "policy.toml"
    said = kluis("appraise", policy, "--policy", quote, "--now", NOW)
    want = f"kluis: error: {quote}: want a policy (TOML), got SGX quote v3\n"
    assert (said.code, said.err) == (3, want + EVIDENCE_FIRST + ends("bad_encoding"))
    bundle = folder / "quote.bin.collateral.json"
    said = kluis("appraise", quote, "--policy", bundle, "--now", NOW)
    want = f"kluis: error: {bundle}: want a policy (TOML), got Intel collateral\n"
    assert (said.code, said.err) == (3, want + EVIDENCE_FIRST + ends("bad_encoding"))
    said = kluis("verify", policy, "--now", NOW)
    assert (said.code, said.err) == (
        3,
        "kluis: error: evidence: is a policy\nkluis: hint: pass only the evidence as the argument,"
        " and the policy in --policy\n" + ends("bad_magic"),
    )


@pytest.mark.parametrize("before", ["", "// ours\n/* of\nall */ "])
def test_a_policy_of_azures(kluis: Kluis, folder: Path, before: str) -> None:
    """A policy in Azure Attestation's language is recognised, and goes to the service."""
    policy = folder / "azure.policy"
    policy.write_text(before + "version= 1.1;\nauthorizationrules { => permit(); };\nissuancerules {};\n")
    said = kluis("appraise", folder / "quote.bin", "--policy", policy, "--now", NOW)
    want = f"kluis: error: {policy}: want a policy of Kluis (TOML), got a policy of Azure Attestation\n"
    assert (said.code, said.err.startswith(want)) == (3, True)
    assert f"kluis policy lint {policy}" in said.err.replace("\n", " ")


def test_a_policy_that_is_not_there(kluis: Kluis, folder: Path) -> None:
    """The command that drafts one is told, with the name that was meant."""
    missing = folder / "my policy.toml"
    said = kluis("appraise", folder / "quote.bin", "--policy", missing)
    assert (said.code, said.err) == (
        2,
        f"kluis: error: {missing}: cannot be read: No such file or directory\n"
        f"kluis: hint: kluis policy init EVIDENCE -o '{missing}' drafts one\n" + ends("usage"),
    )


@pytest.mark.parametrize("name", ["quote.bin", "policy.toml"])
def test_what_endorses_nothing_is_named(kluis: Kluis, folder: Path, name: str) -> None:
    """A file in --collateral that is none is told by its name."""
    given = folder / name
    said = kluis("verify", folder / "quote.bin", "--collateral", given, "--now", NOW)
    assert (said.code, said.err) == (
        3,
        f"kluis: error: {given}: want a bundle, TCB info, an identity, certificates or a CRL, got none"
        f" of them\nkluis: hint: kluis inspect {given} shows what it is; the evidence itself is the"
        " first argument\n" + ends("bad_encoding"),
    )


def test_collateral_that_ran_out(kluis: Kluis, folder: Path) -> None:
    """An emulated platform prints its own; so does the option for evidence of long ago."""
    quote = folder / "quote.bin"
    said = kluis("verify", quote, "--root", folder / "root.pem", "--now", LATER)
    assert said.code == 5
    hint = (
        f"kluis: hint: kluis platform collateral -o {quote}.collateral.json, on the machine of the platform; "
        "evidence of long ago is judged as of its time with --now\n"
    )
    assert said.err.endswith(hint + ends("tcb_info_expired"))


def test_a_root_of_another_platform(kluis: Kluis, folder: Path) -> None:
    """Who named a root is not told to name one: the evidence is another platform's."""
    other = folder / "other.pem"
    other.write_bytes(Forge().authority.root_pem())
    said = kluis("verify", folder / "quote.bin", "--root", other, "--now", NOW)
    assert said.code == 4
    assert said.err.endswith(
        "kluis: hint: the evidence is of another platform than this root's; kluis inspect EVIDENCE shows "
        "the names in its chain, kluis platform root prints the root of a platform on its own machine\n"
        + ends("root_untrusted")
    )
    said = kluis("verify", folder / "quote.bin", "--now", NOW)
    assert "an emulated root is never trusted by default" in said.err


def test_collateral_of_evidence_in_parts(kluis: Kluis, folder: Path) -> None:
    """Evidence in parts has no file to stand beside: the command names its options."""
    words = ("verify", "--part", f"quote={folder / 'quote.bin'}", "--root", folder / "root.pem")
    fetch = "kluis collateral fetch -o FILE, with the same --part options, and --collateral FILE here; "
    said = kluis(*words, "--now", NOW)
    assert (said.code, said.err) == (
        7,
        "kluis: error: evidence: no collateral given\n"
        f"kluis: hint: {fetch}of an emulated platform, kluis platform collateral\n"
        + ends("collateral_missing"),
    )
    given = folder / "quote.bin.collateral.json"
    said = kluis(*words, "--collateral", given, "--now", LATER)
    assert said.code == 5
    assert f"kluis: hint: kluis platform collateral -o {given}, on the machine of the platform" in said.err


def test_parts_alone_and_by_other_names(kluis: Kluis, tmp_path: Path) -> None:
    """A part of evidence hears which parts it goes with, and parts by other names what they are called."""
    quoted = tpm.Tpm(tpm.rsa_key()).evidence()
    parts = {name: part.value for name, part in cmw.Collection.parse(quoted).parts.items()}
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    said = kluis("verify", tmp_path / "tpm_quote")
    assert "--part tpm_quote=FILE --part tpm_signature=FILE --part pcrs=FILE\n" in said.err
    said = kluis("verify", "--part", f"message={tmp_path / 'tpm_quote'}")
    assert "hint: parts have names: tpm_quote with tpm_signature and pcrs; " in said.err
    (tmp_path / "report").write_bytes(nvidia.Forge().report())
    said = kluis("verify", tmp_path / "report")
    assert "--part report=FILE --part cert_chain=FILE\n" in said.err


def test_a_key_that_no_service_publishes(kluis: Kluis, tmp_path: Path) -> None:
    """A CCA token without its platform's key is told how that is named, and not to fetch collateral."""
    (tmp_path / "token.cbor").write_bytes(cca.Forge().token())
    token = tmp_path / "token.cbor"
    for words in (("verify", token), ("collateral", "fetch", token, "--offline")):
        said = kluis(*words)
        assert "--root cpak.pem --root-level hardware-cca\n" in said.err
        assert "kluis collateral fetch" not in said.err


def test_no_draft_no_advice(kluis: Kluis, folder: Path) -> None:
    """Where nothing is drafted, nobody is told to read it."""
    (folder / "quote.bin").write_bytes(FORGE.quote(FORGE.body(flags=DEBUG)))
    words = ("--root", folder / "root.pem", "--now", NOW, "-o", folder / "new.toml")
    said = kluis("policy", "init", folder / "quote.bin", *words)
    assert (said.code, (folder / "new.toml").exists()) == (6, False)
    assert said.err.startswith("kluis: error: draft: ")


def test_a_verdict_names_what_it_is_about(kluis: Kluis, folder: Path) -> None:
    """Whoever files a verdict has the SHA-256 of the evidence, in hex or not, and on the page, too."""
    quote = (folder / "quote.bin").read_bytes()
    want = {"evidence": hashlib.sha256(quote).hexdigest()}
    (folder / "quote.hex").write_text(quote.hex(), encoding="ascii")
    collateral = ("--collateral", folder / "quote.bin.collateral.json", "--root", folder / "root.pem")
    for name in ("quote.bin", "quote.hex"):
        said = kluis("verify", folder / name, *collateral, "--now", NOW, "--json")
        assert json.loads(said.out)["sha256"] == want
    page = folder / "verdict.html"
    said = kluis(*appraising(folder, "--nonce", "00", "--html", page, "--json"))
    assert json.loads(said.out)["sha256"] == want
    assert want["evidence"] in page.read_text(encoding="utf-8")


def test_parts_have_a_digest_each(kluis: Kluis, tmp_path: Path) -> None:
    """Of evidence in parts, and its log, each file is named by its own."""
    made = tpm.Tpm(tpm.rsa_key())
    words = []
    want = {}
    for name, part in cmw.Collection.parse(made.evidence()).parts.items():
        (tmp_path / name).write_bytes(part.value)
        words += ["--part", f"{name}={tmp_path / name}"]
        want[name] = hashlib.sha256(part.value).hexdigest()
    (tmp_path / "ak.pem").write_bytes(tpm.pem(made.key))
    said = kluis("verify", *words, "--root", tmp_path / "ak.pem", "--root-level", "vtpm", "--json")
    assert json.loads(said.out)["sha256"] == want


@pytest.mark.parametrize("parts", [True, False])
def test_where_a_chips_certificate_is(kluis: Kluis, tmp_path: Path, parts: bool) -> None:
    """Whoever has no network here is told the address, beside the command."""
    (tmp_path / "report.bin").write_bytes(samples.make().encode())
    given = ["--part", f"hcl={tmp_path / 'report.bin'}"] if parts else [tmp_path / "report.bin"]
    said = kluis("verify", *given)
    assert (said.code, "; its certificate is https://kdsintf.amd.com/vcek/v1/" in said.err) == (7, True)
