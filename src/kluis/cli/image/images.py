"""``kluis build``, ``measure``, ``diff`` and ``sign``: images, from a folder to a signed measurement."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Annotated, Final

import typer

from kluis.cli import render
from kluis.cli.image import guests
from kluis.cli.parameters import argument, flag, option
from kluis.errors import AuthenticityError, UsageError
from kluis.tee import author_keys
from kluis.tee.image import composition, files, signing
from kluis.tee.image.build import builder, changes, recompiled
from kluis.tee.measure import image as measure
from kluis.tee.measure import rebuild
from kluis.tee.measure.snp.vcpu import Monitor

SHOWN: Final = 20
_File = Annotated[Path, argument("A .kluis image.", "FILE")]
_Out = Annotated[Path | None, option("Where to write it.", "FILE", "-o", "--output")]
_Key = Annotated[Path | None, option("The author's RSA-3072 key (PEM).", "PEM", "--key")]


def build(
    directory: Annotated[Path, argument("Holds app.py, or a kluis.toml.", "DIR")],
    out: Annotated[Path, option("The image to write.", "FILE", "-o", "--output")],
    key: _Key = None,
    unsigned: Annotated[bool, flag("Do not sign; kluis sign does it later.", "--unsigned")] = False,
    debug: Annotated[bool, flag("Build a debug enclave, which its host can read.", "--debug")] = False,
) -> None:
    """Build a folder into a signed image. If the key file does not exist, it is generated.

    For example: kluis build examples/hello -o hello.kluis --key author.pem
    """
    if (key is None) is not unsigned:
        raise UsageError("build: want --key PEM or --unsigned, one of the two", hint="--key author.pem")
    built = builder.build(directory, out, key, debug, say=render.note)
    if built.key_made:
        render.note(f"generated the author's key, {key}: anyone who has it can sign in your name")
    for line in built.notes:
        render.note(f"note: {line}")
    signer = built.mrsigner.hex() if built.mrsigner else None
    size = out.stat().st_size
    render.out(
        {
            "path": str(out),
            "bytes": size,
            "image_id": built.image_id.hex(),
            "mrsigner": signer,
            "debug": debug,
            "notes": list(built.notes),
        },
        render.fold(
            render.table(
                [
                    ("image", f"{out} ({size / 1e6:.1f} MB)"),
                    ("image_id", built.image_id.hex()),
                    ("mrsigner", signer or "none: kluis sign puts a signature in"),
                    ("debug", "on: protects nothing" if debug else "off"),
                ]
            )
        ),
    )


def rebuild_(
    file: Annotated[Path, argument("A .kluis image.", "IMAGE")],
    directory: Annotated[Path, argument("Its source, with its lock.", "DIR")],
) -> None:
    """Rebuild an image from source, and compare the ids. If they differ, list the differences.

    The source's code runs inside bubblewrap, as in a build. Exits with 4 if the ids differ. For example:
    kluis rebuild cohort.kluis cohort
    """
    image_id, changed = rebuild.rebuild(file, directory, render.note)
    value = {
        "same": not changed,
        "image_id": image_id.hex(),
        "changes": changed,
    }
    verdict = "another id, built from these:" if changed else "the same id, built from this source"
    render.out(value, render.fold("\n".join([f"{image_id.hex()}  {verdict}", *_lines(changed)])))
    if changed:
        raise typer.Exit(AuthenticityError.exit_code)


def measure_(
    file: Annotated[Path | None, argument("A .kluis image.", "FILE")] = None,
    snp: Annotated[bool, flag("Measure an SEV-SNP guest instead of an image.", "--snp")] = False,
    ovmf: Annotated[Path | None, option("Its firmware.", "FILE")] = None,
    kernel: Annotated[Path | None, option("As QEMU's -kernel.", "FILE")] = None,
    initrd: Annotated[Path | None, option("As QEMU's -initrd.", "FILE")] = None,
    append: Annotated[str | None, option("As QEMU's -append.", "TEXT")] = None,
    vcpus: Annotated[int, option("Virtual processors.", "N")] = 1,
    vcpu_type: Annotated[str, option("As QEMU's -cpu, or a signature.", "TYPE")] = "EPYC-v4",
    monitor: Annotated[
        Monitor, option("The virtual machine monitor that starts it.", "qemu|ec2|gce", "--vmm")
    ] = Monitor.QEMU,
    features: Annotated[str, option("SEV features of the guest.", "BITS")] = "0x1",
) -> None:
    """Print the measurement of an image, after checking every byte of it; or of an SEV-SNP guest."""
    if (file is None) is not snp:
        raise UsageError("measure: want a .kluis image, or --snp with --ovmf FILE, one of the two")
    if file is None:
        guests.measure(
            guests.Options(
                ovmf=ovmf,
                kernel=kernel,
                initrd=initrd,
                append=append,
                vcpus=vcpus,
                vcpu_type=vcpu_type,
                monitor=monitor,
                features=features,
            )
        )
        return
    if ovmf is not None:
        raise UsageError("measure: want --snp with --ovmf")
    measured = measure.measure(file)
    manifest = measured.image.manifest
    rows = [
        ("name", manifest.name),
        ("image_id", measured.image_id.hex()),
        ("mrenclave", measured.mrenclave.hex()),
        ("mrsigner", measured.mrsigner.hex() if measured.mrsigner else "none: unsigned"),
        ("product_id", str(manifest.product_id)),
        ("svn", str(manifest.svn)),
        ("debug", "on: protects nothing" if measured.debug else "off"),
        ("kluis", manifest.kluis),
        ("python", manifest.python),
        (
            "bytecode",
            "what its source compiles to" if measured.bytecode else _uncompared_message(manifest.python),
        ),
        (
            "interpreter",
            "the installed runtime's"
            if measured.installed_interpreter
            else "NOT THE INSTALLED RUNTIME'S: its machine code was compared with nothing",
        ),
        *((f"source of {kind}", _source(each)) for kind, each in measured.sources.items()),
        ("native objects", _native(len(measured.native_objects))),
        *(
            ("IN A SOURCE'S PLACE", f"{each}: {_kind(each)}, which is imported")
            for each in measured.in_place[:SHOWN]
        ),
        ("interface", manifest.interface),
        *((f"measurement {backend}", value.hex()) for backend, value in measured.measurements.items()),
        *((f"layer {layer.name}", layer.digest.hex()) for layer in measured.layers),
    ]
    render.out(measured.document(), render.fold(render.table(rows)))


def _kind(path: str) -> str:
    return "another source" if path.endswith(".py") else "machine code"


def _source(source: composition.Source) -> str:
    return f"{source.lines:,} lines in {source.files:,} file{'s' * (source.files != 1)}"


def _native(count: int) -> str:
    return f"{count} in the app layer" + (": machine code, not compared with any source" if count else "")


def _uncompared_message(version: str) -> str:
    return f"NOT COMPARED with its source: want Python {version} here, got {recompiled.version()}"


def diff(
    before: Annotated[Path, argument("A .kluis image.", "A")],
    after: Annotated[Path, argument("Another.", "B")],
) -> None:
    """List the differences between two images."""
    changed = changes.diff(before, after)
    measured = [change for change in changed if change.kind not in rebuild.UNMEASURED]
    verdict = "the measurement changed" if measured else "the measurement is the same"
    value = {"same_measurement": not measured, "changes": changed}
    render.out(value, render.fold("\n".join([verdict, *_lines(changed)])))


def _lines(changed: list[changes.Change]) -> list[str]:
    lines: list[str] = []
    for kind, title in (
        ("setting", "settings"),
        ("interface", "interface"),
        ("package", "packages"),
        ("file", "files"),
        ("hidden", "BYTECODE THAT ITS SOURCE DOES NOT COMPILE TO"),
        ("uncompared", "bytecode that was not compared with its source"),
        ("in_place", "IMPORTED IN THE PLACE OF A SOURCE"),
        ("native", "native objects: machine code, not compared with any source"),
        ("bytecode", "bytecode whose source did not change"),
        ("signature", "signature (not measured)"),
    ):
        part = [change for change in changed if change.kind == kind]
        if kind in ("file", "bytecode") and any(change.kind == "package" for change in changed):
            part = _by_folder(kind, part)
        if part:
            lines += [f"{title}:", *(f"  {change}" for change in part[:SHOWN])]
        if len(part) > SHOWN:
            lines.append(f"  and {len(part) - SHOWN} more (--json lists them all)")
    return lines


def _by_folder(kind: str, found: list[changes.Change]) -> list[changes.Change]:
    """The same changes, with one for all that are in one folder of the ``site`` layer.

    A package of the same version may have changed as well, so each folder is named.
    """
    packages = [change for change in found if change.what.startswith("site/")]
    counts = collections.Counter(change.what.split("/")[1] for change in packages)
    return [
        *(change for change in found if change not in packages),
        *(
            changes.Change(kind, f"site/{name}: {count} file{'s' * (count > 1)}", "", "")
            for name, count in sorted(counts.items())
        ),
    ]


def sign(
    file: _File,
    key: _Key = None,
    digest_out: Annotated[Path | None, option("Write the SHA-256 to sign, 32 bytes.", "FILE")] = None,
    signature: Annotated[Path | None, option("The signature, 384 bytes.", "FILE")] = None,
    public: Annotated[Path | None, option("The public key of the signature.", "PEM")] = None,
    out: _Out = None,
) -> None:
    """Sign an image. With a key kept elsewhere, export the digest and import the signature."""
    if [key is not None, digest_out is not None, signature is not None].count(True) != 1:
        raise UsageError("sign: want one of --key, --digest-out and --signature")
    if (signature is None) is not (public is None):
        raise UsageError("sign: want --public PEM with --signature, and only with it")
    if digest_out is not None:
        digest = signing.digest(file)
        files.write(digest_out, digest)
        render.note(
            "sign it where the key is, for example: openssl pkeyutl -sign -inkey author.pem "
            f"-pkeyopt digest:sha256 -in {digest_out} -out signature.bin"
        )
        render.out({"digest": digest.hex(), "path": str(digest_out)}, digest.hex())
        return
    target = out or file
    if signature is not None and public is not None:
        signer = author_keys.load_public(files.read(public), str(public))
        mrsigner = signing.insert(file, signer, files.read(signature), target)
    elif key is not None:
        mrsigner = signing.sign(file, author_keys.load(files.read(key), str(key)), target)
    else:
        raise UsageError("sign: want --key or --signature")
    render.out({"path": str(target), "mrsigner": mrsigner.hex()}, f"mrsigner  {mrsigner.hex()}")
