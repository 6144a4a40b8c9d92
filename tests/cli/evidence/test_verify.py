"""``kluis verify``, ``appraise``, ``policy``: one check a line, the verdict, the exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from kluis.appraisal import ByImage, appraise, loads
from kluis.appraisal.draft import draft
from kluis.cli.evidence import text as evidence_text
from kluis.evidence import ProtectionLevel, TcbStatus, Tee
from kluis.evidence.levels import MEANINGS
from kluis.evidence.verified import mint
from kluis.formats.kluis.runtime_data import Purpose
from kluis.tee.image.archive import read_image
from tests.appraisal.policy.test_reference import TOML
from tests.appraisal.samples import NOW as WHEN
from tests.appraisal.samples import SAMPLES, changed
from tests.authority.amd.chips import GUEST, launch
from tests.cli.quotes import ANCHOR, FORGE, NOW, Kluis, Said, appraising, ends, write_policy
from tests.evidence.forge import DEBUG, IMAGE, NONCE
from tests.evidence.machine import BOOT, MachineForge
from tests.evidence.test_sniff import GOOD as NO_EVIDENCE
from tests.formats.wrappers.test_eat import jwt, unsigned, url
from tests.tee.image import samples


def test_verify(kluis: Kluis, folder: Path) -> None:
    """Verification under a named root prints what is authentic, that nothing was appraised, and the level."""
    said = kluis("verify", folder / "quote.bin", "--root", folder / "root.pem", "--now", NOW)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == f"ok    authentic             SGX quote v3, signed under {ANCHOR}"
    assert lines[2] == "ok    tcb                   UpToDate"
    assert lines[3] == f"ok    measurement           sha256 {IMAGE.hex()}"
    assert "authentic, and not appraised" in lines
    meaning = MEANINGS[ProtectionLevel.PROCESS]
    assert lines[-1 - len(meaning.lets_in) :] == [
        "not kept out:",
        *(f"  - {item}" for item in meaning.lets_in),
    ]


def test_verify_json(kluis: Kluis, folder: Path) -> None:
    """The same as JSON, for machines."""
    said = kluis("verify", folder / "quote.bin", "--root", folder / "root.pem", "--now", NOW, "--json")
    value = json.loads(said.out)
    assert (value["authentic"], value["appraised"]) == (True, False)
    assert value["claims"]["measurement"] == f"sha256:{IMAGE.hex()}"
    assert value["claims"]["tcb"]["status"] == "UpToDate"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("IMA log", "give the quote of the register that it explains"),
        ("IMA text log", "give the quote of the register that it explains"),
        ("TDREPORT", "only the processor that created it can check it: pass a quote instead"),
        ("Intel TCB info", "kluis inspect shows its content; collateral goes in --collateral"),
        ("TPM public area", "kluis inspect shows its content; collateral goes in --collateral"),
    ],
)
def test_verify_what_is_no_evidence(kluis: Kluis, folder: Path, name: str, hint: str) -> None:
    """A known file type that is not evidence is refused, with its name and a hint what to do with it."""
    (folder / "given").write_bytes(NO_EVIDENCE[name])
    said = kluis("verify", folder / "given", "--now", NOW)
    assert said.code == 3
    assert said.err == (
        f"kluis: error: evidence: is of kind {name!a}, which proves nothing by itself\nkluis: hint:"
        f" {hint}\n" + ends("bad_magic")
    )


def test_verify_enveloped(kluis: Kluis, folder: Path) -> None:
    """An EAT is verified by the evidence in it, in CBOR and as a JSON token; a bare one is refused."""
    quote, options = (folder / "quote.bin").read_bytes(), ("--root", folder / "root.pem", "--now", NOW)
    collateral = (folder / "quote.bin.collateral.json").read_bytes()
    (folder / "collateral.json").write_bytes(collateral)
    for data, name in (
        (jwt({"measurements": [[42, url(quote)]]}) + b"\n", "EAT (JWT)"),
        (unsigned({273: [[42, quote]]}), "EAT (UCCS)"),
        (unsigned({299: [42, quote]}), "CMW record in EAT (UCCS)"),
    ):
        (folder / "eat").write_bytes(data)
        said = kluis("verify", folder / "eat", *options, "--collateral", folder / "collateral.json")
        assert said.code == 0
        assert f"ok    came in               {name}" in said.out.splitlines()
    (folder / "eat").write_bytes(unsigned({10: NONCE}))
    said = kluis("verify", folder / "eat", *options)
    assert (said.code, said.out) == (4, "")
    assert said.err.endswith(ends("no_evidence"))


def test_verify_trusts_no_emulated_root_by_default(kluis: Kluis, folder: Path) -> None:
    """Without a named root, an emulated quote is not authentic, even with its root in the folder."""
    said = kluis("verify", folder / "quote.bin", "--now", NOW)
    assert (said.code, said.out) == (4, "")
    assert said.err.endswith(
        "got another key named 'Kluis emulated SGX Root CA (no hardware)'\n"
        "kluis: hint: trust its root by --root or kluis trust add; an emulated root is never trusted by"
        " default\n" + ends("root_untrusted")
    )


def test_verify_debug_and_out_of_date(kluis: Kluis, tmp_path: Path) -> None:
    """A debug quote of an old platform is authentic, and is shown as what it is."""
    (tmp_path / "q").write_bytes(FORGE.quote(FORGE.body(flags=DEBUG)))
    (tmp_path / "root.pem").write_bytes(FORGE.authority.root_pem())
    old = FORGE.with_tcb_info(
        lambda d: d["tcbLevels"][0].update(tcbStatus="OutOfDate", advisoryIDs=["KLUIS-1"])
    )
    (tmp_path / "c.json").write_bytes(old.to_json())
    said = kluis(
        "verify",
        tmp_path / "q",
        "--root",
        tmp_path / "root.pem",
        "--collateral",
        tmp_path / "c.json",
        "--now",
        NOW,
    )
    assert said.code == 0
    assert "note  tcb                   OutOfDate: KLUIS-1\n" in said.out
    assert "note  debug                 on: open to its host\n" in said.out
    assert "protection none: " in said.out


def test_verify_without_collateral(kluis: Kluis, folder: Path) -> None:
    """Without collateral nothing can be decided: exit 7, and the hint shows how to get it."""
    (folder / "quote.bin.collateral.json").unlink()
    said = kluis("verify", folder / "quote.bin", "--root", folder / "root.pem")
    quote = folder / "quote.bin"
    assert said == Said(
        7,
        "",
        f"kluis: error: {quote}: no collateral given, and no file next to it\nkluis: hint: kluis"
        f" collateral fetch {quote} -o {quote}.collateral.json; of an emulated platform, kluis"
        " platform collateral\n" + ends("collateral_missing"),
    )


def test_verify_later(kluis: Kluis, folder: Path) -> None:
    """Collateral that has run out is stale: exit 5."""
    said = kluis(
        "verify", folder / "quote.bin", "--root", folder / "root.pem", "--now", "2027-01-01T00:00:00Z"
    )
    assert (said.code, said.out) == (5, "")
    assert said.err.startswith("kluis: error: TCB info expired on 2026-07-01T11:55:00Z, judged at 2027-01-01")


def testappraising(kluis: Kluis, folder: Path) -> None:
    """Evidence that meets its policy: every check a line, the tier, the level, exit 0."""
    said = kluis(*appraising(folder, "--nonce", NONCE.hex()))
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0] == f"ok    authentic             SGX quote v3, signed under {ANCHOR}"
    assert "ok    debug                 off" in lines
    assert "ok    nonce                 9f02aa77..aa77" in lines
    assert "ok    runtime_data          " in said.out
    assert "tier  affirming (20 rules met); protection process, emulated: no hardware" in lines
    assert lines[-4] == "not kept out:"
    assert not any(line.startswith("FAIL") for line in lines)


def test_appraise_a_replay(kluis: Kluis, folder: Path) -> None:
    """Evidence over another nonce is stale: exit 5, with want, got and fix."""
    said = kluis(*appraising(folder, "--nonce", "0102"))
    assert said.code == 5
    assert "FAIL  nonce                 want 0102, got 9f02aa77..aa77\n" in said.out
    assert "                            fix: ask for new evidence over your own nonce\n" in said.out
    assert (
        "tier  contraindicated (1 of 20 rules failed); protection process, emulated: no hardware\n"
        in said.out
    )
    assert "      kluis verify --json shows whole what is cut short here\n" in said.out


def test_appraise_what_policy_refuses(kluis: Kluis, folder: Path) -> None:
    """Evidence of a debug enclave is refused by policy: exit 6, and the JSON has each rule."""
    (folder / "quote.bin").write_bytes(FORGE.quote(FORGE.body(flags=DEBUG)))
    said = kluis(*appraising(folder, "--nonce", NONCE.hex(), "--json"))
    value = json.loads(said.out)
    failed = {rule["name"]: (rule["want"], rule["got"]) for rule in value["rules"] if not rule["ok"]}
    assert said.code == 6
    assert value["verdict"] == "contraindicated"
    assert failed == {"protection": ("process", "none"), "debug": ("off", "on")}
    assert value["warnings"] == ["a debug enclave keeps nothing from its host"]
    assert value["not_kept_out"] == list(MEANINGS[ProtectionLevel.NONE].lets_in)


def test_appraise_with_warnings(kluis: Kluis, folder: Path) -> None:
    """Accepted findings that a reader should know are printed as notes."""
    policy = folder / "policy.toml"
    text = policy.read_text(encoding="utf-8").replace('["UpToDate"]', '["UpToDate", "OutOfDate"]')
    policy.write_text(text, encoding="utf-8")
    old = FORGE.with_tcb_info(lambda d: d["tcbLevels"][0].update(tcbStatus="OutOfDate"))
    (folder / "quote.bin.collateral.json").write_bytes(old.to_json())
    said = kluis(*appraising(folder, "--nonce", NONCE.hex()))
    assert said.code == 0
    assert (
        "note  the platform is OutOfDate: no advisory named\ntier  warning (20 rules met); protection "
        in said.out
    )


def test_appraise_without_documents(kluis: Kluis, folder: Path) -> None:
    """Without its documents, the quote proves nothing about purpose, nonce or launch."""
    for name in ("runtime", "launch"):
        (folder / f"quote.bin.{name}.json").rename(folder / f"{name}.json")
    said = kluis(*appraising(folder, "--json"))
    value = json.loads(said.out)
    assert said.code == 6
    assert (value["runtime_data"], value["launch"]) == (None, None)
    given = ("--runtime", folder / "runtime.json", "--launch", folder / "launch.json", "--nonce", NONCE.hex())
    assert kluis(*appraising(folder, *given)).code == 0


def test_appraise_trusts_the_policys_roots_alone(kluis: Kluis, folder: Path) -> None:
    """A root that neither the policy nor --root names is not trusted."""
    write_policy(folder / "policy.toml", roots=())
    assert kluis(*appraising(folder, "--nonce", NONCE.hex())).code == 4
    assert kluis(*appraising(folder, "--nonce", NONCE.hex(), "--root", folder / "root.pem")).code == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--nonce", "xy"), "--nonce: want hex, got 'xy'"),
        (
            ("--nonce", "9f02aa7"),
            "--nonce: want two hex digits a byte, got 7 digits: '9f02aa7'\n"
            "kluis: hint: a digit is missing, or the first byte's zero: --nonce 09f02aa7",
        ),
        (("--now", "today"), "--now: want a time like 2026-01-31T00:00:00Z, got 'today'"),
        (("--now", "2026-01-01"), "--now: want a time like 2026-01-31T00:00:00Z, got '2026-01-01'"),
        *(
            (("--now", when), f"--now: want a time like 2026-01-31T00:00:00Z, got '{when}'")
            for when in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z")
        ),
    ],
)
def test_bad_arguments(kluis: Kluis, folder: Path, argv: tuple[str, ...], message: str) -> None:
    """Arguments that mean nothing are a usage error: exit 2."""
    assert kluis(*appraising(folder, *argv)) == Said(2, "", f"kluis: error: {message}\n" + ends("usage"))


def test_hex_as_other_tools_print_it(kluis: Kluis, folder: Path) -> None:
    """A quote in hex with colons, and a nonce too, are read as without; marks at random are no hex."""
    quote = folder / "quote.bin"
    lines = [quote.read_bytes()[at : at + 16].hex(":") for at in range(0, quote.stat().st_size, 16)]
    quote.write_text("    " + ":\n    ".join(lines) + "\n")
    assert kluis(*appraising(folder, "--nonce", NONCE.hex(":"))).code == 0
    assert kluis(*appraising(folder, "--nonce", NONCE.hex(" "))).code == 0
    said = kluis(*appraising(folder, "--nonce", ":" + NONCE.hex(":")))
    assert (said.code, "--nonce: want hex, got ':" in said.err) == (2, True)


def test_what_is_no_policy_and_no_root(kluis: Kluis, folder: Path) -> None:
    """The error for a policy that is not TOML has a fix, and for a file that is not a root it names the right
    one.
    """
    (folder / "bad.toml").write_text("version = [\n")
    said = kluis("appraise", folder / "quote.bin", "--policy", folder / "bad.toml")
    assert (said.code, "policy: is not TOML: " in said.err) == (3, True)
    assert (
        "\nkluis: hint: fix it at the named position; kluis policy init writes a complete policy" in said.err
    )
    (folder / "large.toml").write_bytes(b"#" * 300_000)
    said = kluis("appraise", folder / "quote.bin", "--policy", folder / "large.toml")
    assert "fix it at" not in said.err
    said = kluis("verify", folder / "quote.bin", "--root", folder / "bad.toml")
    assert said.err.startswith(f"kluis: error: {folder / 'bad.toml'}: root certificate")
    assert (
        "kluis: hint: a root is one certificate in PEM; of this machine's platform: kluis platform root\n"
        in (said.err)
    )


def test_missing_file(kluis: Kluis, folder: Path) -> None:
    """A file that is not there is a usage error that names it."""
    said = kluis("verify", folder / "gone")
    assert said == Said(
        2, "", f"kluis: error: {folder / 'gone'}: cannot be read: No such file or directory\n" + ends("usage")
    )


def test_folder(kluis: Kluis, folder: Path) -> None:
    """For a folder of a vendor's documents the hint shows how to give its files."""
    said = kluis("verify", folder / "quote.bin", "--collateral", folder)
    assert said.code == 2
    assert said.err.startswith(f"kluis: error: {folder}: cannot be read: Is a directory\n")
    assert "kluis collateral bundle combines" in said.err.replace("\n  ", " ")


def test_large_file(kluis: Kluis, tmp_path: Path) -> None:
    """A file without end is not read without end."""
    for name, hint in (
        ("large", "pass only the document; the message states the size limit"),
        ("an.kluis", "an image is no evidence: kluis attest FILE -o QUOTE --nonce HEX makes some of one"),
    ):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate((16 << 20) + 1)
        said = f"kluis: error: {path}: is more than 16777216 bytes\nkluis: hint: {hint}\n"
        assert kluis("verify", path) == Said(3, "", said + ends("too_large"))


def test_policy_init(kluis: Kluis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that is begun is strict, loads, finds its root from its folder, and is not written over."""
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("policies/p.toml")
    init = (
        "policy",
        "init",
        "-o",
        path,
        "--image-id",
        IMAGE.hex(),
        "--protection",
        "process",
        "--root",
        "root.pem",
    )
    assert kluis(*init) == Said(0, f"written: {path}\n", "")
    made = loads(path.read_bytes())
    assert made.identity == ByImage(image_ids=frozenset({IMAGE}))
    assert (made.protection, made.emulated_roots) == ({ProtectionLevel.PROCESS}, ("../root.pem",))
    again = kluis(*init)
    assert again == Said(
        2,
        "",
        f"kluis: error: {path}: exists already\nkluis: hint: name another file, or remove it first\n"
        + ends("usage"),
    )


def test_policy_init_by_signer(kluis: Kluis, tmp_path: Path) -> None:
    """By signer, the policy names hardware by default."""
    path = tmp_path / "p.toml"
    said = kluis("policy", "init", "-o", path, "--signer", "ab" * 32, "--product-id", 7, "--min-svn", 3)
    assert said.code == 0
    text = path.read_text(encoding="utf-8")
    assert 'protection = ["hardware-sgx"]' in text
    assert "product_id = 7\nmin_svn = 3\n" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (),
            "policy init: want evidence, or --image, --image-id or --signer, of one kind, got"
            " 0\nkluis: hint: kluis policy init EVIDENCE -o FILE drafts one from all its values",
        ),
        (
            ("--image-id", "ab" * 32, "--signer", "ab" * 32),
            "policy init: want evidence, or --image, --image-id or --signer, of one kind, got 2",
        ),
        (
            ("--image-id", "ab" * 32, "--event-log", "log.bin"),
            "--event-log: want the evidence whose registers it explains, got none",
        ),
        (
            ("--image-id", "ab" * 32, "--collateral", "collateral.json"),
            "--collateral: want the evidence that it endorses, got none",
        ),
        (
            ("--image-id", "ab" * 32, "--this-machine"),
            "--this-machine: want the evidence of that machine, got none",
        ),
        (
            ("--image-id", "ab" * 32, "--root-level", "vtpm"),
            "--root-level: want the evidence under that root, got none",
        ),
        (
            ("--image-id", "ab" * 32, "--product-id", "7"),
            "--product-id: want the --signer whose number it is, got none",
        ),
        (
            ("evidence.bin", "--min-svn", "3"),
            "--min-svn: want the --signer whose versions it is one of, got none",
        ),
        (("--image-id", "ab"), "policy.identity.image_ids: want 32 bytes, got 1"),
        (
            ("--image-id", "ab" * 32, "--protection", "none"),
            f"--protection: want one of {', '.join(list(ProtectionLevel)[1:])}, got 'none'",
        ),
        (
            ("--image-id", "ab" * 32, "--purpose", "all"),
            f"--purpose: want one of {', '.join(Purpose)}, got 'all'",
        ),
    ],
)
def test_policy_init_refuses(kluis: Kluis, tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    """A policy that would accept nothing, or everything, is not begun."""
    said = kluis("policy", "init", "-o", tmp_path / "p.toml", *argv)
    assert (said.code, said.err) == (2, f"kluis: error: {message}\n" + ends("usage"))
    assert not list(tmp_path.iterdir())


def test_policy_init_of_a_platform_behind(kluis: Kluis, folder: Path) -> None:
    """A draft from a platform that is not up to date warns that the policy accepts that."""
    behind = FORGE.with_tcb_info(
        lambda d: d["tcbLevels"][0].update(tcbStatus="OutOfDate", advisoryIDs=["KLUIS-1"])
    )
    (folder / "behind.json").write_bytes(behind.to_json())
    policy, under = folder / "drafted.toml", ("--root", folder / "root.pem", "--now", NOW)
    given = (folder / "quote.bin", "--collateral", folder / "behind.json")
    said = kluis("policy", "init", *given, "-o", policy, *under)
    assert said.code == 0
    assert "this platform is OutOfDate, and the policy accepts that, with 1 advisory\n" in said.err
    assert loads(policy.read_bytes()).tcb_statuses == {TcbStatus.OUT_OF_DATE}


def test_policy_init_from_evidence(kluis: Kluis, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy drafted from evidence affirms it, and finds from its own folder the root that was named."""
    (folder / "policies").mkdir()
    monkeypatch.chdir(folder)
    policy = Path("policies/drafted.toml")
    said = kluis("policy", "init", "quote.bin", "-o", policy, "--root", "root.pem", "--now", NOW)
    assert (said.code, said.out) == (0, f"written: {policy}\n")
    assert "read the policy before you use it" in said.err
    assert "this platform is" not in said.err
    assert loads(policy.read_bytes()).emulated_roots == ("../root.pem",)
    given = kluis("appraise", "quote.bin", "--policy", policy, "--now", NOW, "--nonce", NONCE.hex())
    assert given.code == 0, given.out
    refused = kluis("policy", "init", "quote.bin", "-o", "p", "--root", "root.pem", "--protection", "process")
    assert (refused.code, refused.out) == (2, "")


def test_an_enclave_in_a_machine(kluis: Kluis, folder: Path) -> None:
    """Evidence of both layers is printed whole; its draft has the machine's table, which a refusal names."""
    machine = MachineForge(inside=FORGE)
    configuration = machine.configuration(missing=("swap",), only=IMAGE, release="1.0")
    beside = folder / "quote.bin.collateral.json"
    beside.write_bytes(machine.collateral(machine.endorsement(configuration)).to_json())
    (folder / "ark.pem").write_bytes(machine.processor.root_pem())
    said = kluis("verify", folder / "quote.bin", "--root", folder / "ark.pem", "--now", NOW)
    assert said.code == 0
    assert "SGX quote v3 in a machine with SNP report v3, signed under Kluis emulated ARK" in said.out
    for line in (
        f"machine               snp, SNP report v3, boot {BOOT.hex()}",
        f"machine measurement   sha384 {GUEST.hex()}",
        f"machine runs          only image {IMAGE.hex()}",
        "machine guest         1.0",
        "machine without       swap",
    ):
        assert f"ok    {line}\n" in said.out
    as_json = kluis("verify", folder / "quote.bin", "--root", folder / "ark.pem", "--now", NOW, "--json")
    found = json.loads(as_json.out)["claims"]["machine"]
    assert (found["only"], found["claims"]["measurement"]) == (IMAGE.hex(), f"sha384:{GUEST.hex()}")
    policy = folder / "drafted.toml"
    drafted = kluis(
        "policy", "init", folder / "quote.bin", "-o", policy, "--root", folder / "ark.pem", "--now", NOW
    )
    assert drafted.code == 0
    judging = ("appraise", folder / "quote.bin", "--policy", policy, "--now", NOW, "--nonce", NONCE.hex())
    assert kluis(*judging).code == 0
    machine.launch = launch(measurement=b"\xc3" * 48)
    beside.write_bytes(machine.collateral(machine.endorsement(configuration)).to_json())
    refused = kluis(*judging)
    assert refused.code == 6
    assert "machine_measurement" in refused.out
    assert "a1a1a1a1..a1a1" in refused.out
    explained = kluis("explain", "machine_measurement")
    assert explained.code == 0
    assert (
        "in the machine around the enclave: the code is not the code that the policy names" in explained.out
    )


def test_policy_init_by_image(kluis: Kluis, tmp_path: Path) -> None:
    """An image's file is as good as its id."""
    data = samples.image()
    (tmp_path / "a.kluis").write_bytes(data)
    said = kluis("policy", "init", "-o", tmp_path / "p.toml", "--image", tmp_path / "a.kluis")
    assert said.code == 0
    identity = loads((tmp_path / "p.toml").read_bytes()).identity
    assert identity == ByImage(image_ids=frozenset({read_image(io.BytesIO(data)).image_id}))
    gone = kluis("policy", "init", "-o", tmp_path / "q.toml", "--image", tmp_path / "gone")
    message = f"kluis: error: {tmp_path / 'gone'}: cannot be read: No such file or directory\n" + ends(
        "usage"
    )
    assert gone == Said(2, "", message)


IDLE = {
    "nonce": ("--nonce", "0102", "freshness.nonce = true, or"),
    "report data": ("--report-data", "00" * 64, 'binding.report_data = "given"'),
    "runtime": ("--runtime", "quote.bin.runtime.json", "binding.purpose"),
    "launch": ("--launch", "quote.bin.launch.json", "binding.purpose"),
    "reference": ("--reference", "release.toml", 'measurements = "reference"'),
}


@pytest.mark.parametrize("name", IDLE)
def test_what_the_policy_does_not_ask_for(kluis: Kluis, folder: Path, name: str) -> None:
    """What a relying party gives to be judged, and its policy does not, is refused and not passed over."""
    option, value, mend = IDLE[name]
    (folder / "release.toml").write_text(TOML, encoding="utf-8")
    words = ("--root", folder / "root.pem", "--now", NOW)
    assert kluis("policy", "init", folder / "quote.bin", *words, "-o", folder / "own.toml").code == 0
    text = (folder / "own.toml").read_text(encoding="utf-8")
    bound = text.index("[binding]")
    foreign = text[:bound].replace("nonce = true", "nonce = false") + '[binding]\nreport_data = "any"\n'
    (folder / "own.toml").write_text(foreign, encoding="utf-8")
    judged = ("appraise", folder / "quote.bin", "--policy", folder / "own.toml", *words)
    assert kluis(*judged).code == 0
    said = kluis(*judged, option, folder / value if (folder / value).exists() else value)
    assert said.code == 2
    assert f"{option}: want a policy with a rule for it" in said.err
    assert mend in said.err


def test_standard_input_is_read_once(kluis: Kluis, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input named twice is not read as an empty file the second time."""
    for name, words in (
        ("quote.bin", ("--part", "a=-", "--part", "b=-")),
        ("root.pem", ("-", "--root", "-")),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / name).read_bytes())))
        said = kluis("verify", *words, "--now", NOW)
        assert (said.code, "it can be read once" in said.err) == (2, True)


def test_a_policy_is_written_anew(kluis: Kluis, folder: Path) -> None:
    """A draft is written through no link, one that leads nowhere included."""
    (folder / "link.toml").symlink_to(folder / "elsewhere.toml")
    words = (folder / "quote.bin", "--root", folder / "root.pem", "--now", NOW)
    said = kluis("policy", "init", *words, "-o", folder / "link.toml")
    assert (said.code, "exists already" in said.err) == (2, True)
    assert not (folder / "elsewhere.toml").exists()


def test_evidence_begins_no_lines_of_ours() -> None:
    """Text from evidence stays on its one line, in a verdict and without one."""
    forged = "a VM\nok    debug                 off\ntier  affirming (20 rules met)"
    claims = changed(SAMPLES[Tee.AZURE], vm_id=forged, kind=forged)
    given = {"nonce": b"\7" * 32, "runtime_data": None, "launch_configuration": None}
    result = appraise(mint(claims), draft(mint(SAMPLES[Tee.AZURE])), **given, now=WHEN)
    lines = list(evidence_text.result_lines(result))
    assert all(line.isprintable() for line in [*lines, *evidence_text.authentic(claims)])
    assert f"ok    {'vm':<21} {forged.replace(chr(10), '?')} (any is accepted)" in lines


def test_written(kluis: Kluis, folder: Path) -> None:
    """--html writes the page, whatever the verdict."""
    page = folder / "verdict.html"
    assert kluis(*appraising(folder, "--nonce", "0102", "--html", page)).code == 5
    assert "Contraindicated" in page.read_text(encoding="utf-8")
