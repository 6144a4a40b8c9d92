"""The start: what stops an application from running, and how its host hears of it."""

from __future__ import annotations

import dis
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis import enclave as enclave_package
from kluis.enclave import Enclave
from kluis.errors import AuthenticityError, EnclaveDied, KluisError, RemoteError
from kluis.host.proxy import EnclaveProxy
from kluis.host.starting import await_ready
from kluis.testing.rehearsal import RehearsalPlatform, interface_of

MINIMAL = """
from kluis import enclave as enclave_package
from kluis.enclave import Enclave
app = Enclave("minimal")

@app.ecall
def one() -> int:
    return 1
"""


@pytest.fixture
def start(rehearsal_platform: RehearsalPlatform, tmp_path: Path) -> Callable[[str, str], None]:
    """Build from one source, run another: what the first promised, the second must keep."""

    def run(built: str, ran: str) -> None:
        app = tmp_path / "app.py"
        app.write_text(built)
        interface = interface_of(app)
        app.write_text(ran)
        process = rehearsal_platform.start(app, interface)
        try:
            await_ready(process, interface[1], 30)
        finally:
            process.kill()
            process.wait(300)

    return run


def test_minimal(start: Callable[[str, str], None]) -> None:
    """An application that is what it was built as starts."""
    start(MINIMAL, MINIMAL)


def test_another_interface(start: Callable[[str, str], None]) -> None:
    """Code that declares more than was measured does not start, however it was loaded."""
    more = MINIMAL + "\n@app.ecall\ndef two() -> int:\n    return 2\n"
    with pytest.raises(
        RemoteError, match=r"^AuthenticityError: interface: want [0-9a-f]{64}, got [0-9a-f]{64}(?m:$)"
    ):
        start(MINIMAL, more)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("app = 5", "UsageError: app:app: want an Enclave, got int"),
        ("pass", "UsageError: app:app: want an Enclave, got NoneType"),
        ("raise SystemExit(3)", "SystemExit"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax (app.py, line 1)"),
    ],
)
def test_does_not_start(start: Callable[[str, str], None], source: str, message: str) -> None:
    """An application that cannot be imported reports the reason, before any secret could have entered."""
    with pytest.raises(RemoteError) as raised:
        start(MINIMAL, source)
    assert raised.value.message == message


def test_dies_before_it_is_ready(start: Callable[[str, str], None]) -> None:
    """A process that ends at once is not waited for."""
    with pytest.raises(EnclaveDied, match=r"^the enclave ended before it was ready: status 9(?m:$)"):
        start(MINIMAL, "import os; os._exit(9)")


def test_host_reads_another_interface(rehearsal_platform: RehearsalPlatform, tmp_path: Path) -> None:
    """A host whose interface is not the enclave's does not call it."""
    app = tmp_path / "app.py"
    app.write_text(MINIMAL)
    process = rehearsal_platform.start(app, interface_of(app))
    try:
        with pytest.raises(AuthenticityError, match=r"^enclave interface: want 0{64}, got "):
            await_ready(process, bytes(32), 30)
    finally:
        process.kill()
        process.wait(300)


def test_interface_of_a_broken_application(tmp_path: Path) -> None:
    """An application that cannot be imported has no interface, and the reason is reported."""
    (tmp_path / "app.py").write_text("import nothing_of_this_name")
    with pytest.raises(KluisError, match="nothing_of_this_name"):
        interface_of(tmp_path / "app.py")


def test_light_to_import() -> None:
    """The runtime loads nothing that most applications do without."""
    program = "import sys, kluis.enclave.runtime.main; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    heavy = {
        "pyarrow",
        "numpy",
        "ctypes",
        "hashlib",
        "traceback",
        "asyncio",
        "kluis.host",
        "kluis.tee",
        "kluis.evidence",
    }
    assert heavy & set(loaded.stdout.split()) <= {"traceback"}


def test_ecall_by_its_own_name(enclave: Callable[..., EnclaveProxy], subject: Path) -> None:
    """A running enclave shows its ecalls as its attributes, with their signatures."""
    running = enclave(subject)
    assert {"add", "echo", "spin"} <= set(dir(running))
    assert repr(running.add) == "<ecall add(a, b)>"
    assert running.add.__doc__ == "Add two numbers."
    assert isinstance(Enclave("x"), Enclave)


SERVING = (
    "app", "platform", "sealing", "boundary/codec", "boundary/frames", "boundary/memfile", "runtime/answers",
    "runtime/calls", "runtime/cancelling", "runtime/failures", "runtime/ocalls", "runtime/workers",
    "../streams",
)  # fmt: skip


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


@pytest.mark.parametrize("module", SERVING)
def test_no_handler_that_needs_memory(module: str) -> None:
    """No function that serves calls is so long that its clean-up makes an integer.

    CPython keeps the place of an exception as an integer while a ``finally``, ``with`` or ``except as``
    cleans up. Up to 256 it is a cached one; above that it is allocated, and if memory is exhausted, the
    interpreter retries endlessly and lets no other thread run (ceval, "exception_unwind").
    """
    path = Path(enclave_package.__file__).parent / f"{module}.py"
    for code in code_objects(compile(path.read_text(), str(path), "exec")):
        for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
            assert not entry.lasti or entry.end // 2 <= 257, code.co_qualname
