"""Build a guest: the same packages give the same bytes.

Nothing is fetched. Clock, umask, user and folder do not matter: every time is 0, every owner root, and each
file is put where its path sorts.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

import kluis
from kluis.errors import KluisError, UnavailableError
from kluis.hashes import sha256
from kluis.tee.image import files, layers, sources
from kluis.tee.image.sources import Source
from kluis.tee.process import native
from kluis.tee.vm.guest import archives, content, guest, modules, needs, verity
from kluis.tee.vm.guest.guest import NAMES, Description, Guest
from kluis.tee.vm.guest.needs import Needs

VOLUME: Final = "kluis"
"""Name of the file system's volume, by which the first program finds its disk."""
COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 lsm=lockdown,landlock,yama lockdown=confidentiality"
    " random.trust_cpu=on kluis.root={root_hash}:{blocks}"
)
_OS_RELEASE: Final = (
    'ID=kluis\nNAME="Kluis guest"\nVERSION_ID={release}\nPRETTY_NAME="Kluis guest {release}"\n'
)


def build(
    folder: Path,
    *,
    kernel: Path | None = None,
    extra: Iterable[Source] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Guest:
    """Build a guest into a folder, which is made if it does not exist.

    A guest that is there, has these inputs and is intact is not built again.

    Args:
        folder: gets the four files and their description; the description is written last.
        kernel: where the kernel's package is unpacked; None: the installed one.
        extra: more modules of Kluis for the guest, with paths as ``kluis/...``.
        say: called with one line before each step that may take more than a second.

    Raises:
        UnavailableError: a package is missing, with the line that installs it; or a tool failed.
        UsageError: Kluis does not have a module that a guest starts.
    """
    kernel_needs = needs.find(kernel)
    kernel_modules = modules.Modules(kernel_needs.kernel.modules)
    say("collecting the root file system")
    root = content.gather(kernel_needs, kernel_modules, extra, say)
    return assemble(folder, kernel_needs, kernel_modules, root, say)


def assemble(
    folder: Path,
    kernel_needs: Needs,
    kernel_modules: modules.Modules,
    root: Iterable[Source],
    say: Callable[[str], None] = lambda line: None,
) -> Guest:
    """Write a guest with the files of its root file system; raises the errors of :func:`build`.

    Args:
        folder: as for :func:`build`.
        kernel_needs: what comes from this machine.
        kernel_modules: of the kernel in ``kernel_needs``.
        root: files of the root file system, with paths from the root.
        say: called with one line before each step that may take more than a second.
    """
    root, initrd = list(root), initrd_files(kernel_modules)
    inputs = inputs_of(kernel_needs, root, initrd)
    if (same := _open_unchanged(folder, inputs)) is not None:
        return same
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / guest.DESCRIPTION).unlink(missing_ok=True)  # no description fits files that are replaced
        with tempfile.TemporaryDirectory(dir=folder) as work:
            return _write(folder, Path(work), kernel_needs, root, initrd, inputs, say)
    except OSError as error:
        raise UnavailableError(f"{error.filename or folder}: {error.strerror}") from error


def inputs_of(kernel_needs: Needs, root: Iterable[Source], initrd: Iterable[Source]) -> str:
    """SHA-256 over the files, the tools and the constants that shape a guest, 64 hex digits."""
    tools = (kernel_needs.kernel.image, kernel_needs.mkfs, *needs.FILES)
    described = [
        [
            kluis.__version__,
            kernel_needs.kernel.release,
            VOLUME,
            COMMAND_LINE,
            _OS_RELEASE,
            list(content.EMPTY),
        ],
        [guest.hash_of(path) for path in tools],
        *(sorted([file.path, file.mode, file.sha256] for file in part) for part in (root, initrd)),
    ]
    return sha256(msgspec.json.encode(described)).hex()


def _open_unchanged(folder: Path, inputs: str) -> Guest | None:
    """The guest that is there, if it is intact and has these inputs."""
    try:
        there = Guest.open(folder)
    except KluisError:
        return None
    return there if there.description.inputs == inputs else None


def _write(
    folder: Path,
    work: Path,
    kernel_needs: Needs,
    root: Iterable[Source],
    initrd: Iterable[Source],
    inputs: str,
    say: Callable[[str], None],
) -> Guest:
    paths = {part: work / name for part, name in NAMES.items()}
    say("writing the root file system")
    tree = root_image(root, content.EMPTY, paths["root"], work, kernel_needs.mkfs)
    command_line = COMMAND_LINE.format(root_hash=tree.root_hash.hex(), blocks=tree.blocks)
    paths["kernel"].write_bytes(files.read(kernel_needs.kernel.image))
    paths["initrd"].write_bytes(archives.cpio(initrd))
    say("writing the unified kernel image")
    unify(paths, command_line, kernel_needs.kernel.release, kluis.__version__, work)
    description = Description(
        blocks=tree.blocks,
        command_line=command_line,
        digests={part: guest.hash_of(path) for part, path in paths.items()},
        inputs=inputs,
        kernel=kernel_needs.kernel.release,
        release=kluis.__version__,
        root_hash=tree.root_hash.hex(),
    )
    for path in paths.values():
        path.chmod(0o644)
        path.replace(folder / path.name)
    guest.write(folder, description)
    return Guest.open(folder, check=False)


def initrd_files(kernel_modules: modules.Modules) -> list[Source]:
    """The initial RAM disk: the first program, and the modules that find and check the root."""
    listed = modules.files(kernel_modules, "modules", modules.EARLY_ALWAYS, modules.EARLY_BY_DEVICE)
    return [sources.of_file("init", native.init(), layers.PROGRAM_MODE), *listed]


def root_image(
    root: Iterable[Source], empty: Iterable[str], out: Path, work: Path, mkfs: Path
) -> verity.Tree:
    """Write a root file system and its hash tree."""
    archive = work / "root.tar"
    with archive.open("wb") as f:
        archives.tar(root, empty, f)
    identity = uuid.UUID(bytes=bytes.fromhex(guest.hash_of(archive))[:16], version=5)
    line: list[str | Path] = [mkfs, "--quiet", "--tar=f", "-T0", "--all-root", "-x-1", "--workers=1"]
    needs.run([*line, f"-U{identity}", f"-L{VOLUME}", out, archive], "mkfs.erofs")
    archive.unlink()
    return verity.append(out)


def unify(paths: dict[str, Path], command_line: str, kernel: str, release: str, work: Path) -> None:
    """Write the unified kernel image."""
    described = work / "os-release"
    described.write_text(_OS_RELEASE.format(release=release))
    needs.run(
        [
            needs.SYSTEM_PYTHON,
            needs.UKIFY,
            "build",
            "--config=/dev/null",
            f"--linux={paths['kernel']}",
            f"--initrd={paths['initrd']}",
            f"--cmdline={command_line}",
            f"--os-release=@{described}",
            f"--uname={kernel}",
            f"--stub={needs.STUB}",
            f"--output={paths['unified']}",
        ],
        "ukify",
        {"SOURCE_DATE_EPOCH": "0"},
    )
