"""Scripts of others in an enclave without ``insecure_jit``: they run, and end where they must."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build.builder import build
from kluis.tee.platform.client import Platform

HERE = Path(__file__).parent
MEMORY = "script_limit: script: ran out of its memory"


@pytest.fixture(scope="module")
def image(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of an enclave without ``insecure_jit`` that runs scripts."""
    place = tmp_path_factory.mktemp("scripting")
    shutil.copytree(HERE / "scripting", place / "scripting")
    return build(place / "scripting", place / "scripting.kluis", place / "author.pem", debug=False).path


@pytest.fixture(scope="module")
def enclave(image: Path, allowed: frozenset[str]) -> Iterator[EnclaveProxy]:
    """An enclave of that image."""
    with load(image, insecure_allow_missing=allowed) as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("body", "argument", "want"),
    [
        ("[x, echo(x)]", b"\x00\xff", r"[b'\x00\xff', b'\x00\xff']"),
        ("{ while (true) {} }", b"", "script_limit: script: took longer than 0.3 s"),
        ("{ while (true) echo(1); }", b"", "script_limit: script: took longer than 0.3 s"),
        ("/^(a+)+$/.test('a'.repeat(40) + 'b')", b"", "script_limit: script: took longer than 0.3 s"),
        ("{ const a = []; while (true) a.push('x'.repeat(1e4) + a.length); }", b"", MEMORY),
        ("(function g() { return g() + 1; })()", b"", "script_limit: script: ran out of its stack"),
        ("{ throw new Error('why'); }", b"", "script_threw: script: threw Error: why"),
    ],
)  # fmt: skip
def test_limits(enclave: EnclaveProxy, body: str, argument: bytes, want: str) -> None:
    """Bytes cross, and each limit holds."""
    assert enclave.run(f"export const f = (x) => {body};", argument, 2 << 20, 0.3) == want


def test_a_thread_of_its_own(enclave: EnclaveProxy) -> None:
    """The stack of a thread that the application starts is large enough for the limit."""
    assert enclave.run_in_a_thread("export const f = () => (function g() { return g() + 1; })();") == (
        "script_limit: script: ran out of its stack"
    )
    assert enclave.elsewhere() == "script_thread"


def test_the_heap_is_full(enclave: EnclaveProxy) -> None:
    """Secret memory ends in the middle of a script that may use more: only the script ends."""
    grow = "export const f = () => { const a = []; while (true) a.push(new Uint8Array(1 << 20).fill(1)); };"

    assert enclave.run(grow, b"", 1 << 30, 60.0) == MEMORY
    assert enclave.run("export const f = (x) => x;", b"alive", 2 << 20, 1.0) == "b'alive'"
    for size in (100, 5000):
        small = (
            f"export const f = () => {{ const a = []; while (true) a.push('x'.repeat({size}) + a.length); }};"
        )
        assert enclave.run(small, b"", 1 << 30, 120.0) == MEMORY
    assert enclave.run("export const f = (x) => x;", b"alive", 2 << 20, 1.0) == "b'alive'"


@pytest.mark.slow
def test_many(enclave: EnclaveProxy) -> None:
    """10,000 engines fit where one does: what each used is used again."""
    assert enclave.many(10_000) == 10_000
    assert enclave.run("export const f = (x) => x;", b"alive", 2 << 20, 1.0) == "b'alive'"


def test_the_last_seconds(image: Path, allowed: frozenset[str]) -> None:
    """A script that cannot be interrupted ends its enclave, and the caller is informed."""
    with load(image, insecure_allow_missing=allowed) as enclave, pytest.raises(EnclaveDied):
        enclave.overrun()
