"""``kluis ledger`` on files: sample, verify, show, receipt, tail."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kluis.formats.encoding import b64
from kluis.hashes import sha256
from kluis.ledger import certificates, claims, receipts
from kluis.ledger import claims as application_claims
from kluis.ledger.merkle import Tree
from kluis.ledger.sample.parties import Parties
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import Signer
from kluis.serve.ledger.log import LedgerLog
from tests.cli.quotes import Kluis
from tests.formats.ccf import real
from tests.ledger import making
from tests.ledger.audit.forge import NOW
from tests.serve.ledger.batches import Writer

MAIN = "from kluis.cli.main import main; main()"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample, made once."""
    from kluis.cli.main import run

    folder = tmp_path_factory.mktemp("ledger") / "sample"
    assert run(["ledger", "sample", "--entries", "60", "--out", str(folder)]) == 0
    return folder


def test_sample(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """Chunks, the certificate, the secrets and two receipts; a folder with files is not changed."""
    names = {path.name for path in made.iterdir()}
    assert {"service_cert.pem", "secrets.txt", "receipt.json", "receipt.cose"} < names
    assert len([name for name in names if name.startswith("ledger_")]) >= 3
    said = kluis("ledger", "sample", "--out", made)
    assert said.code == 2
    assert f"{made}: want a new or empty folder, got one with files" in said.err
    assert kluis("ledger", "sample", "--entries", "5", "--out", tmp_path / "x").code == 2
    assert not (tmp_path / "x").exists()


def test_verify(made: Path, kluis: Kluis) -> None:
    """Every check that holds has its line, next to notes; with a pin, receipts and secrets there are more."""
    said = kluis(
        "ledger", "verify", made, "--service-cert", made / "service_cert.pem",
        "--secrets", made / "secrets.txt",
        *(word for name in ("receipt.json", "receipt.cose") for word in ("--expect-at-least", made / name)),
        "--expect-at-least", "2.60",
    )  # fmt: skip
    assert said.code == 0
    lines = said.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "note"}
    assert "ok    receipts            all that is expected is in the ledger" in lines
    assert "ok    identity            the service is the pinned one" in lines
    assert any("private             60 entries opened" in line for line in lines)
    assert any("verified until 2.60" in line for line in lines)
    assert any("leave no trace in a ledger: --expect-at-least finds them" in line for line in lines)
    held = [line.split()[1] for line in lines if line.startswith("ok")]
    assert len(held) == len(set(held))
    value = json.loads(kluis("ledger", "verify", made, "--json", "--level", "full").out)
    assert (value["ok"], value["entries"], value["verified_until"]) == (True, 60, "2.60")
    assert kluis("ledger", "verify", made, "--level", "x").code == 2


def test_collateral_wants_a_root(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """Without one no evidence is judged, so that the command does not run as if it were."""
    for name in (tmp_path / "none", made / "receipt.json"):
        said = kluis("ledger", "verify", made, "--collateral", name)
        assert (said.code, said.out) == (2, "")
        assert "error: --collateral: want --root too: only with both" in said.err
        assert "hint: --root names who signed it" in said.err


def test_copies_of_other_nodes(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """The same ledger agrees; another one is a fork from its first entry on."""
    said = kluis("ledger", "verify", made, "--copy", made)
    assert said.code == 0
    assert (
        "ok    copies              1, each with the same entries as far as it goes" in said.out.splitlines()
    )
    other = tmp_path / "other"
    assert kluis("ledger", "sample", "--entries", "60", "--out", other).code == 0
    said = kluis("ledger", "verify", made, "--copy", other)
    assert said.code == 4
    (failure,) = [line for line in said.out.splitlines() if line.startswith("FAIL")]
    assert failure.startswith(f"FAIL  copies              {other}: forked at entry 1: here entry ")


def test_lines_fit_a_terminal(made: Path, kluis: Kluis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 columns: lines are folded between words, and only a word that is longer is not."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    service = ("--service-cert", made / "service_cert.pem")
    commands = (
        ("verify", made), ("show", made), ("show", made, "2.1"), ("receipt", made / "receipt.json", *service)
    )  # fmt: skip
    for command in commands:
        piped = kluis("ledger", *command).out
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout.isatty", lambda: True)
            shown = kluis("ledger", *command).out
        assert shown.split() == piped.split()
        assert all(len(line) <= 80 or len(line.split()) == 1 for line in shown.splitlines()), shown
        assert max(map(len, piped.splitlines())) > 80


def test_a_changed_ledger(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """A failure names its file, entry and check, and ends with the code of what is wrong."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    chunk = sorted(folder.glob("ledger_11-*"))[0]
    data = bytearray(chunk.read_bytes())
    data[60] ^= 1
    chunk.write_bytes(data)
    said = kluis("ledger", "verify", folder)
    (failure,) = [line for line in said.out.splitlines() if line.startswith("FAIL")]
    assert said.code == 3 or said.code == 4
    assert chunk.name in failure
    chunk.write_bytes(made.joinpath(chunk.name).read_bytes()[:-1])
    said = kluis("ledger", "verify", folder)
    assert said.code == 3
    chunk.unlink()
    said = kluis("ledger", "verify", folder)
    assert said.code == 4
    assert "want a file from entry 11 on" in said.out


def test_a_dropped_suffix(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """The last file gone is not seen, and said to be so; an id that must be there shows it."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    max(folder.glob("ledger_*"), key=lambda path: int(path.name.split("_")[1].split("-")[0])).unlink()
    assert kluis("ledger", "verify", folder).code == 0
    assert kluis("ledger", "verify", folder, "2.60").code == 2
    both = kluis("ledger", "verify", folder, "--expect-at-least", "2.1", "2.60")
    said = kluis("ledger", "verify", folder, "--expect-at-least", "2.60")
    assert (both.code, said.code) == (4, 4)
    assert [line for line in both.out.splitlines() if line.startswith("FAIL")] == [
        line for line in said.out.splitlines() if line.startswith("FAIL")
    ]
    (failure,) = [line for line in said.out.splitlines() if line.startswith("FAIL")]
    assert failure.startswith("FAIL  receipts            2.60: want entry 2.60, got a ledger that ends")
    assert "ledger_" not in failure  # it is in no file


def test_another_service(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """Under another certificate neither the ledger nor a receipt counts."""
    other = tmp_path / "other.pem"
    other.write_text(certificates.service_certificate(making.key(1), NOW))
    assert kluis("ledger", "verify", made, "--service-cert", other).code == 4
    for name in ("receipt.json", "receipt.cose"):
        said = kluis("ledger", "receipt", made / name, "--service-cert", other)
        assert said.code == 4
        assert said.err.startswith(f"kluis: error: {name}: receipt")
        said = kluis("ledger", "receipt", made / name, "--service-cert", made / "service_cert.pem")
        assert said.code == 0
        assert said.out.startswith("authentic: entry 2.11 under root ")
    words = ("ledger", "receipt", made / "receipt.cose", "--service-cert", made / "service_cert.pem")
    assert kluis(*words, "--claims-digest", "aa" * 32).code == 4
    assert kluis(*words, "--claims-digest", "aa").code == 2
    assert kluis("ledger", "receipt", other, "--service-cert", other).code == 3


@real.needed
def test_claims(kluis: Kluis, tmp_path: Path) -> None:
    """Claims that a receipt is not of are refused."""
    folder = real.CCF / "poc_dual" / "out"
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps([{"kind": "ClaimDigest", "digest": {"protocol": "P", "value": "ab" * 32}}]))
    words = ("ledger", "receipt", folder / "receipt.json", "--service-cert", folder / "service_cert.pem")
    digest = (folder / "claims.hex").read_text()
    assert kluis(*words, "--claims-digest", digest).code == 0
    assert kluis(*words, "--claims", claims).code == 4
    assert kluis(*words, "--claims", claims, "--claims-digest", digest).code == 2


def with_claims(folder: Path, contents: str) -> Path:
    """A receipt as Azure Confidential Ledger answers it, with its claims, and its service's certificate."""
    parties = Parties.make(NOW)
    signer = Signer(parties.node_key, parties.node, parties.service_key)
    grown, secrets = Tree(), Secrets([LedgerSecret(bytes(32), 1)])
    sequencer = Sequencer(view=2, tree=grown, secrets=secrets, signer=signer, clock=lambda: 0)
    key = bytes(range(32))
    digest = claims.entry_digest("subledger:0", contents, key)
    sequencer.add({"app": {b"k": b"v"}}, claims.claims_digest([(claims.LEDGER_ENTRY, digest)]))
    batch = sequencer.seal()
    assert batch.signed.node is not None
    made = receipts.make(grown, batch.txids[0], batch.components[0], batch.signed.node, parties.node)
    entry = {
        "collectionId": "subledger:0",
        "contents": contents,
        "protocol": claims.LEDGER_ENTRY,
        "secretKey": b64.encode(key),
    }
    body = {"applicationClaims": [{"kind": "LedgerEntry", "ledgerEntry": entry}], "receipt": made.to_azure()}
    (folder / "receipt.json").write_text(json.dumps(body))
    (folder / "service_cert.pem").write_text(parties.service)
    return folder / "receipt.json"


def test_claims_next_to_a_receipt(made: Path, kluis: Kluis, tmp_path: Path) -> None:
    """They are verified and shown; changed ones are refused, also as what a ledger must have."""
    path = with_claims(tmp_path, '{"amount": 100}\x1b[2J')
    words = ("ledger", "receipt", path, "--service-cert", tmp_path / "service_cert.pem")
    said = kluis(*words)
    assert said.code == 0
    assert "proves: the service of this certificate committed the entry with these claims" in said.out
    assert '  subledger:0: {"amount": 100}?[2J\n' in said.out
    assert json.loads(kluis(*words, "--json").out)["claims"][0]["contents"] == '{"amount": 100}\x1b[2J'

    whole = path.read_text()
    path.write_text(whole.replace('"amount\\": 100', '"amount\\": 900'))
    said = kluis(*words)
    assert said.code == 4
    assert "want a receipt of the applicationClaims next to it, got one of other claims" in said.err
    assert kluis("ledger", "verify", made, "--expect-at-least", path).code == 4
    path.write_text(whole)
    assert kluis(*words).code == 0


def test_claims_that_come_with_a_receipt(kluis: Kluis, tmp_path: Path) -> None:
    """They must be the entry's: a receipt with another's claims, or none in the list, is refused."""
    digest, other = (sha256(text).hex() for text in (b"claim", b"other"))
    claim = {"kind": "ClaimDigest", "digest": {"protocol": "P", "value": digest}}
    claims = application_claims.claims_digest([("P", bytes.fromhex(digest))])
    sequencer, file, service = making.sequencer(), tmp_path / "receipt.json", tmp_path / "service.pem"
    txid = sequencer.add({"public:x": {b"k": b"v"}}, claims)
    batch = sequencer.seal()
    service.write_text(certificates.service_certificate(making.key(1), NOW))
    node = certificates.node_certificate(making.key(0).public_key(), making.key(1), service.read_text(), NOW)
    assert batch.signed.node is not None
    made = receipts.make(sequencer.tree, txid, batch.components[0], batch.signed.node, node)
    bare = made.to_azure()
    words = ("ledger", "receipt", file, "--service-cert", service)
    for value, code in (
        (bare, 0),
        ({"receipt": bare, "applicationClaims": [claim], "state": "Ready"}, 0),
        ({"receipt": bare, "applicationClaims": [{**claim, "digest": {"protocol": "P", "value": other}}]}, 4),
        ({"receipt": bare, "applicationClaims": [claim, claim]}, 4),
        ({"receipt": bare, "applicationClaims": []}, 3),
        ({"receipt": bare, "applicationClaims": "x"}, 3),
    ):
        file.write_text(json.dumps(value))
        said = kluis(*words)
        assert said.code == code, said
        assert ("with these claims" in said.out) == (code == 0 and "applicationClaims" in value)
    file.write_text(json.dumps({"receipt": bare, "applicationClaims": [claim]}))
    assert kluis(*words, "--claims-digest", claims.hex()).code == 0
    assert kluis(*words, "--claims-digest", other).code == 4


def test_show(made: Path, kluis: Kluis) -> None:
    """A list of all entries, or one with its tables; the private ones with the secrets only."""
    lines = kluis("ledger", "show", made).out.splitlines()
    assert len(lines) == 61
    said = kluis("ledger", "show", made, "2.1").out
    assert "public:ccf.gov.service.info" in said
    assert "private" not in kluis("ledger", "show", made, "2.12").out.replace("private_key", "")
    said = kluis("ledger", "show", made, "2.12", "--secrets", made / "secrets.txt").out
    assert "private records" in said
    assert "ce:2.12:" in said
    for wanted, why in (("3.1", "entry 3.1: is not in"), ("x", "want VIEW.SEQNO, got 'x'")):
        said = kluis("ledger", "show", made, wanted)
        assert said.code == 2
        assert why in said.err
        assert "hint: kluis ledger show DIR, without an entry, lists all" in said.err
    value = json.loads(kluis("ledger", "show", made, "2.12", "--json").out)
    assert value["entry"] == "2.12"


def test_what_is_missing(kluis: Kluis, tmp_path: Path) -> None:
    """A folder without a ledger, and files that cannot be read, are named."""
    for command in ("verify", "show", "tail"):
        for folder in (tmp_path, tmp_path / "x"):
            said = kluis("ledger", command, folder)
            assert said.code == 2
            assert f"kluis ledger sample --entries 100 --out {folder} makes one" in said.err
    (tmp_path / "ledger_1").write_bytes(b"x")
    assert kluis("ledger", "verify", tmp_path).code == 3
    assert kluis("ledger", "verify", tmp_path, "--secrets", tmp_path / "none").code == 2
    (tmp_path / "secrets").write_text("1 zz\n")
    said = kluis("ledger", "verify", tmp_path, "--secrets", tmp_path / "secrets")
    assert (said.code, "zz" in said.err) == (3, False)


def test_tail(made: Path, kluis: Kluis) -> None:
    """The last entries, as many as wanted, as text or a line of JSON each."""
    lines = kluis("ledger", "tail", made).out.splitlines()
    assert [line.split()[0] for line in lines] == [f"2.{number}" for number in range(51, 61)]
    assert "ccf.internal.signatures" in lines[-1]
    sizes = {
        line.split()[1]: int(line.split()[2]) for line in kluis("ledger", "show", made).out.splitlines()[1:]
    }
    assert {line.split()[0]: int(line.split()[1]) for line in lines}.items() <= sizes.items()
    assert kluis("ledger", "tail", made, "-n", "0").out == ""
    assert len(kluis("ledger", "tail", made, "--lines", "1000").out.splitlines()) == 60
    (value,) = map(json.loads, kluis("ledger", "tail", made, "-n", "1", "--json").out.splitlines())
    assert (value["entry"], value["bytes"]) == ("2.60", sizes["2.60"])
    for wrong in ("-1", "10001"):
        said = kluis("ledger", "tail", made, "--lines", wrong)
        assert (said.code, f"--lines: want 0 to 10000, got {wrong}" in said.err) == (2, True)


def test_tail_has_headings_on_a_terminal(made: Path, kluis: Kluis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person gets headings and folded rows; a program gets rows only, and so does JSON's reader."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    assert kluis("ledger", "tail", made).err == ""
    piped = kluis("ledger", "tail", made).out
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout.isatty", lambda: True)
        shown = kluis("ledger", "tail", made)
        assert kluis("ledger", "tail", made, "--json").err == ""
    assert shown.err.split() == ["entry", "bytes", "public", "tables"]
    assert shown.out.split() == piped.split()
    assert all(len(line) <= 40 or len(line.split()) == 1 for line in shown.out.splitlines()), shown.out


def test_tail_shows_names_that_a_terminal_obeys(kluis: Kluis, tmp_path: Path) -> None:
    """Names of tables are a ledger's own words: they change no screen and no line."""
    writer = Writer()
    writer.sequencer.add({f"public:{'a' * 300}": {b"k": b"v"}})
    writer.sequencer.add({"public:\x1b[2J\n9.9": {b"k": b"v"}})
    (tmp_path / "ledger_1").write_bytes(bytes(8) + writer.sequencer.seal().entries)
    long, screen, _ = kluis("ledger", "tail", tmp_path).out.splitlines()
    assert long.endswith(f"{'a' * 200}.. (1 tables)")
    assert screen.endswith("\\x1b[2J 9.9")


def test_tail_follows_until_it_is_stopped(tmp_path: Path) -> None:
    """New entries are printed as they are signed; Ctrl-C ends it without an error."""
    writer = Writer()
    with LedgerLog(tmp_path) as log:
        assert log.append(log.head(), writer.batch(2).entries) == "ok"
        command = [sys.executable, "-c", MAIN, "ledger", "tail", str(tmp_path), "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tailing:
            hung = threading.Timer(300, tailing.kill)
            hung.start()
            try:
                assert tailing.stdout is not None
                shown = [tailing.stdout.readline().split()[0] for _ in range(3)]
                assert log.append(log.head(), writer.batch(1).entries) == "ok"
                shown += [tailing.stdout.readline().split()[0] for _ in range(2)]
                tailing.send_signal(signal.SIGINT)
                rest, errors = tailing.communicate(timeout=120)
            finally:
                hung.cancel()
                tailing.kill()
    assert shown == ["2.1", "2.2", "2.3", "2.4", "2.5"]
    assert (tailing.returncode, rest, errors) == (0, "", "")


def test_the_folder_above_a_ledger_names_it(tmp_path: Path, kluis: Kluis) -> None:
    """The state folder of a ledger has the ledger's files in its folder ledger."""
    assert "hint: name" not in kluis("ledger", "verify", tmp_path).err
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger/ledger_1").touch()
    said = kluis("ledger", "verify", tmp_path)
    assert (said.code, f"hint: name {tmp_path}/ledger, which has them" in said.err) == (2, True), said.err
