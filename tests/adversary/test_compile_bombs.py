"""Images whose source takes the compiler minutes, gigabytes or its life when bytecode is compared."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.errors import FormatError
from kluis.tee.image import pyc
from kluis.tee.image.build import bytecode, interpreter
from kluis.tee.image.build.changes import diff
from kluis.tee.measure import image as measure
from tests.tee.image import samples

PYC = pyc.pyc_path("app.py", sys.implementation.cache_tag)
PLACE = "/k/app/app.py"
# CPython 3.11 is quadratic in the classes, which take it 50 s, and 3.13 in the braces, which take it 5 s.
SLOW = b"x=f'" + b"{{" * 400_000 + b"'\n" + b"class A: pass\n" * 60_000
SEMICOLONS = b"a;" * 1_000_000  # 1.2 GB
FOLDED = b"\n".join(b"x='%06d'*682" % i for i in range(20_000))  # 300 kB become 82 MB
LAMBDAS = b"x=" + b"lambda: " * 1500 + b"1"  # compiles, and is too deep to be written


def image(path: Path, source: bytes) -> Path:
    """A signed image whose ``app.py`` is ``source``, without bytecode."""
    contents = samples.contents(app={"app.py": source, PYC: bytes(16)})
    path.write_bytes(samples.image(contents, signer=samples.key(), python=interpreter.version()))
    return path


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of memory and output that a test reaches soon, long before its processor time is used up."""
    monkeypatch.setattr(bytecode, "MOST_MEMORY_BYTES", 512 << 20)
    monkeypatch.setattr(bytecode, "MOST_OUTPUT_BYTES", 16 << 20)


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize(
    ("source", "got"),
    [
        (SLOW, "an end by SIG(XCPU|KILL)"),
        (SEMICOLONS, "more memory or output"),
        (FOLDED, "more memory or output"),
    ],
)
def test_no_source_takes_the_compiler_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: bytes, got: str
) -> None:
    """``measure`` and ``diff`` refuse the image, and name the module."""
    if source is SLOW:  # the others must reach their own bound, however slow this machine is
        monkeypatch.setattr(bytecode, "MOST_SECONDS", 1)
        monkeypatch.setattr(bytecode, "LEAST_BYTES_A_SECOND", 4 << 20)
    bad = image(tmp_path / "bad.kluis", source)
    want = rf"^{PLACE}: want source that compiles within bounds of time, memory and output, got {got}\n"
    with pytest.raises(FormatError, match=want) as refused:
        measure.measure(bad)
    assert refused.value.code == "compile_limit"
    with pytest.raises(FormatError, match=want):
        diff(image(tmp_path / "good.kluis", b"app = 1\n"), bad)


@pytest.mark.usefixtures("low")
def test_it_is_refused_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a malformed file, and a code to look up."""
    assert run(["measure", str(image(tmp_path / "bad.kluis", SEMICOLONS))]) == 3
    assert "(kluis explain compile_limit)\n" in capsys.readouterr().err


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("batch", [1, bytecode.BATCH_BYTES])
def test_the_module_is_named_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Whatever was compiled before it, in its process or in an earlier one, has its result."""
    monkeypatch.setattr(bytecode, "BATCH_BYTES", batch)
    modules = [("/k/app/a.py", b"a = 1\n"), (PLACE, SEMICOLONS), ("/k/app/z.py", b"z = 1\n")]
    with pytest.raises(FormatError, match=f"^{PLACE}: "):
        list(bytecode.compile_all(modules, samples.python(), tmp_path))


def test_batches_change_no_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module compiles to the same bytes in a separate process and after others."""
    modules = [(f"/k/app/{i}.py", b"x = {'a', 'b', 'c'}, %d\ny = {'a': x}\n" % i) for i in range(5)]
    together = list(bytecode.compile_all(modules, samples.python(), tmp_path))
    monkeypatch.setattr(bytecode, "BATCH_BYTES", 1)
    assert list(bytecode.compile_all(modules, samples.python(), tmp_path)) == together
    assert len(together) == 5


def test_code_that_is_too_deep_to_be_written_has_no_bytecode(tmp_path: Path) -> None:
    """It does not end the compiler, and so neither a build nor a comparison."""
    modules = [(PLACE, LAMBDAS), ("/k/app/z.py", b"z = 1\n"), ("/k/app/y.py", b"(" * 1000)]
    deep, honest, parser = bytecode.compile_all(modules, samples.python(), tmp_path)
    assert (deep, parser) == (b"", b"")
    assert honest
