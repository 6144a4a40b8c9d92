"""``kluis run`` and ``kluis attest`` on a real enclave, as a person and a program use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.cli.image.run import suggest_fix
from kluis.cli.main import run
from kluis.errors import RemoteError
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.formats.sgx import quote as quotes
from kluis.tee.backends import MACHINE
from tests.images import ALLOWED, built

__all__ = ["built"]

HELLO = Path(__file__).parents[3] / "examples" / "hello"
MISSING = [f"--insecure-allow-missing={','.join(ALLOWED)}"] if ALLOWED else []


@pytest.fixture
def hello(built: Callable[..., Path]) -> str:
    """The hello example's image."""
    return str(built(HELLO))


def test_one_call(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the result is on stdout; JSON on request."""
    assert run(["run", hello, "greet", "world", *MISSING]) == 0
    said = capsys.readouterr()
    assert said.out == "hello, world, from inside\n"
    assert said.err.startswith("enclave ")
    assert run(["run", hello, "mean", "[1, 2, 6]", "--json", *MISSING]) == 0
    assert json.loads(capsys.readouterr().out) == 3.0


def test_lists(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an ecall it lists what there is, and starts nothing."""
    assert run(["run", hello]) == 0
    said = capsys.readouterr()
    assert "greet(name: str) -> str" in said.out
    assert said.err == ""


def test_shows_ocalls(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the enclave tells its host on the way is shown on stderr."""
    assert run(["run", hello, "primes", "2001", *MISSING]) == 0
    said = capsys.readouterr()
    assert said.out == "303\n"
    assert said.err.splitlines()[1:] == ["ocall progress: [1000,2001]", "ocall progress: [2000,2001]"]


def test_sealed_in_a_file(hello: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes go to a file, and come from one."""
    blob = tmp_path / "sealed.bin"
    assert run(["run", hello, "keep", "secret", "-o", str(blob), *MISSING]) == 0
    assert b"secret" not in blob.read_bytes()
    capsys.readouterr()
    assert run(["run", hello, "length", f"@{blob}", *MISSING]) == 0
    assert capsys.readouterr().out == "6\n"


REFUSED = {
    "an unknown ecall": (["nope"], 2, "ecall: want one of greet, mean, keep, length, primes, got 'nope'"),
    "an argument of another type": (["mean", '"x"'], 2, "mean.values: want array, got str"),
    "what the code inside refuses": (["mean", "[1]"], 7, "ValueError: mean: want at least 3 values, got 1"),
    "too slow": (["primes", "3000000", "--timeout", "0.5"], 7, "primes: no answer in 0.5 s"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(hello: str, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each refusal states the reason and has the exit code of its kind."""
    words, code, message = REFUSED[case]
    assert run(["run", hello, *words, *MISSING]) == code
    assert message in capsys.readouterr().err


def test_a_declared_error_is_for_the_caller(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that the ecall declares has no hint to fix the code."""
    assert run(["run", hello, "mean", "[1]", *MISSING]) == 7
    assert "hint: mean declares this error, so its message reaches the caller\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("traceback", "inner", "hint"),
    [
        (
            "Traceback",
            None,
            "fix the code where the traceback ends; a debug enclave is for data that is not secret",
        ),
        (None, None, "f declares this error, so its message reaches the caller"),
        (None, "usage", None),
    ],
)
def test_what_an_error_inside_means(traceback: str | None, inner: str | None, hint: str | None) -> None:
    """A debug enclave has already shown the traceback; an error of Kluis has its own fix."""
    error = RemoteError("ValueError", "no", traceback)
    error.inner_code = inner
    assert suggest_fix("f", error) == hint


def test_attest(hello: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file is written: the quote, its documents with purpose, nonce and app data, the collateral."""
    out, data = tmp_path / "hello.evidence", tmp_path / "data"
    data.write_bytes(b"app data")
    words = ["attest", hello, "-o", str(out), "--nonce", "AABB", "--app-data", str(data), "--json", *MISSING]
    assert run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["evidence"], said["image"], said["collateral"]) == (str(out), "hello", True)
    file = EvidenceFile.parse(out.read_bytes())
    assert file.image == "hello"
    quotes.parse(file.evidence)
    runtime = RuntimeData.parse(file.runtime_data or b"")
    assert (runtime.purpose, runtime.nonce, runtime.payload) == (Purpose.CLI, b"\xaa\xbb", b"app data")
    assert runtime.image_id.hex() == said["image_id"]
    assert json.loads(file.launch_configuration or b"")["level"] == said["level"]
    root = tmp_path / "root.pem"
    assert run(["platform", "root", "-o", str(root)]) == 0
    assert run(["verify", str(out), "--root", str(root)]) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "hello.evidence", "root.pem"]


def test_the_collateral_is_of_the_platform_that_was_chosen(
    hello: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another default does not count: its collateral would endorse another root than the quote's."""
    monkeypatch.setenv(MACHINE, "another")
    out = tmp_path / "hello.evidence"
    words = ["attest", hello, "-o", str(out), "--nonce", "AABB", "--tee", "process", "--json", *MISSING]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["collateral"] is True
    monkeypatch.delenv(MACHINE)
    assert run(["platform", "root", "-o", str(tmp_path / "root.pem")]) == 0
    assert run(["verify", str(out), "--root", str(tmp_path / "root.pem")]) == 0


@pytest.mark.parametrize(
    ("nonce", "message"),
    [
        ("xyz", "--nonce: want hex, got 'xyz'"),
        ("9f02aa7", "--nonce: want two hex digits a byte, got 7 digits: '9f02aa7'"),
        ("00" * 65, "--nonce: want at most 64 bytes, got 65"),
    ],
)
def test_nonce(hello: str, nonce: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed nonce is refused before anything starts."""
    assert run(["attest", hello, "-o", "q", "--nonce", nonce]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"kluis: error: {message}"


def test_a_protection_that_there_is_none_of(hello: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is misspelt is refused with those that there are, and not passed over."""
    assert run(["run", hello, "greet", '"x"', "--insecure-allow-missing=landlock,secret_memory"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kluis: error: --insecure-allow-missing: want one of ")
    assert "landlock" in said
    assert "got 'secret_memory'" in said


def test_a_folder_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the command that makes an image of it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    assert run(["run", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(
        f"kluis: error: image {folder}: want a file, got a folder\n"
        f"kluis: hint: kluis build {folder} -o shop.kluis --key author.pem; then name shop.kluis here\n"
    )
