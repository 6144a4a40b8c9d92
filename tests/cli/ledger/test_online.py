"""``kluis ledger`` at a node: members found, open and govern a ledger by its commands."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.formats.ccf.txid import TxId
from kluis.serve.ledger.governing import Governor, member_id
from kluis.services.clock import SystemClock
from kluis.services.ledger.callers import canonical_id
from kluis.services.ledger.settings import Member, Principal
from tests.cli.quotes import Kluis
from tests.services.ledger.listening import listening
from tests.services.ledger.world import VERSION, World


class RealClock(SystemClock):
    """This machine's time, which certificates and requests are of."""


def _founded(tmp_path: Path, kluis: Kluis, *names: str) -> World:
    members = []
    for name in names:
        assert kluis("ledger", "init", name, "--out", tmp_path / name).code == 0
        folder = tmp_path / name
        members.append(
            Member(
                certificate=(folder / f"{name}_cert.pem").read_text(),
                encryption_key=(folder / f"{name}_enc_pubk.pem").read_text(),
            )
        )
    settings: dict[str, Any] = {"members": tuple(members), "principals": ()}
    return World(tmp_path / "ledger", clock=RealClock(), settings=settings)  # type: ignore[arg-type] # a clock


def test_members_open_a_ledger_and_rekey_it(tmp_path: Path, kluis: Kluis) -> None:
    """Two members: each acknowledges, one proposes, both vote; a ballot against leaves a proposal open.

    What is open is in the ledger's status, to which an unknown proposal's error leads.
    """
    world, service = _founded(tmp_path, kluis, "one", "two"), tmp_path / "service.pem"
    with listening(world) as url:
        first = kluis("ledger", "status", "--url", url, "--service-cert", tmp_path / "one/one_cert.pem")
        assert (first.code, "does not answer" in first.err) == (7, True)  # another root is trusted
        assert "with the pinned certificate: " in first.err
        assert "kluis ledger status --policy FILE --save PEM gets it" in first.err
        service.write_text(_service(world))
        other_name = url.replace("localhost", "127.1")
        unnamed = kluis("ledger", "status", "--url", other_name, "--service-cert", service)
        assert (unnamed.code, "kluis ledger up --name NAME" in unnamed.err) == (7, True)
        at = ("--url", url, "--service-cert", service)
        as_one, as_two = (("--as", tmp_path / f"{name}/{name}") for name in ("one", "two"))
        early = kluis("ledger", "propose", "open", *at, *as_one)
        assert (early.code, "AuthorizationFailed" in early.err) == (6, True)
        for who in (as_one, as_two):
            assert "is active" in kluis("ledger", "ack", *at, *who).out
        proposed = json.loads(kluis("ledger", "propose", "open", *at, *as_one, "--json").out)
        assert proposed["state"] == "Open"
        ident = proposed["proposal"]
        against = json.loads(kluis("ledger", "vote", ident, *at, *as_one, "--against", "--json").out)
        assert against["state"] in ("Open", "Rejected")
        again = json.loads(kluis("ledger", "propose", "open", *at, *as_two, "--json").out)["proposal"]
        unread = kluis("ledger", "vote", "abc", *at, *as_one)
        assert (unread.code, "want 64 hexadecimal digits, got 'abc'" in unread.err) == (2, True), unread.err
        unknown = kluis("ledger", "vote", "ab" * 32, *at, *as_one)
        assert (unknown.code, "ProposalNotFound" in unknown.err) == (6, True), unknown.err
        assert "hint: kluis ledger status prints the open proposals" in unknown.err
        shown = kluis("ledger", "status", *at).out.split("\n")
        assert next(line for line in shown if again in line).startswith(f"proposal  {again} Open, by ")
        ballot = tmp_path / "ballot.js"
        ballot.write_text("export function vote (proposal) { return proposal.includes('open'); }")
        for who in (as_one, as_two):
            voted = kluis("ledger", "vote", again, *at, *who, "--ballot", ballot, "--json")
        assert json.loads(voted.out)["state"] == "Accepted"
        status = json.loads(kluis("ledger", "status", *at, "--save", tmp_path / "s.pem", "--json").out)
        assert (status["status"], len(status["members"])) == ("Open", 2)
        assert again not in [one["proposalId"] for one in status["openProposals"]]
        assert (tmp_path / "s.pem").read_text() == service.read_text()
        nowhere = kluis("ledger", "status", *at, "--save", tmp_path / "none" / "s.pem")
        assert (nowhere.code, "s.pem" in nowhere.err) == (2, True)
        rekeyed = kluis("ledger", "rekey", *at, *as_one)
        assert "state    Open" in rekeyed.out
    assert kluis("ledger", "verify", world.folder, "--service-cert", service).code == 0


def _service(world: World) -> str:
    from kluis.services.ledger import kept

    found = kept.find(world.storage)
    assert found is not None
    return found.certificate


def test_a_receipt_is_verified_before_it_is_written(
    tmp_path: Path, kluis: Kluis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a node, JSON or COSE; another entry's, a signature's and a changed one leave no file."""
    world, service, out = _founded(tmp_path, kluis, "one"), tmp_path / "service.pem", tmp_path / "r"
    with listening(world) as url:
        service.write_text(_service(world))
        at = ("--url", url, "--service-cert", service, "-o", out)
        for more in ((), ("--cose",)):
            said = kluis("ledger", "receipt", "2.1", *at, *more)
            assert said.code == 0, said.err
            assert said.out.startswith("authentic: entry 2.1 under root ")
            assert "proves: the service of this certificate committed the entry\n" in said.out
            assert (out.read_bytes()[:1] == b"\xd2") == bool(more)
            assert kluis("ledger", "receipt", out, "--service-cert", service).out == said.out
            out.unlink()
        signature = kluis("ledger", "receipt", "2.2", *at)
        assert (signature.code, out.exists()) == (4, False)
        assert "receipt of 2.2: want the receipt of entry 2.2, got that of a signature" in signature.err
        for wanted in ("9.1", "2.99"):
            said = kluis("ledger", "receipt", wanted, *at)
            assert (said.code, out.exists(), "ledger_refused" in said.err) == (6, False, True), said.err
            assert "hint: kluis ledger status prints the last entry that is committed" in said.err
        named = kluis("ledger", "receipt", "first", *at)
        assert (named.code, "hint: kluis ledger tail prints the entries" in named.err) == (2, True), named.err
        assert kluis("ledger", "receipt", "2.1", *at, "--claims-digest", "ab" * 32).code == 4
        unpinned = kluis("ledger", "receipt", out, "--service-cert", tmp_path / "none.pem")
        assert (unpinned.code, "hint: the operator has it as service_cert.pem" in unpinned.err) == (2, True)
        real = Governor.receipt

        def another(node: Governor, txid: TxId, *, cose: bool = False) -> bytes:
            return real(node, TxId(2, 1), cose=cose)

        monkeypatch.setattr(Governor, "receipt", another)
        swapped = kluis("ledger", "receipt", "2.3", *at)
        assert (swapped.code, out.exists()) == (4, False)
        assert "want the receipt of entry 2.3, got that of 2.1" in swapped.err

        def changed(node: Governor, txid: TxId, *, cose: bool = False) -> bytes:
            return real(node, txid, cose=cose).replace(b"ce:2.1:", b"ce:2.3:")

        monkeypatch.setattr(Governor, "receipt", changed)
        for more in ((), ("--cose",)):
            said = kluis("ledger", "receipt", "2.1", *at, *more)
            assert (said.code, out.exists(), "ledger_receipt" in said.err) == (4, False, bool(not more)), (
                said.err
            )


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("init", "a/b"), "name: want letters, digits, - and _"),
        (("status", "--url", "https://localhost:1"), "want --service-cert or --policy, one of the two"),
        (
            ("up", "--state", "s", "--witness-every", "soon"),
            "--witness-every: want seconds up to 60, such as 1s, got 'soon'",
        ),
        (("up", "--state", "s", "--witness-every", "nan"), "--witness-every: want seconds up to 60"),
        (("up", "--state", "s", "--witness-every", "61s"), "--witness-every: want seconds up to 60"),
        (("up", "--state", "s", "--port", "5"), "--port: want 0, or 6 and more, got 5"),
        (("up", "--state", "s", "--port", "-1"), "--port: want 0, or 6 and more, got -1"),
        (
            ("status", "--url", "https://localhost:1", "--policy", "p", "--root", "none.pem"),
            "--root: want a file or a trusted root, got 'none.pem'",
        ),
        (("receipt", "2.1", "--service-cert", "s.pem", "--url", "https://localhost:1"), "--url: want --out"),
        (("receipt", "r", "--service-cert", "s.pem", "--cose"), "--cose: want --url"),
        (("receipt", "r", "--service-cert", "s.pem", "-o", "x"), "--out: want --url"),
        (
            ("status", "--url", "http://localhost:1", "--service-cert", __file__),
            "hint: --url https://localhost:1",
        ),
        (("status", "--url", "localhost:1", "--service-cert", __file__), "hint: --url https://localhost:1"),
        (
            ("status", "--url", "https://localhost:1", "--service-cert", "none.pem"),
            "hint: the operator has it as service_cert.pem in --state",
        ),
        (("up", "--state", "s", "--user", "x=King"), "--user: want PEM=Reader"),
        (("up", "--state", "s", "--member", "none.pem"), "none.pem"),
        (
            ("up", "--state", "s", "--threshold", "5"),
            "--threshold: want 1, since 1 member has an encryption key, got 5",
        ),
        (("up", "--state", "s", "--threshold", "0"), "--threshold: want 1, since"),
        (
            ("up", "--state", "s", "--member", __file__),
            "--threshold 1: no member has an encryption key, for a recovery share",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    argv: tuple[str, ...], problem: str, kluis: Kluis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started or written."""
    monkeypatch.chdir(tmp_path)
    said = kluis("ledger", *argv)
    assert (said.code, problem in said.err) == (2, True), said.err
    assert not any(tmp_path.iterdir())


def test_what_a_new_ledger_only_takes(tmp_path: Path, kluis: Kluis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its help marks each such option; an existing ledger keeps its choice, and no note states another."""
    shown = kluis("ledger", "up", "--help").out.partition("Options:")[2].split()
    for name in ("--member", "--user", "--threshold", "--constitution", "--cose-only", "--public"):
        rest = " ".join(shown[shown.index(name) + 1 :])
        assert "Counts for a new ledger only." in rest.partition(" --")[0], name

    monkeypatch.setattr("kluis.cli.service.serve_run.run", lambda plan: None)
    up = ("ledger", "up", "--state", tmp_path, "--cose-only")
    assert "only the service signs" in kluis(*up).err
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger/ledger_1").touch()
    said = kluis(*up)
    assert (said.code, said.err) == (0, "")


def test_keys_that_are_there_stay(tmp_path: Path, kluis: Kluis) -> None:
    """A second init makes no other member under the same name; private files are their owner's alone."""
    assert kluis("ledger", "init", "bank", "--out", tmp_path / "bank").code == 0
    before = (tmp_path / "bank/bank_privk.pem").read_bytes()
    again = kluis("ledger", "init", "bank", "--out", tmp_path / "bank")
    assert (again.code, "has keys of bank already" in again.err) == (2, True)
    assert f"hint: --as {tmp_path}/bank/bank uses them; --out DIR" in again.err
    assert (tmp_path / "bank/bank_privk.pem").read_bytes() == before
    for name in ("bank_privk.pem", "bank_enc_privk.pem"):
        assert (tmp_path / "bank" / name).stat().st_mode & 0o077 == 0


def test_the_prefix_that_was_meant_is_named(tmp_path: Path, kluis: Kluis) -> None:
    """A file's name, or its folder, in the place of a prefix; or nothing that is there."""
    assert kluis("ledger", "init", "bank", "--out", tmp_path / "bank").code == 0
    at = ("--url", "https://localhost:1", "--service-cert", tmp_path / "bank/bank_cert.pem")
    for wrong in ("bank/bank_cert.pem", "bank/bank_privk.pem", "bank"):
        said = kluis("ledger", "ack", *at, "--as", tmp_path / wrong)
        assert (said.code, f"hint: --as {tmp_path}/bank/bank\n" in said.err) == (2, True), said.err
    said = kluis("ledger", "ack", *at, "--as", tmp_path / "other")
    assert (said.code, "hint: kluis ledger init NAME makes a member's files" in said.err) == (2, True)
    said = kluis("ledger", "ack", *at, "--as", tmp_path / "bank/bank")
    assert (said.code, "kluis ledger up prints its address" in said.err) == (7, True)


def test_what_is_no_certificate_is_named(tmp_path: Path, kluis: Kluis) -> None:
    """A private key, for example: it is no bug of Kluis."""
    assert kluis("ledger", "init", "bank", "--out", tmp_path / "bank").code == 0
    for wrong in (tmp_path / "bank/bank_privk.pem", Path(__file__)):
        said = kluis("ledger", "status", "--url", "https://localhost:1", "--service-cert", wrong)
        assert (said.code, "--service-cert: want the service's certificate in PEM" in said.err) == (3, True)


def test_tail_of_a_node(tmp_path: Path, kluis: Kluis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last entries of a collection, through restarts, and new ones; for those who may read."""
    world, service = _founded(tmp_path, kluis, "one"), tmp_path / "service.pem"
    reader = tmp_path / "one/one"
    certificate = Path(f"{reader}_cert.pem").read_text()
    world.settings["principals"] = (Principal(canonical_id(member_id(certificate)), ("Contributor",)),)
    kluis("ledger", "init", "two", "--out", tmp_path / "two")
    shown: list[str] = []

    def write(url: str, contents: str, collection: str = "subledger%3A0") -> str:
        context = ssl.create_default_context(cafile=str(service))
        context.load_cert_chain(f"{reader}_cert.pem", f"{reader}_privk.pem")
        with httpx.Client(base_url=url, verify=context, timeout=120) as client:
            path = f"/app/transactions?{VERSION}&collectionId={collection}"
            answer = client.post(path, json={"contents": f"{contents}\x1b"}).raise_for_status()
        return f"{answer.headers['x-ms-ccf-transaction-id']:<12}  {contents}?"

    def late(url: str, rounds: Iterator[int]) -> Callable[[float], None]:
        def pause(seconds: float) -> None:
            if next(rounds):
                raise KeyboardInterrupt
            shown.append(write(url, "late"))

        return pause

    for number in range(2):
        with listening(world) as url:
            service.write_text(_service(world))
            at = ("--url", url, "--service-cert", service, "--as", reader)
            if not number:
                kluis("ledger", "ack", *at)
                ident = json.loads(kluis("ledger", "propose", "open", *at, "--json").out)["proposal"]
                assert "Accepted" in kluis("ledger", "vote", ident, *at).out
            shown += [write(url, f"{number} {each}") for each in range(3)]
            elsewhere = write(url, "elsewhere", "a%26b")
            assert kluis("ledger", "tail", *at, "-n", "5").out.splitlines() == shown[-5:]
            assert kluis("ledger", "tail", *at, "-n", "0").out == ""
            (value,) = map(json.loads, kluis("ledger", "tail", *at, "-n", "1", "--json").out.splitlines())
            assert value == {"entry": shown[-1].split()[0], "contents": f"{number} 2\x1b"}
            other = kluis("ledger", "tail", *at, "--collection", "a&b", "-n", "1").out
            assert other.splitlines() == [elsewhere]
            stranger = kluis("ledger", "tail", *at[:-1], tmp_path / "two/two")
            assert (stranger.code, "ledger_refused" in stranger.err) == (6, True)
            with monkeypatch.context() as patch:
                patch.setattr("kluis.cli.ledger.tailing.time.sleep", late(url, iter(range(2))))
                followed = kluis("ledger", "tail", *at, "-n", "1", "--follow").out.splitlines()
            assert followed == shown[-2:]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ((), "tail: want a ledger's folder or --url"),
        (("x", "--url", "https://localhost:1"), "tail: want a ledger's folder or --url"),
        (("x", "--as", "y"), "--service-cert, --as, --collection: want --url"),
        (("--url", "https://localhost:1"), "--url: want --service-cert and --as"),
    ],
)
def test_what_tail_cannot_mean(argv: tuple[str, ...], problem: str, kluis: Kluis) -> None:
    """A folder or a node, and what a node needs."""
    said = kluis("ledger", "tail", *argv)
    assert (said.code, problem in said.err) == (2, True), said.err
