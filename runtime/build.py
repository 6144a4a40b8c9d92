"""Build the wheel ``kluis-runtime`` from pinned inputs, or pin them again.

    python runtime/build.py wheel [--python 3.11] [--out dist]    the same inputs give the same bytes
    python runtime/build.py pin 3.11                              takes the versions that Debian has now

A wheel that was built from the same inputs is taken from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import inputs  # noqa: E402
import layers as making  # noqa: E402
from inputs import InputError  # noqa: E402

import kluis  # noqa: E402
import native  # noqa: E402
from kluis.tee.image import canonical, pyc, sources  # noqa: E402
from kluis.tee.image import layers as image_layers  # noqa: E402
from kluis.tee.image.build import bytecode, compiler, elf, interpreter  # noqa: E402
from kluis.tee.image.build.packages import wheels  # noqa: E402
from kluis.tee.image.manifest import LAUNCHER  # noqa: E402

PYTHONS = ("3.11", "3.13")
# The parts of Kluis that shape the layers, in addition to the scripts here and the C sources.
SHAPING = (bytecode, canonical, compiler, elf, image_layers, interpreter, pyc, sources, wheels)
INSIDE = ("cffi", "cryptography", "msgspec", "pycparser")
PLATFORM = "manylinux_2_17_x86_64"
"""The runtime contains its own C library: the tag has only what pip must know."""


def main(arguments: list[str]) -> int:
    """Entry of the program."""
    parser = argparse.ArgumentParser(prog="runtime/build.py", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    wheel = commands.add_parser("wheel", help="build the wheel, or take it from the cache; prints its path")
    wheel.add_argument("--python", choices=PYTHONS, default=".".join(map(str, sys.version_info[:2])))
    wheel.add_argument("--out", type=Path, help="copy it into this folder")
    wheel.add_argument(
        "--or-newest", action="store_true", help="if Debian no longer has an input, take what it has now"
    )
    wheel.add_argument("--again", action="store_true", help="build it even if the cache has it")
    pin = commands.add_parser("pin", help="write a lock with the versions that Debian has now")
    pin.add_argument("python", choices=PYTHONS)
    chosen = parser.parse_args(arguments)
    try:
        path = inputs.path_of(chosen.python)
        lock = inputs.load(path)
        if chosen.command == "pin":
            path.write_text(inputs.text(inputs.pin(lock)), "utf-8")
            print(path)
            return 0
        try:
            print(wheel_of(lock, chosen.out, again=chosen.again))
        except inputs.GoneError as gone:
            if not chosen.or_newest:
                raise
            print(f"runtime: warning: {gone}", file=sys.stderr)
            print(
                "runtime: warning: built from what Debian has now and not the lock. It is for this checkout:"
                " images built with it have other ids than a release's",
                file=sys.stderr,
            )
            print(wheel_of(inputs.pin(lock), chosen.out, again=chosen.again))
    except InputError as error:
        print(f"runtime: error: {error}", file=sys.stderr)
        return 7
    return 0


def cache_folder() -> Path:
    """Where inputs and wheels are kept between builds."""
    if named := os.environ.get("KLUIS_RUNTIME_CACHE"):
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "kluis" / "runtime"


def wheel_of(lock: inputs.Lock, out: Path | None, *, again: bool = False) -> Path:
    """The wheel of one Python version, built if the cache has none from these inputs."""
    cache = cache_folder()
    name = f"kluis_runtime-{kluis.__version__}-{lock.tag}-{lock.tag}-{PLATFORM}.whl"
    place = cache / "wheels" / key(lock) / name
    if again or not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        found = inputs.fetch(lock, cache / "inputs")
        with tempfile.TemporaryDirectory(dir=cache) as work:
            made = build(lock, found, cache, Path(work))
            made.replace(place)
    if out is None:
        return place
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(place, out / name))


def key(lock: inputs.Lock) -> str:
    """SHA-256, hex, of all inputs of the wheel."""
    got = hashlib.sha256(f"{kluis.__version__}\n{inputs.text(lock)}".encode())
    own = [*HERE.glob("*.py"), *HERE.glob("*.c")]
    own += [path for path in native.SOURCES.rglob("*") if path.is_file()]
    own += [Path(module.__file__) for module in SHAPING if module.__file__]
    for path in sorted(own):
        got.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return got.hexdigest()


def build(lock: inputs.Lock, found: Mapping[str, Path], cache: Path, work: Path) -> Path:
    """Build the wheel in ``work``."""
    root, parts, mimalloc = work / "root", work / "parts", work / "mimalloc.o"
    parts.mkdir()
    for pin in lock.debian:
        unpack_deb(found[pin.name], root)
    with zipfile.ZipFile(found["cmeel-mimalloc"]) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/mimalloc.o"))
        mimalloc.write_bytes(wheel.read(member))
    made = native.build(compiler_of(found["ziglang"], cache), root, mimalloc, lock.python, parts)

    package = work / "wheel" / "kluis_runtime"
    package.mkdir(parents=True)
    files = making.base(root, lock.python, made["launcher"], made["python"], work)
    libraries = {name: found[name] for name in INSIDE}
    described = {
        "digest": making.pack(files, package / "python.layer").hex(),
        "inside": making.pack(making.inside(libraries, work), package / "inside.layer").hex(),
        "inside_versions": {pin.name: pin.version for pin in lock.wheels if pin.name in INSIDE},
        "kluis": kluis.__version__,
        "launcher": next(file.sha256 for file in files if file.path == LAUNCHER),
        "python": python_version(work / "tree"),
        "tag": f"cpython-{lock.python.replace('.', '')}",
    }
    programs = {
        "kluis-guardian": "guardian",
        "kluis-init": "init",
        "kluis-machine.so": "machine",
        "python": "python",
    }
    for name, part in programs.items():
        shutil.copyfile(made[part], package / name)
        (package / name).chmod(0o755)
    described["guardian"], described["program"], described["init"], described["machine"] = (
        wheels.hash_of(made[name]) for name in ("guardian", "python", "init", "machine")
    )
    (package / "runtime.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    (package / "__init__.py").write_text('"""The base layer of Kluis images: data only, read by kluis."""\n')
    metadata(lock, found, work / "wheel")
    out = work / "made.whl"
    program = interpreter.Interpreter(work / "tree")
    subprocess.run(program.command(str(HERE / "wheel.py"), str(work / "wheel"), str(out)), check=True)
    return out


def metadata(lock: inputs.Lock, found: Mapping[str, Path], root: Path) -> None:
    """Write the dist-info folder, with the licence of every included Debian package."""
    info = root / f"kluis_runtime-{kluis.__version__}.dist-info"
    licences = info / "licenses"
    licences.mkdir(parents=True)
    shutil.copyfile(HERE.parent / "LICENSE", licences / "LICENSE")
    for pin in lock.debian:
        for name, data in deb_files(found[pin.name], "usr/share/doc/"):
            if name.endswith("/copyright"):
                (licences / f"{pin.name}.copyright").write_bytes(data)
    (info / "inputs.lock").write_text(inputs.text(lock))
    minor = int(lock.python.partition(".")[2])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: kluis-runtime\nVersion: {kluis.__version__}\n"
        f"Summary: The base layer of Kluis images: CPython {lock.python}, launcher and guardian\n"
        f"License-Expression: Apache-2.0\nLicense-File: LICENSE\n"
        f"Requires-Python: >=3.{minor},<3.{minor + 1}\n"
    )
    (info / "WHEEL").write_text(
        f"Wheel-Version: 1.0\nGenerator: kluis runtime/build.py\nRoot-Is-Purelib: false\n"
        f"Tag: {lock.tag}-{lock.tag}-{PLATFORM}\n"
    )


def python_version(tree: Path) -> str:
    """The interpreter's full version, as it reports it."""
    line = interpreter.Interpreter(tree).command("-c", "import platform; print(platform.python_version())")
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def compiler_of(wheel: Path, cache: Path) -> Path:
    """The compiler, unpacked once in the cache."""
    place = cache / f"zig-{wheels.hash_of(wheel)[:16]}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work)
            (Path(work) / "ziglang" / "zig").chmod(0o755)
            try:
                os.replace(Path(work) / "ziglang", place)
            except OSError:  # another build has unpacked it meanwhile
                if not place.exists():
                    raise
    return place / "zig"


def unpack_deb(path: Path, root: Path) -> None:
    """Unpack a Debian package's files."""
    with tarfile.open(fileobj=_data(path)) as archive:
        archive.extractall(root, filter="tar")


def deb_files(path: Path, below: str) -> Iterator[tuple[str, bytes]]:
    """The regular files of a Debian package below one folder."""
    with tarfile.open(fileobj=_data(path)) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and name.startswith(below) and (f := archive.extractfile(member)):
                yield name, f.read()


def _data(path: Path) -> io.BytesIO:
    """The data archive of a package. Spec: deb(5): an ar archive whose third member is data.tar.xz."""
    with path.open("rb") as f:
        if f.read(8) != b"!<arch>\n":
            raise InputError(f"{path.name}: is not a Debian package")
        while len(header := f.read(60)) == 60:
            name, size = header[:16].decode().strip(), int(header[48:58])
            if name == "data.tar.xz":
                return io.BytesIO(lzma.decompress(f.read(size)))
            f.seek(size + size % 2, 1)
    raise InputError(f"{path.name}: want data.tar.xz in it, found none")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
