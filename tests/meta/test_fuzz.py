"""Fuzzing reaches every parser, keeps its findings, and fixed findings stay fixed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from fuzz import crash, mutate, pool, run
from fuzz.targets import INNER, LOOSE, OWN, Finding, Target, targets
from kluis.errors import FormatError, UsageError
from kluis.evidence.registry import kinds
from kluis.hashes import sha256
from tests.meta.tree import ROOT

SMOKE_SECONDS = 5
CRASHES = sorted((ROOT / "vectors" / "crashes").glob("*/*.toml"))


def test_every_parser_and_verifier_is_a_target() -> None:
    """A module of formats that has a ``parse``, and each kind of evidence, is fuzzed without being listed."""
    found = targets()
    assert {"formats.sgx.quote.parse", "formats.x509.certificate.parse", "formats.encoding.jcs.loads"} <= set(
        found
    )
    assert len([name for name in found if name.startswith("verify.")]) == len(list(kinds()))
    assert {"services.attestation.policy", "services.keyvault.ReleaseLatest"} <= set(found)


def test_exceptions_name_what_is_there() -> None:
    """A target or a function that was renamed is not judged by a rule for its old name."""
    assert set(targets()) >= OWN | LOOSE
    for name in INNER:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(f"kluis.{module}"), function))


def test_every_target_has_good_inputs_or_says_none() -> None:
    """The pool has an input that the first parsers read, forged where nothing is recorded."""
    found = targets()
    for name in (
        "formats.sgx.quote.parse",
        "formats.sgx.collateral.Collateral.from_json",
        "verify.sgx_quote",
    ):
        target = found.get(name)
        if target is not None:
            assert any((target.begins or target.run)(data) for data in pool.seeds(target)), name


class Same:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def encode(self) -> bytes:
        return self.data


def test_what_is_a_finding() -> None:
    """Another error than ours, a fault of the caller, and other bytes written back are findings."""

    def refuses(data: bytes) -> None:
        raise FormatError("no")

    def blames(data: bytes) -> None:
        raise UsageError("no")

    def breaks(data: bytes) -> None:
        raise IndexError("no")

    assert Target("same", Same).run(b"x")
    assert not Target("refuses", refuses).run(b"x")
    for read, error in (
        (blames, UsageError),
        (breaks, IndexError),
        (lambda data: Same(data + b"x"), Finding),
    ):
        with pytest.raises(error):
            Target("target", read).run(b"x")


def test_a_finding_becomes_a_vector(tmp_path: Path) -> None:
    """A finding is kept as bytes, with the expected result, the source, and their digest."""
    path = crash.keep("formats.x", b"\0bytes", 'IndexError: "odd"\n\x1b', tmp_path)
    assert path.read_bytes() == b"\0bytes"
    said = tomllib.loads(path.with_suffix(".toml").read_text())
    assert said == {
        "expect": "KluisError",
        "message": "",
        "source": 'fuzzed: formats.x ended with IndexError: "odd"\\n\\x1b',
        "sha256": sha256(b"\0bytes").hex(),
    }


def test_what_was_found_stays_mended() -> None:
    """No input that once broke a promise breaks one any more, and none has been changed since."""
    found = targets()
    for path in CRASHES:
        data = path.with_suffix(".bin").read_bytes()
        assert sha256(data).hex() == tomllib.loads(path.read_text())["sha256"], path
        found[path.parent.name].run(data)


def test_the_mutations_find_what_is_there() -> None:
    """The engine without coverage reaches a wrong byte that a target breaks on."""

    def read(data: bytes) -> None:
        if data[:2] == b"ab" and len(data) > 2 and data[2] != ord("c"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mutate.run(read, [b"abcd"], 5, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(targets()))
def test_smoke(name: str) -> None:
    """Some seconds of changed inputs break no promise of a target."""
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "fuzz" / "run.py"), "--inside", name),
            *("--engine", "mutations", "--seconds", str(SMOKE_SECONDS)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_slow_input_is_a_finding_and_a_busy_machine_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input is judged by the processor's seconds: waiting for others costs it nothing."""
    monkeypatch.setattr(run, "SLOWEST_SECONDS", 0.2)
    kept: list[tuple[str, bytes, str]] = []

    def spins(data: bytes) -> None:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass

    run._judged("idle", lambda data: time.sleep(0.3), lambda *all_: kept.append(all_))(b"x")
    assert kept == []
    with pytest.raises(TimeoutError):
        run._judged("busy", spins, lambda *all_: kept.append(all_))(b"x")
    assert [(name, data) for name, data, _ in kept] == [("busy", b"x")]
