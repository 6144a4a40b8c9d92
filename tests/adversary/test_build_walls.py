"""An application that attacks the machine that builds it: each attempt as it is imported, each refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.errors import UnavailableError, UsageError
from kluis.tee import image
from kluis.tee.image import sources
from kluis.tee.image.build import asked, builder, interface, walls
from kluis.tee.measure import rebuild
from tests.tee.image import samples

SECRET = "planted-3f9c"
ANSWER = """
class Fake:
    name, product_id, svn = "fake", 1, 2
    def interface(self):
        return {{"got": got}}
app = Fake()
"""
ATTEMPT = """
try:
    got = {}
except BaseException as error:
    got = type(error).__name__
"""


@pytest.fixture(autouse=True)
def bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")


def attempt(work: Path, expression: str, before: str = "") -> object:
    """What ``expression`` gives an application as it is imported: a value, or the error's class."""
    return answer(work, before + ATTEMPT.format(expression))


def answer(work: Path, text: str) -> object:
    app = sources.of_bytes("app.py", (text + ANSWER.format()).encode())
    found = interface.ask("app:app", {"app": [app]}, {}, samples.python(), work)
    return json.loads(found.interface)["got"]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room key under the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / ".config" / "kluis" / "party.key"
    path.parent.mkdir(parents=True)
    path.write_text(SECRET)
    return path


def test_no_key_is_read(tmp_path: Path, key: Path) -> None:
    """Neither by its path nor by its owner's home; nor is it in the environment."""
    assert attempt(tmp_path, f"open({str(key)!r}).read()") == "FileNotFoundError"
    for path in ("/root", "/home", "/etc/passwd", "/proc/self/environ", "/sys", str(Path(__file__).parent)):
        assert attempt(tmp_path, f"str(os.stat({path!r}))", "import os") == "FileNotFoundError"
    assert str(key.parents[2]) not in str(attempt(tmp_path, "dict(os.environ)", "import os"))


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    """The layers and the root are read-only; /tmp is private to the application, and removed."""
    target = tmp_path / "written"
    target.touch(mode=0o666)
    assert attempt(tmp_path, f"open({str(target)!r}, 'w').write('x')") == "FileNotFoundError"
    for path in ("/x", "/k/x", "/k/app/x", "/k/app/app.py", "/k/python/bin/python", "/dev/x"):
        code = (
            f"import errno\ntry: open({path!r}, 'w')\nexcept OSError as e: got = errno.errorcode[e.errno]\n"
        )
        assert answer(tmp_path, code) == "EROFS"
    mark = Path("/tmp") / f"kluis-{SECRET}"
    assert attempt(tmp_path, f"open({str(mark)!r}, 'w').write('x')") == 1
    assert not mark.exists()
    assert target.read_text() == ""


def test_tmp_is_bounded(tmp_path: Path) -> None:
    """A private /tmp takes no more than its size, in however many files."""
    fill = "[open(f'/tmp/{i}', 'wb').write(bytes(16 << 20)) for i in range(9)]"
    assert attempt(tmp_path, fill) == "OSError"


def test_no_listener_is_reached(tmp_path: Path) -> None:
    """Neither on the loopback nor on an abstract Unix socket of this machine; no other family is there."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        port, name = tcp.getsockname()[1], f"\0kluis-{SECRET}"
        unix.bind(name)
        unix.listen()
        connect = f"socket.create_connection(('127.0.0.1', {port}), 5).close()"
        assert attempt(tmp_path, connect, "import socket") == "ConnectionRefusedError"
        unix_connect = f"socket.socket(socket.AF_UNIX).connect({name!r})"
        assert attempt(tmp_path, unix_connect, "import socket") == "ConnectionRefusedError"
        for made in (tcp, unix):
            made.settimeout(0)
            with pytest.raises(BlockingIOError):
                made.accept()
    for family in (socket.AF_VSOCK, socket.AF_NETLINK, 38):  # the last is AF_ALG
        made_of = f"socket.socket({int(family)}, socket.SOCK_STREAM)"
        code = f"import errno, socket\ntry: {made_of}\nexcept OSError as e: got = errno.errorcode[e.errno]\n"
        assert answer(tmp_path, code) == "EAFNOSUPPORT"


def test_no_process_is_seen(tmp_path: Path) -> None:
    """The machine's processes have no number within the walls, and no /proc shows them."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert attempt(tmp_path, f"os.kill({other.pid}, 9)", "import os") == "ProcessLookupError"
        assert other.poll() is None
        other.communicate(b"\n")
    assert attempt(tmp_path, "os.listdir('/proc')", "import os") == "FileNotFoundError"
    pids = "[pid for pid in range(1, 1 << 16) if there(pid)]"
    there = """
import os
def there(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except PermissionError: return True
    return True
"""
    assert attempt(tmp_path, pids, there) == [1, 2]


def test_no_process_is_made(tmp_path: Path) -> None:
    """A fork bomb ends at its first fork; threads are bounded, and no program starts."""
    assert attempt(tmp_path, "[os.fork() for _ in range(20)]", "import os") == "PermissionError"
    started = "__import__('subprocess').run(['/k/python/bin/python'])"
    assert attempt(tmp_path, started) == "PermissionError"
    replaced = "os.execv('/k/python/bin/python', ['python'])"
    assert attempt(tmp_path, replaced, "import os") == "PermissionError"
    threads = """
import threading
def thread():
    t = threading.Thread(target=threading.Event().wait, daemon=True)
    t.start()
    return 1
"""
    assert attempt(tmp_path, "sum(thread() for _ in range(8))", threads) == 8
    assert attempt(tmp_path, "sum(thread() for _ in range(500))", threads) == "RuntimeError"


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory beyond the limit is refused, even memory outside its address space."""
    assert attempt(tmp_path, f"len(bytearray({walls.MOST_MEMORY_BYTES}))") == "MemoryError"
    monkeypatch.setattr(walls, "MOST_MEMORY_BYTES", 1 << 30)
    assert attempt(tmp_path, "len([bytes(1 << 26) for _ in range(99)])") == "MemoryError"
    raised = "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    assert attempt(tmp_path, raised, "import resource") == "ValueError"
    assert attempt(tmp_path, "os.memfd_create('x')", "import os") == "PermissionError"


def test_processor_time_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop is ended by the limit, whatever the wall clock's bound is."""
    given = walls.limits(1)
    monkeypatch.setattr(walls, "limits", lambda seconds: given)
    with pytest.raises(UsageError, match=r"^app:app: cannot be imported: "):
        answer(tmp_path, "while True: pass\n")


def test_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it prints nor what it answers fills memory or a disk; its words reach no terminal raw."""
    monkeypatch.setattr(walls, "MOST_OUTPUT_BYTES", 8 << 20)
    with pytest.raises(UsageError, match=r"^app:app: cannot be imported: "):
        answer(tmp_path, "import os\nwhile os.write(1, bytes(1 << 20)): pass\n")
    with pytest.raises(UsageError, match=r"^app:app: cannot be imported: \?\[31m\n"):
        answer(tmp_path, "import os\nos.write(1, b'\\x1b[31m')\nos._exit(1)\n")
    assert len(list(tmp_path.iterdir())) == 0


def test_the_kernel_answers_little(tmp_path: Path) -> None:
    """Keys of the user's session, other processes, namespaces and handles of files are refused."""
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
got = {}
for name, number in CALLS.items():
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
    got[name] = ctypes.get_errno() if result < 0 else 0
"""
    calls = {
        **asked.REFUSED,
        **{"keyctl": 250, "add_key": 248, "ptrace": 101, "unshare": 272, "bpf": 321, "shmget": 29},
        **{"io_uring_setup": 425, "open_by_handle_at": 304, "memfd_create": 319, "execve": 59},
    }
    assert answer(tmp_path, code.replace("CALLS", repr(calls))) == dict.fromkeys(calls, 1)


def test_it_has_no_rights(tmp_path: Path) -> None:
    """It runs as nobody of this machine's, and cannot become anybody."""
    user = attempt(tmp_path, "[*os.getresuid(), *os.getresgid(), os.getgroups()]", "import os")
    wanted = walls.own_id() or walls.NOBODY
    assert isinstance(user, list)
    assert user[:6] == [wanted] * 6
    assert attempt(tmp_path, "os.setuid(0)", "import os") in ("PermissionError", "OSError")


# What is built and rebuilt.

READS = """
from kluis.enclave import Enclave
try:
    found = open({path!r}).read()
except OSError:
    found = "nothing"
app = Enclave("hello", product_id=7, svn=3)
@app.ecall
def greet(who: str) -> str: return who
app.name = found
"""


def folder(tmp_path: Path, path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    (made / "app.py").write_text(READS.format(path=str(path)))
    return made


def test_neither_build_nor_rebuild_reads_a_key(tmp_path: Path, key: Path) -> None:
    """Both import the application within the same walls, so what builds has the same id again."""
    source, out = folder(tmp_path, key), tmp_path / "out.kluis"
    cache = tmp_path / "cache"
    built = builder.build(source, out, tmp_path / "author.pem", cache_folder=cache)
    with out.open("rb") as f:
        assert image.archive.read_image(f).manifest.name == "nothing"
    assert rebuild.rebuild(out, source, lambda line: None) == (built.image_id, [])


def test_a_rebuild_follows_no_link_out_of_the_folder(tmp_path: Path, key: Path) -> None:
    """A link to a key would put it in the image, where the application reads it."""
    source, out = folder(tmp_path, key), tmp_path / "out.kluis"
    builder.build(source, out, tmp_path / "author.pem")
    (source / "inside.txt").symlink_to("app.py")
    (source / "deep").mkdir()
    (source / "deep" / "data.txt").symlink_to(key)
    with pytest.raises(
        UsageError, match=r"data\.txt: want a link that stays in the folder, got one out of it"
    ):
        rebuild.rebuild(out, source, lambda line: None)


@pytest.mark.parametrize("command", ["build", "rebuild"])
def test_without_bubblewrap_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Both commands end with the line that installs it."""
    source, out = folder(tmp_path, tmp_path / "none"), tmp_path / "out.kluis"
    builder.build(source, out, tmp_path / "author.pem")
    monkeypatch.setenv("PATH", str(tmp_path))
    line = [str(source), "-o", str(out), "--unsigned"] if command == "build" else [str(out), str(source)]
    assert run([command, *line]) == 7
    said = capsys.readouterr().err
    assert "bwrap is not on the PATH" in said
    assert "apt-get install bubblewrap" in said


def test_where_namespaces_are_refused_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of bubblewrap is reported, and the application does not run."""
    mark = tmp_path / "imported"
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnavailableError, match="setting up uid map: Permission denied") as caught:
        attempt(tmp_path, f"open({str(mark)!r}, 'w')")
    assert caught.value.code == "no_walls"
    assert not mark.exists()
