"""``kluis collateral``: fetched from a service on loopback, bundled from parts, and shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis import installing
from kluis.cli.main import run
from kluis.evidence import Collateral, SnpEndorsements
from tests.cli.quotes import Kluis, Said
from tests.collateral.service import Reply, Service, signed
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import Forge

FORGE = Forge()
GOOD = FORGE.collateral()
NOW = "2026-06-01T12:00:00Z"


@pytest.fixture
def kluis(capsys: pytest.CaptureFixture[str]) -> Kluis:
    """Run a command line of ``kluis collateral``."""

    def said(*argv: object) -> Said:
        code = run(["collateral", *(str(each) for each in argv)])
        return Said(code, *capsys.readouterr())

    return said


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder)
    made.serve_intel(FORGE.collateral())
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A quote and the root."""
    (tmp_path / "quote.bin").write_bytes(FORGE.quote())
    (tmp_path / "root.pem").write_bytes(FORGE.authority.root_pem())
    return tmp_path


@pytest.fixture
def fetch(kluis: Kluis, service: Service, folder: Path) -> Kluis:
    def said(*more: object) -> Said:
        return kluis(
            *("fetch", folder / "quote.bin", "--root", folder / "root.pem", "--cache", folder / "kept"),
            *("--pccs", service.url, "--pccs-ca", folder / "loopback.pem", "--now", NOW, *more),
        )

    return said


def test_what_is_fetched_verifies(fetch: Kluis, folder: Path) -> None:
    """A fetched bundle, written next to the quote, suffices for ``kluis verify``."""
    bundle = folder / "quote.bin.collateral.json"
    done = fetch("-o", bundle)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"\n\nwritten: {bundle}\n")
    assert run(["verify", str(folder / "quote.bin"), "--root", str(folder / "root.pem"), "--now", NOW]) == 0


def test_to_stdout(fetch: Kluis) -> None:
    """Without -o the bundle itself is printed."""
    assert isinstance(Collateral.from_json(fetch().out.encode()), Collateral)
    assert json.loads(fetch("--json").out)["tcb_info"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "update=early"),
        (("--update", "standard"), "update=standard"),
        (("--evaluation", 1), "Number=1"),
    ],
)
def test_the_release(fetch: Kluis, service: Service, words: tuple[object, ...], said: str) -> None:
    """Early unless another release, or a number, is named."""
    assert fetch(*words).code == 0
    assert len([path for path in service.asked if said in path]) == 2


def test_both_are_refused(fetch: Kluis, service: Service) -> None:
    """A release and a number exclude each other."""
    done = fetch("--update", "early", "--evaluation", 17)
    assert (done.code, done.out, service.asked) == (2, "", [])
    assert done.err.startswith(
        "kluis: error: collateral: want one of update and TCB evaluation data number, and not both\n"
    )


def test_offline(fetch: Kluis, service: Service) -> None:
    """Offline sends no request: first there is nothing, after a fetch there is all."""
    nothing = fetch("--offline")
    assert nothing.code == 7
    assert "tcb-info sgx e0e0e0000000 early: is not cached, and no connection is allowed" in nothing.err
    assert "hint: fetch it once without --offline" in nothing.err
    assert service.asked == []
    first = fetch()
    assert fetch("--offline") == first
    assert len(service.asked) == 4


def test_a_service_that_is_down(fetch: Kluis, service: Service) -> None:
    """A service that does not answer is exit code 7, with its code, and prints no collateral."""
    service.put("/sgx/certification/v4/tcb", Reply(500))
    done = fetch()
    assert (done.code, done.out) == (7, "")
    assert "service_refused" in done.err


def test_a_document_that_nobody_signed(fetch: Kluis, service: Service) -> None:
    """A document that is not signed under the root is exit code 4."""
    service.put("/sgx/certification/v4/tcb", signed("tcbInfo", Forge().collateral(), "TCB-Info-Issuer-Chain"))
    assert fetch().code == 4


def test_no_maker_publishes_for_an_emulated_platform(kluis: Kluis, folder: Path) -> None:
    """No request is sent for an emulated platform's documents; the command that gives them is named."""
    done = kluis("fetch", folder / "quote.bin", "--cache", folder / "kept")
    assert done.code == 2
    assert "want evidence of hardware" in done.err
    assert "kluis: hint: kluis platform collateral -o FILE" in done.err


def test_without_the_package(kluis: Kluis, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx, the error states what to install; showing needs nothing."""
    for name in [name for name in sys.modules if name.startswith(("httpx", "kluis.collateral."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    done = kluis("fetch", folder / "quote.bin", "--cache", folder / "kept")
    assert done.code == 7
    assert done.err.startswith(
        "kluis: error: collateral fetch: want the package httpx, got none\n"
        f"kluis: hint: {installing.command_for('collateral')}\n"
    )
    (folder / "bundle.json").write_bytes(FORGE.collateral().to_json())
    assert kluis("show", folder / "bundle.json").code == 0


def parts(folder: Path) -> dict[str, Path]:
    """The parts of good collateral, a file each, as Intel's service gives them."""
    written = {
        "tcb_info": signed("tcbInfo", GOOD, "x").body,
        "qe_identity": signed("enclaveIdentity", GOOD, "x").body,
        "tcb_info_issuer_chain": GOOD.tcb_info_issuer_chain,
        "pck_crl": GOOD.pck_crl,
        "pck_crl_issuer_chain": GOOD.pck_crl_issuer_chain,
        "root_ca_crl": GOOD.root_ca_crl.hex().encode(),
    }
    for name, data in written.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in written}


def test_parts_say_what_they_are(kluis: Kluis, folder: Path) -> None:
    """Files that were fetched by other means become a bundle, whatever they are called."""
    done = kluis("bundle", *parts(folder).values())
    assert done.code == 0
    assert Collateral.from_json(done.out.encode()) == GOOD


def test_parts_by_name(kluis: Kluis, folder: Path) -> None:
    """A part may be named, and then is not looked at to find out."""
    files = parts(folder)
    named = [f"{role}={path}" for role, path in files.items()]
    named.append(f"qe_identity_issuer_chain={files['tcb_info_issuer_chain']}")
    assert Collateral.from_json(kluis("bundle", *named).out.encode()) == GOOD


def test_a_part_is_missing(kluis: Kluis, folder: Path) -> None:
    """A bundle without a CRL is refused."""
    files = parts(folder)
    del files["pck_crl"]
    done = kluis("bundle", *files.values())
    assert done.code == 7
    assert done.err.startswith("kluis: error: parts: pck_crl missing\n")


def test_older_parts_do_not_replace_a_bundle(kluis: Kluis, folder: Path) -> None:
    """A bundle is not replaced by one of an older document; any other file is."""
    bundle = folder / "bundle.json"
    files = parts(folder)
    assert kluis("bundle", *files.values(), "-o", bundle).code == 0
    assert kluis("bundle", *files.values(), "-o", bundle).code == 0
    whole = bundle.read_bytes()
    early = FORGE.now - timedelta(days=1)
    files["root_ca_crl"].write_bytes(FORGE.crl("root", now=early))
    done = kluis("bundle", *files.values(), "-o", bundle)
    assert (done.code, bundle.read_bytes()) == (5, whole)
    assert done.err.startswith(
        f"kluis: error: {bundle}: root_ca_crl: want one issued 2026-06-01T11:55:00Z or later, as in the file "
        "that would be replaced, got one issued 2026-05-31T11:55:00Z\n"
        f"kluis: hint: to replace it all the same: rm {bundle}\n"
    )
    (folder / "other").write_bytes(b"no bundle")
    for other in ("other", "new"):
        assert kluis("bundle", *files.values(), "-o", folder / other).code == 0
    bundle.unlink()
    assert kluis("bundle", *files.values(), "-o", bundle).code == 0


def test_a_replay_after_the_document_is_gone(fetch: Kluis, service: Service, folder: Path) -> None:
    """Of a service that goes back, the error names the document and the files that remember the newer one."""
    assert fetch().code == 0
    for path in (folder / "kept").iterdir():
        if not path.name.endswith(".seen.json"):
            path.unlink()
    old = FORGE.authority.collateral(FORGE.now - timedelta(days=3))
    service.serve_intel(Collateral.from_json(json.dumps(old).encode()))
    done = fetch()
    assert done.code == 5
    assert done.err.startswith("kluis: error: tcb-info sgx e0e0e0000000 early: want one issued 2026-")
    command = done.err.partition("all the same: ")[2].partition("\n")[0].split()
    assert command[0] == "rm"
    assert all(Path(word).exists() for word in command[1:])


def test_a_part_twice(kluis: Kluis, folder: Path) -> None:
    """Two documents of one role are refused, not picked from."""
    other = folder / "other"
    other.write_bytes(signed("tcbInfo", Forge().collateral(), "x").body)
    done = kluis("bundle", *parts(folder).values(), other)
    assert done.code == 2
    assert done.err.startswith("kluis: error: parts: two are tcb_info\n")


def test_a_part_that_is_nothing_is_named(kluis: Kluis, folder: Path) -> None:
    """Of many files the one that endorses nothing is named, and what to do with it."""
    (folder / "meta.json").write_bytes(b"{}")
    done = kluis("bundle", *parts(folder).values(), folder / "meta.json")
    assert done.code == 3
    assert "/meta.json: want TCB info, an identity, a certificate or a CRL" in done.err
    assert "hint: leave it out, or say what it is: ROLE=FILE" in done.err


@pytest.mark.parametrize("data", [b"", b"{}", b"\x30\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_part_that_is_nothing(kluis: Kluis, folder: Path, data: bytes) -> None:
    """A file that endorses nothing is a format error."""
    (folder / "part").write_bytes(data)
    assert kluis("bundle", folder / "part").code == 3


def test_show(kluis: Kluis, folder: Path) -> None:
    """Each part has its signer, its window, its evaluation number and its age, and nothing is verified."""
    (folder / "bundle.json").write_bytes(FORGE.collateral().to_json())
    done = kluis("show", folder / "bundle.json", "--now", "2026-06-04T12:00:00Z")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["part", "issuer", "issued", "valid", "until", "number", "age", "about"]
    assert [line.split()[0] for line in lines[1:5]] == ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl"]
    assert all(" 3 d " in line for line in lines[1:5])
    assert "SGX FMSPC e0e0e0000000" in lines[1]
    assert lines[-1] == "nothing above is verified: kluis verify checks it, with the evidence"
    value = json.loads(kluis("show", folder / "bundle.json", "--now", NOW, "--json").out)
    assert value["verified"] is False
    assert value["valid_until"] == min(part["valid_until"] for part in value["parts"])


def test_show_says_what_has_run_out(kluis: Kluis, folder: Path) -> None:
    """An expired part is marked, and so is one that is not yet valid."""
    (folder / "bundle.json").write_bytes(FORGE.collateral().to_json())
    late = kluis("show", folder / "bundle.json", "--now", "2027-06-01T12:00:00Z").out
    assert late.splitlines()[1].count("run out") == 1
    early = kluis("show", folder / "bundle.json", "--now", "2026-01-01T12:00:00Z").out
    assert early.splitlines()[1].count("not yet valid") == 1


@pytest.mark.parametrize("data", [b"", b"[]", b'{"tcb_info":1}', b'{"other":""}'])
def test_show_what_is_no_bundle(kluis: Kluis, folder: Path, data: bytes) -> None:
    """A file that is no bundle is a format error."""
    (folder / "bundle.json").write_bytes(data)
    done = kluis("show", folder / "bundle.json")
    assert done.code == 3
    assert done.err.startswith(f"kluis: error: {folder / 'bundle.json'}: is no bundle: ")
    assert "kluis: hint: kluis " in done.err


def test_files_that_are_not_there(kluis: Kluis, folder: Path) -> None:
    """A file that cannot be read, or written, is named."""
    gone = folder / "gone" / "file"
    assert kluis("show", gone).code == 2
    assert kluis("bundle", *parts(folder).values(), "-o", gone).code == 2
    assert kluis("show", gone, "--now", "soon").code == 2


def test_amds_documents_from_a_cache(kluis: Kluis, service: Service, folder: Path) -> None:
    """A cache of AMD's service is used instead of AMD's, over TLS of a named authority."""
    forge = AmdForge("Milan")
    (folder / "report.bin").write_bytes(forge.report())
    (folder / "ark.pem").write_bytes(forge.ark.public_bytes(Encoding.PEM))
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (forge.ask, forge.ark))
    service.put("/vcek/v1/Milan/cert_chain", Reply(body=chain))
    service.put("/vcek/v1/Milan/crl", Reply(body=forge.crl()))
    vek = forge.vek.public_bytes(Encoding.DER)
    service.put(f"/vcek/v1/Milan/{forge.hw_id.hex()}", Reply(body=vek))
    words = ("fetch", folder / "report.bin", "--root", folder / "ark.pem", "--cache", folder / "kept")
    done = kluis(*words, "--kds", service.url, "--kds-ca", folder / "loopback.pem", "--now", NOW)
    assert (done.code, done.err) == (0, "")
    assert SnpEndorsements.from_json(done.out.encode()).vek == vek
    done = kluis(*words, "--kds-ca", folder / "loopback.pem")
    assert done.code == 2
    assert done.err.startswith("kluis: error: --kds-ca: is of no service\n")
