"""Root, the host and other users try to read a planted secret out of an enclave."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.doctor import attempts
from kluis.tee.process import sandbox
from tests.adversary import attacks
from tests.adversary.victim_secret import secret_of

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
COPIES = 2000


@pytest.fixture(scope="module")
def victim(victim_image: Path, allowed: frozenset[str]) -> Iterator[EnclaveProxy]:
    """One enclave, which all of them try to read."""
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        yield enclave


@pytest.fixture(scope="module")
def seed(victim: EnclaveProxy) -> str:
    """The seed of a secret that the victim holds 2,000 times on its heap and on two stacks."""
    text = secrets.token_hex(8)
    assert victim.plant(text, COPIES) == COPIES
    return text


@root
def test_scan_of_a_plain_process_finds_it() -> None:
    """The scan works: the same secret in an ordinary Python is found thousands of times."""
    code = "import sys,hashlib;s=b'PLANTED-'+hashlib.sha256(b'x').hexdigest().encode();"
    code += "h=[s+str(n).encode() for n in range(2000)];print('ready',flush=True);sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as plain:
        assert plain.stdout is not None
        plain.stdout.readline()
        _, found = attacks.copies(plain.pid, "x")
        plain.kill()

    assert found >= COPIES


@root
def test_root_scan_of_memory(victim: EnclaveProxy, seed: str) -> None:
    """Root reads all that /proc/PID/mem gives of the enclave: megabytes, and no copy of the secret."""
    read, found = attacks.copies(victim.pid, seed)

    assert read > 1 << 20
    assert found == 0


@root
def test_root_process_vm_readv(victim: EnclaveProxy, seed: str) -> None:
    """process_vm_readv as root finds no copy either."""
    assert attempts.by_memory_call(victim.pid, secret_of(seed)).copies == 0


@root
def test_root_ptrace(victim: EnclaveProxy, seed: str) -> None:
    """A second debugger is refused."""
    assert attempts.by_debugger(victim.pid) == "operation not permitted"


@root
def test_gdb(victim: EnclaveProxy, seed: str) -> None:
    """Gdb does not attach."""
    _, said = attacks.tool("gdb", "-batch", "-nx", "-p", str(victim.pid), "-ex", "info threads")

    assert "ptrace: Operation not permitted" in said
    assert victim.alive() == "alive"


@root
def test_gcore(victim: EnclaveProxy, seed: str, tmp_path: Path) -> None:
    """Gcore writes no core."""
    attacks.tool("gcore", "-o", str(tmp_path / "core"), str(victim.pid))

    assert list(tmp_path.iterdir()) == []


@root
def test_strace(victim: EnclaveProxy, seed: str) -> None:
    """Strace does not attach."""
    _, said = attacks.tool("timeout", "5", "strace", "-f", "-p", str(victim.pid))

    assert "Operation not permitted" in said


@root
def test_py_spy(victim: EnclaveProxy, seed: str) -> None:
    """py-spy shows no stack and no local."""
    spy = shutil.which("py-spy") or str(Path(sys.executable).parent / "py-spy")
    for extra in ([], ["--nonblocking"]):
        code, said = attacks.tool(spy, "dump", "--locals", *extra, "--pid", str(victim.pid))
        assert code != 0
        assert "PLANTED" not in said


@root
def test_core_dump_of_a_crash(victim_image: Path, tmp_path: Path) -> None:
    """A crash inside leaves no core, wherever cores go."""
    with load(victim_image) as enclave:
        pid = enclave.pid
        enclave.plant("before a crash", COPIES)
        limit = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in limit.splitlines() if line.startswith("Max core")).split()[4] == "0"
        with pytest.raises(Exception, match="ended"):
            enclave.crash()

    assert attacks.gone_within(pid, attacks.SOON)
    assert not [name for name in Path("/").glob("core*") if str(pid) in name.name]


@root
def test_environ_and_maps_hold_no_secret(victim: EnclaveProxy, seed: str) -> None:
    """Environment, command line and map carry nothing but what is public."""
    for name in ("environ", "cmdline", "maps", "smaps", "stack", "status"):
        assert secret_of(seed) not in Path(f"/proc/{victim.pid}/{name}").read_bytes()


@root
def test_map_files(victim: EnclaveProxy, seed: str) -> None:
    """No file that is mapped can be opened to the secret, the heap itself included."""
    opened = 0
    for link in Path(f"/proc/{victim.pid}/map_files").iterdir():
        try:
            data = link.read_bytes()
        except OSError:
            continue
        opened += 1
        assert secret_of(seed) not in data
    assert opened


@root
def test_descriptors(victim: EnclaveProxy, seed: str) -> None:
    """No descriptor of the enclave leads to its heap."""
    for link in Path(f"/proc/{victim.pid}/fd").iterdir():
        assert "secretmem" not in os.readlink(link)
        if os.readlink(link).startswith(("/memfd", "/")):
            assert secret_of(seed) not in link.read_bytes()


@root
def test_its_file_system_holds_no_secret(victim: EnclaveProxy, seed: str) -> None:
    """/proc/PID/root shows the measured image and nothing the enclave wrote."""
    inside = Path(f"/proc/{victim.pid}/root")

    assert {entry.name for entry in inside.iterdir()} <= {"k", "dev", "proc"}
    assert {entry.name for entry in (inside / "k").iterdir()} <= {
        "python",
        "kluis",
        "site",
        "app",
        "guardian",
    }


@root
def test_nothing_is_swapped(victim: EnclaveProxy, seed: str) -> None:
    """The heap is locked: no page of it goes to swap."""
    smaps = Path(f"/proc/{victim.pid}/smaps").read_text()
    heap = smaps[smaps.index("secretmem") :].split("VmFlags:", 1)

    assert "Swap:                  0 kB" in heap[0]
    assert "lo" in heap[1].splitlines()[0].split()


@root
@pytest.mark.parametrize("what", ["mem", "environ", "maps", "root", "fd"])
def test_another_user_sees_nothing(victim: EnclaveProxy, seed: str, what: str) -> None:
    """Another user is refused at the door of every file under /proc/PID."""
    code = "import sys,os;p=sys.argv[1];print(os.listdir(p) if os.path.isdir(p) else open(p,'rb').read(9))"
    said = attacks.as_user(attacks.NOBODY, code, f"/proc/{victim.pid}/{what}")

    assert "PermissionError" in said


@root
def test_the_host_application_is_another_user(victim: EnclaveProxy) -> None:
    """The enclave has a separate user id; neither it nor its guardian has a capability left."""
    own, guard = attacks.status(victim.pid), attacks.status(attacks.guardian_of(victim.pid))

    assert int(own["Uid"].split()[0]) >= sandbox.ENCLAVE_UIDS
    for field, value in (("CapEff", "0" * 16), ("CapPrm", "0" * 16), ("NoNewPrivs", "1"), ("Seccomp", "2")):
        assert own[field] == guard[field] == value


@root
@pytest.mark.slow
@pytest.mark.parametrize("run", range(20))
def test_twenty_runs(victim_image: Path, run: int) -> None:
    """In 20 runs of 20 no copy of the secret is found on the heap or on any stack."""
    with load(victim_image) as enclave:
        enclave.plant(f"run {run}", 50_000)

        assert attacks.copies(enclave.pid, f"run {run}")[1] == 0
