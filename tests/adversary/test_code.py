"""Code that was not measured: changed layers, other signers, paths and hooks of the interpreter."""

from __future__ import annotations

import importlib.util
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis import measured
from kluis.errors import AuthenticityError, EnclaveDied, FormatError, KluisError
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee import places
from kluis.tee.image import read_image
from kluis.tee.image.build.builder import build
from kluis.tee.places import Places
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

HERE = Path(__file__).parent


def changed(image: Path, into: Path, offset: Callable[[Path], int]) -> Path:
    """A copy of ``image`` with one bit of one byte flipped."""
    shutil.copy(image, into)
    at = offset(into)
    with open(into, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    return into


def in_manifest(image: Path) -> int:
    """A byte of the manifest: a digit of its svn."""
    return image.read_bytes()[: 1 << 16].index(b'"svn":') + 6


def in_signature(image: Path) -> int:
    """A byte of the RSA signature."""
    with open(image, "rb") as file:
        return read_image(file).sigstruct_offset + 516 + 100


def in_debug_attribute(image: Path) -> int:
    """The byte of SIGSTRUCT's attributes; its lowest bit is INIT."""
    with open(image, "rb") as file:
        return read_image(file).sigstruct_offset + 928


def in_application(image: Path) -> int:
    """A byte of app.py in the application's layer."""
    with open(image, "rb") as file:
        layer = read_image(file).layer("app")
    assert layer is not None
    entry = next(entry for entry in layer.files if entry.path == "app.py")
    return layer.data_offset + entry.offset + 10


def test_changed_code_is_refused(platform: Platform, tmp_path: Path, allowed: frozenset[str]) -> None:
    """One flipped bit in the code of an image not held yet is refused, and the file is named."""
    shutil.copytree(HERE / "victim", tmp_path / "victim", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "victim" / "fresh.py").write_text(f"WHEN = {os.getpid()}\n")
    image = build(tmp_path / "victim", tmp_path / "fresh.kluis", tmp_path / "author.pem", debug=False).path

    with pytest.raises(AuthenticityError, match=r"layer app: 'app\.py': want SHA-256"):
        platform.launch(changed(image, tmp_path / "changed.kluis", in_application), allow_missing=allowed)


def test_held_code_is_what_runs(
    platform: Platform, victim_image: Path, tmp_path: Path, allowed: frozenset[str]
) -> None:
    """Of an image that is held the code is not read again: what was measured is what runs."""
    with load(victim_image, insecure_allow_missing=allowed):
        pass
    bad = changed(victim_image, tmp_path / "changed.kluis", in_application)
    with load(bad, insecure_allow_missing=allowed) as enclave:
        assert enclave.alive() == "alive"


@pytest.mark.parametrize("where", [in_manifest, in_signature, in_debug_attribute])
def test_one_changed_bit_is_refused(
    platform: Platform, victim_image: Path, tmp_path: Path, where: Callable[[Path], int]
) -> None:
    """One flipped bit in manifest, signature or attributes: the platform does not launch it."""
    with pytest.raises((AuthenticityError, FormatError)):
        platform.launch(changed(victim_image, tmp_path / "changed.kluis", where))


def test_image_changed_during_launch(
    platform: Platform, victim_image: Path, tmp_path: Path, allowed: frozenset[str]
) -> None:
    """What runs is what was measured: writing into the file afterwards changes nothing inside."""
    copy = tmp_path / "copy.kluis"
    shutil.copy(victim_image, copy)
    at = in_application(copy)
    with load(copy, insecure_allow_missing=allowed) as enclave:
        with open(copy, "r+b") as file:
            file.seek(at)
            file.write(b"import os; os._exit(1)\n")
        assert enclave.alive() == "alive"
        with pytest.raises(KluisError):
            load(changed(copy, tmp_path / "again.kluis", in_manifest), insecure_allow_missing=allowed)


def test_layers_are_read_only_inside(victim: EnclaveProxy) -> None:
    """The measured files cannot be written from inside."""
    assert victim.escape("write-code") in {"OSError 30", "PermissionError 13", "PermissionError 1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_does_not_reach_the_layers(platform: Platform, victim: EnclaveProxy, home: Path) -> None:
    """The unpacked layers are in a mount namespace of the platform's own: others find an empty directory."""
    code = "import os,sys;print(os.listdir(sys.argv[1]))"
    said = attacks.as_user(attacks.NOBODY, code, str(home / "run" / "layers"))

    assert "PermissionError" in said or said.strip() == "[]"
    assert list((home / "run" / "layers").iterdir()) == []


def test_interpreter_is_isolated(victim: EnclaveProxy) -> None:
    """Isolated mode, no site, and modules only from the measured layers."""
    isolated, no_site, *paths = victim.interpreter()

    assert isolated == "isolated=1"
    assert no_site == "no_site=1"
    assert paths
    assert all(path.startswith("/k/") for path in paths)


@pytest.mark.parametrize("name", ["site", "sitecustomize", "usercustomize"])
def test_hooks_are_not_loaded(victim: EnclaveProxy, name: str) -> None:
    """Neither sitecustomize nor usercustomize can be found inside; site is not loaded."""
    if name == "site":
        assert "site" not in {path.rsplit("/", 1)[-1] for path in victim.interpreter()}
    else:
        assert victim.loaded(name) is False


@pytest.fixture
def injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """A platform that was started under an environment which injects code."""
    home = Path(tempfile.mkdtemp(prefix="kluis-environment-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    (tmp_path / "injected.py").write_text("")
    monkeypatch.setenv("KLUIS_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", PRELOADED)
    popen = subprocess.Popen
    monkeypatch.setattr(  # a starter of another kind than ours, which hands its whole environment on
        subprocess, "Popen", lambda *given, **more: popen(*given, **{**more, "env": dict(os.environ)})
    )
    try:
        yield start.start()
    finally:
        start.stop(places.mine())
        shutil.rmtree(home, ignore_errors=True)


PRELOADED = "libcrypt.so.1"
"""A library that a machine has, and the base layer too, and that nothing here uses."""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to see what an enclave has mapped")
def test_host_environment_injects_nothing(injected: Places, victim_image: Path) -> None:
    """PYTHONPATH and LD_PRELOAD, of the host and of who starts the platform, reach no enclave."""
    daemon = int(start.ask(injected, {"op": "status"})["pid"])
    with load(victim_image) as enclave:
        mapped = {pid: PRELOADED in Path(f"/proc/{pid}/maps").read_text() for pid in (enclave.pid, daemon)}
        assert enclave.loaded("injected") is False
    spawner = int(attacks.status(daemon)["PPid"])

    assert mapped == {enclave.pid: False, daemon: False}
    while b"kluis.tee.platform.launching.main" not in Path(f"/proc/{spawner}/cmdline").read_bytes():
        spawner = int(attacks.status(spawner)["PPid"])
    assert PRELOADED in Path(f"/proc/{spawner}/maps").read_text()  # it was injected where it can be


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
STDLIB = f"/k/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
CHANGED = "code was changed from outside"


def bytecode(source: str) -> bytes:
    """A module whose source is never looked at."""
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    return head + marshal.dumps(compile(source, "found", "exec"))


def test_a_module_is_imported(victim: EnclaveProxy) -> None:
    """The modules that are mounted over below are imported while nobody does so."""
    for name in ("wave", "resource", "ctypes"):
        assert victim.bring(name) == "nothing"


@root
@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("wave", f"{STDLIB}/__pycache__/wave.{sys.implementation.cache_tag}.pyc"),
        ("resource", f"{STDLIB}/lib-dynload/resource.{sys.implementation.cache_tag}-x86_64-linux-gnu.so"),
    ],
)
def test_a_file_mounted_over_a_module(victim: EnclaveProxy, tmp_path: Path, name: str, over: str) -> None:
    """Root mounts another file over a module that a running enclave imports next: the enclave ends."""
    (tmp_path / "own").write_bytes(bytecode("FOUND = 'code of root'"))
    attacks.mount_over(victim.pid, tmp_path / "own", over)

    with pytest.raises(EnclaveDied, match=CHANGED):
        victim.bring(name)


@root
def test_a_module_added_to_the_layers(victim: EnclaveProxy) -> None:
    """A module that no index has, where the application's layer is unpacked: its import ends the enclave."""
    added = attacks.writable_twin(f"/proc/{victim.pid}/root/k/app/app.py").with_name("added.py")
    added.write_text("FOUND = 'code of root'\n")
    try:
        with pytest.raises(EnclaveDied, match=CHANGED):
            victim.bring("added")
    finally:
        added.unlink()


@root
def test_a_module_edited_in_the_layers(victim_image: Path, victim: EnclaveProxy) -> None:
    """One edit of the application where its layer is unpacked: no later launch runs it."""
    inside = f"/proc/{victim.pid}/root/k/app/__pycache__/app.{sys.implementation.cache_tag}.pyc"
    twin = attacks.writable_twin(inside)
    before = twin.read_bytes()
    try:
        twin.chmod(0o644)
        twin.write_bytes(bytecode("raise SystemExit('code of root')"))
        with pytest.raises(EnclaveDied, match=CHANGED):
            load(victim_image)
    finally:
        twin.write_bytes(before)
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"


KLUIS = "/k/kluis/msgspec/_core.{tag}-x86_64-linux-gnu.so"


@root
@pytest.mark.parametrize(
    ("library", "room"),
    [("/k/python/lib/libgcc_s.so.1", 0), (KLUIS.format(tag=sys.implementation.cache_tag), measured.LARGE)],
    ids=["needed by a large one", "grown large"],
)
def test_a_library_that_comes_with_the_runtime(
    victim_image: Path, victim: EnclaveProxy, library: str, room: int
) -> None:
    """A library that loads before the runtime hashes quickly: an edit is seen, whatever its size."""
    twin = attacks.writable_twin(f"/proc/{victim.pid}/root{library}")
    before = twin.read_bytes()
    try:
        twin.chmod(0o644)
        with twin.open("ab") as file:
            file.write(bytes(1 + room))
        with pytest.raises((AuthenticityError, EnclaveDied), match=r"was changed|is not the measured"):
            load(victim_image)
    finally:
        if twin.exists():
            twin.write_bytes(before)
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"


@root
def test_a_library_added_to_the_application(victim_image: Path, victim: EnclaveProxy) -> None:
    """The loader looks in ``glibc-hwcaps`` below any folder of libraries: a file more is seen."""
    twin = attacks.writable_twin(f"/proc/{victim.pid}/root/k/app/app.py")
    added = twin.parent / "app.libs" / "glibc-hwcaps" / "x86-64-v2" / "libz.so.1"
    added.parent.mkdir(parents=True)
    added.write_bytes(b"of root")

    with pytest.raises(AuthenticityError, match="was changed on this machine after it was measured"):
        load(victim_image)
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"


@root
@pytest.mark.parametrize("how", ["changed", "added", "removed", "data"])
def test_a_library_edited_in_the_layers(victim_image: Path, victim: EnclaveProxy, how: str) -> None:
    """An edit of what runs before imports are checked: the launch is refused, the next reads the image."""
    twin = attacks.writable_twin(f"/proc/{victim.pid}/root/k/python/lib/libc.so.6")
    if how == "changed":
        twin.chmod(0o644)
        with twin.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
    elif how == "added":
        (twin.parent / "glibc-hwcaps" / "x86-64-v2").mkdir(parents=True)
        shutil.copy(twin, twin.parent / "glibc-hwcaps" / "x86-64-v2")
    elif how == "removed":
        twin.unlink()
    else:
        data = attacks.writable_twin(f"/proc/{victim.pid}/root{STDLIB}/LICENSE.txt")
        data.chmod(0o644)
        data.write_text("of root")

    with pytest.raises(AuthenticityError, match="was changed on this machine after it was measured"):
        load(victim_image)
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"
