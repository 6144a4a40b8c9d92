"""The local cloud: other users, planted folders, kill -9 at each step, and secrets where they must not be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kluis.errors import UnavailableError
from kluis.serve.cloud import processes, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run
from tests import clouds
from tests.clouds import Cloud

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

KILLED = """
import os, signal, sys
which, number, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
first, seen = os.getpid(), 0

def hook(event, arguments):
    global seen
    if event not in ("open", "os.rename", "os.mkdir", "os.remove", "os.fork", "fcntl.flock", "socket.bind"):
        return
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and folder not in str(arguments[0]):
        return
    if (os.getpid() == first) != (which == "command"):
        return
    seen += 1
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
from kluis.cli.main import run
sys.exit(run(["up", "-d", "--port", "0", "provisioning", "--json"]))
"""
"""Starts a local cloud whose command, or whose background process, is killed as it begins its Nth step."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A local cloud that may run or not."""
    made = Cloud(clouds.prepare(tmp_path_factory.mktemp("cloud")))
    yield made
    made.close()


def killed(cloud: Cloud, which: str, number: int) -> int:
    """Start it, with a kill at a step; the exit code of the command."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, which, str(number), str(cloud.path)],
        capture_output=True,
        text=True,
        env=cloud.environment,
        timeout=clouds.SECONDS,
        check=False,
    )
    assert done.returncode in (0, 7, -signal.SIGKILL), done.stderr
    if done.returncode == 7:
        assert json.loads(done.stderr)["code"] == "cloud_ended", done.stderr
    return done.returncode


def settle(cloud: Cloud) -> str:
    """Wait until the services serve, or have ended; the code of the error, or ``ready``."""
    waited = cloud.run("wait", "--timeout", "240", "--json")
    assert waited.code in (0, 7), waited.err
    return "ready" if waited.code == 0 else json.loads(waited.err)["code"]


def check_goes_on(cloud: Cloud) -> None:
    """From whatever state is left, it stops, starts and serves."""
    down = cloud.run("down", "--json")
    assert down.code in (0, 7), down.err
    started = cloud.run("up", "-d", "--port", "0", "provisioning", "--json")
    assert started.code == 0, started.err
    assert settle(cloud) == "ready"
    (service,) = cloud.run("status", "--json").value["services"]
    assert service["ready"]
    assert cloud.run("down").code == 0


def test_the_command_is_killed(cloud: Cloud) -> None:
    """A start whose command is killed either has not begun, or goes on without it; neither is in the way."""
    killed(cloud, "command", 4)
    assert settle(cloud) in ("ready", "cloud_stopped", "cloud_missing", "cloud_ended")
    check_goes_on(cloud)


def test_the_background_process_is_killed(cloud: Cloud) -> None:
    """A start whose background process is killed is reported, and the next one succeeds."""
    killed(cloud, "background", 9)
    assert settle(cloud) in ("cloud_ended", "cloud_stopped", "ready")
    check_goes_on(cloud)


@pytest.mark.slow
def test_killed_at_every_step(cloud: Cloud) -> None:
    """The same at each step of both processes, one after the other in the same folder."""
    for which in ("command", "background"):
        number = 1
        while True:
            code = killed(cloud, which, number)
            ended = settle(cloud)
            cloud.run("down")
            if ended == "ready" and code == 0:
                break
            number += 1
        assert number > 5
    check_goes_on(cloud)


@pytest.fixture
def running(cloud: Cloud) -> Cloud:
    """The local cloud, which serves."""
    if cloud.run("status").code:
        assert cloud.run("up", "-d", "--port", "0", "provisioning").code == 0
        assert settle(cloud) == "ready"
    return cloud


def test_killed_while_it_serves(running: Cloud) -> None:
    """Its enclaves end with it, every command states that it ended, and it starts again with its data."""
    cloud, before = running, running.run("env", "--json").value
    status = cloud.run("status", "--json").value
    enclaves = [processes.find(pid) for each in status["services"] for pid in each["pids"]]
    assert enclaves
    assert None not in enclaves
    os.kill(status["pid"], signal.SIGKILL)
    for words in (["status"], ["env"], ["wait"]):
        said = cloud.run(*words, "--json")
        assert said.code == 7
        assert json.loads(said.err)["code"] == "cloud_ended"
    assert all(each is not None and processes.await_end(each, 120) for each in enclaves)
    assert cloud.run("up", "-d", "provisioning").code == 0
    assert settle(cloud) == "ready"
    assert cloud.run("env", "--json").value == before


@needs_root
@pytest.mark.root
def test_another_user(running: Cloud) -> None:
    """Another user lists, reads, writes and locks nothing of the folder, while it runs."""
    cloud = running
    program = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder, done = sys.argv[1], []
names = ("", "/log", "/run.json", "/cloud.json", "/client.pem", "/lock", "/services/issuer/clients.json")
for name in names:
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            os.open(folder + name, flags)
            done.append(name)
        except (PermissionError, IsADirectoryError):
            pass
for attempt in (lambda: os.rename(folder, folder + "2"), lambda: os.mkdir(folder + "/x"),
                lambda: os.listdir(folder), lambda: os.chmod(folder, 0o777)):
    try:
        attempt()
        done.append(attempt)
    except PermissionError:
        pass
sys.exit(repr(done) if done else 0)
"""
    # Its parents are open to all, so that nothing but the folder itself keeps the user out.
    for parent in list(cloud.path.parents)[:-2]:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, str(cloud.path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["up", "status", "down", "logs", "env"])
def test_a_link_to_a_folder(tmp_path: Path, command: str) -> None:
    """A symbolic link is refused, also to a folder that would do; nothing is written through it."""
    target = Folder.create(tmp_path / "target").path
    before = sorted(target.iterdir())
    (tmp_path / "link").symlink_to(target)
    said = Cloud(tmp_path / "link").run(command, "--json")
    assert said.code == 7
    assert json.loads(said.err)["error"] == f"{tmp_path}/link: want a folder, got a link or a file"
    assert sorted(target.iterdir()) == before


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770, 0o701, 0o777])
def test_a_folder_that_others_may_enter(tmp_path: Path, mode: int) -> None:
    """It is refused with the command that fixes it, and not changed."""
    folder = Folder.create(tmp_path / "cloud").path
    folder.chmod(mode)
    for make in (Folder.create, Folder.open):
        with pytest.raises(UnavailableError) as caught:
            make(folder)
        assert caught.value.message == f"{folder}: mode: want 0700, got {mode:04o}"
        assert caught.value.hint == f"chmod 0700 {folder}"
    assert folder.stat().st_mode & 0o777 == mode


def test_a_parent_that_anyone_may_write(tmp_path: Path) -> None:
    """Anyone could exchange the folder there: it is refused; with the sticky bit, it is not."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UnavailableError, match=r"open: others may replace what is in it"):
        Folder.create(tmp_path / "open" / "cloud")
    (tmp_path / "open").chmod(0o1777)
    Folder.create(tmp_path / "open" / "cloud")


@needs_root
@pytest.mark.root
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """A folder that another user made ready is refused."""
    folder = Folder.create(tmp_path / "cloud").path
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(UnavailableError) as caught:
        Folder.create(folder)
    assert caught.value.message == f"{folder}: owner: want 0, got {NOBODY}"


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_parent_of_another_user(tmp_path: Path, mode: int) -> None:
    """Its owner could exchange the folder there, with the sticky bit too."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(mode)
    os.chown(theirs, NOBODY, NOBODY)
    with pytest.raises(UnavailableError) as caught:
        Folder.create(theirs / "cloud")
    assert caught.value.code == "state_owner"
    assert caught.value.message.startswith(f"{theirs}: its owner may replace what is in it")


@pytest.mark.parametrize("name", ["lock", "log", "cloud.json", "run.json"])
def test_links_in_the_folder(tmp_path: Path, name: str) -> None:
    """A file of the folder that is a link is not followed: its target is neither read nor written."""
    folder = Folder.create(tmp_path / "cloud").path
    (tmp_path / "target").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "target")
    cloud = Cloud(folder)
    for words in (["status"], ["down"], ["logs"]):
        assert cloud.run(*words).code in (3, 7) or name in ("lock", "run.json", "cloud.json")
    assert (tmp_path / "target").read_text() == "{}"


SECRETS = re.compile(r"-----BEGIN (?:\w+ )*PRIVATE KEY-----|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}")


def test_no_secret_leaves(running: Cloud) -> None:
    """No client's secret, no key and no token is in an output, a log, argv or an environment."""
    cloud = running
    clients = json.loads((cloud.path / "services/issuer/clients.json").read_text())
    secrets = [each["secret"] for each in clients]
    assert len(secrets) > 3
    lines = (cloud.path / "client.pem").read_text().splitlines()
    secrets += [line for line in lines[: lines.index("-----END PRIVATE KEY-----")] if len(line) > 40]
    pid = cloud.run("status", "--json").value["pid"]
    seen = {
        name: cloud.run(*words).out
        for name, words in (
            ("env", ["env"]),
            ("env --json", ["env", "--json"]),
            ("env --plain", ["env", "--plain"]),
            ("status", ["status", "--json"]),
            ("logs", ["logs", "-n", "100000"]),
        )
    }
    for name in ("cmdline", "environ"):
        seen[name] = Path(f"/proc/{pid}/{name}").read_text()
    for name in ("log", "run.json", "cloud.json"):
        seen[name] = (cloud.path / name).read_text()
    assert all(seen.values()), [name for name, text in seen.items() if not text]
    assert [name for name, text in seen.items() if SECRETS.search(text)] == []
    assert [name for name, text in seen.items() for secret in secrets if secret in text] == []
    modes = {path.name: path.stat().st_mode & 0o077 for path in cloud.path.iterdir()}
    assert {name: mode for name, mode in modes.items() if mode} == {}


def test_another_process_with_the_recorded_pid(cloud: Cloud) -> None:
    """A record whose pid belongs to another process by now: ``down`` signals nothing."""
    cloud.run("down")
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]) as other:
        found = processes.find(other.pid)
        assert found is not None
        older = msgspec.structs.replace(found, started=found.started - 1)
        record.write(Folder(cloud.path), Run(older, "ready"))
        assert cloud.run("down", "--json").value == {"stopped": False}
        assert other.poll() is None
        other.kill()
