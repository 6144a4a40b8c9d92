"""``kluis run``: start an image and make one call. ``kluis attest``: start it and save its evidence."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from kluis import host
from kluis.cli import render
from kluis.cli.image import arguments, protections
from kluis.cli.parameters import argument, option
from kluis.errors import RemoteError, UnavailableError, UsageError, unknown
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.host.loading import interface_of
from kluis.tee import backends
from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform

_File = Annotated[Path, argument("A .kluis image.", "FILE")]
_Timeout = Annotated[float | None, option("Stop waiting after this time.", "SECONDS", "--timeout")]


_Tee = Annotated[
    Literal["process", "vm"] | None,
    option(
        "process: this host; vm: a machine, started if none runs. By default KLUIS_MACHINE, or process.",
        "",
        "--tee",
        show_default=False,
    ),
]
_Boot = Annotated[
    Literal["direct", "uefi"],
    option("With --tee vm, the boot of the machine; see kluis vm start.", "", "--boot"),
]


def run(
    file: _File,
    ecall: Annotated[str | None, argument("The ecall; without it, all are listed.", "ECALL")] = None,
    args: Annotated[
        list[str] | None, argument("JSON; @FILE for bytes; a Parquet file for a Table.", "ARGS")
    ] = None,
    out: Annotated[Path | None, option("Write the result there.", "FILE", "-o", "--output")] = None,
    timeout: _Timeout = None,
    missing: protections.Missing = None,
    tee: _Tee = None,
    boot: _Boot = "direct",
) -> None:
    """Start an image and make one call. Prints each item of a stream as it comes. Prints to stderr the
    arguments of ocalls that return None; other ocalls fail.

    For example: kluis run hello.kluis greet '"Ada"'
    """
    interface = interface_of(file)
    declared = {one.name: one for one in interface.ecalls}
    if ecall is None:
        lines = [(arguments.signature_line(one), one.doc) for one in declared.values()]
        render.out([{"ecall": line, "doc": doc} for line, doc in lines], render.table(lines))
        return
    if ecall not in declared:
        raise unknown(f"{file}: ecall", ecall, declared, f"kluis run {file}")
    if declared[ecall].stream and out is not None:
        raise UsageError(f"-o: want an ecall with one result, got the stream {ecall}")
    values = arguments.parse(declared[ecall], args or [])
    printers = {one.name: printing(one.name) for one in interface.ocalls if one.returns in {None, type(None)}}
    with host.load(
        file,
        ocalls=printers,
        timeout_seconds=timeout,
        insecure_allow_missing=protections.parse_protections(missing),
        platform=_backend(tee, boot),
    ) as enclave:
        render.note(_line(enclave))
        try:
            result: Any = enclave.call(ecall, *values)
            if declared[ecall].stream:
                for item in result:
                    render.out_row(*arguments.present_result(item, None))
        except RemoteError as error:
            if error.traceback:
                render.note(error.traceback.rstrip())
            error.hint = error.hint or suggest_fix(ecall, error)
            raise
    if not declared[ecall].stream:
        render.out(*arguments.present_result(result, out))


def attest(
    file: _File,
    out: Annotated[Path, option("Write the evidence there.", "FILE", "-o", "--output")],
    nonce: Annotated[str, option("The verifier's nonce, at most 64 bytes.", "HEX")],
    app_data: Annotated[Path | None, option("Data to include in the evidence.", "FILE")] = None,
    missing: protections.Missing = None,
    tee: _Tee = None,
    boot: _Boot = "direct",
) -> None:
    """Start an image and save its evidence: one file with all that judging it needs, except trust in a root.

    For example: kluis attest hello.kluis -o hello.evidence --nonce 9f02aa77
    """
    try:
        challenge = bytes.fromhex(nonce)
    except ValueError:
        odd = len(nonce) % 2 and not set(nonce) - set(string.hexdigits)
        want = f"two hex digits a byte, got {len(nonce)} digits:" if odd else "hex, got"
        raise UsageError(f"--nonce: want {want} {nonce[:32]!a}") from None
    if len(challenge) > MAX_NONCE:
        raise UsageError(f"--nonce: want at most {MAX_NONCE} bytes, got {len(challenge)}")
    payload = _payload(app_data)
    allowed, platform = protections.parse_protections(missing), _backend(tee, boot)
    with host.load(file, insecure_allow_missing=allowed, platform=platform) as enclave:
        render.note(_line(enclave))
        made = enclave.evidence(challenge, payload)
        image_id, level, name = enclave.image_id, enclave.level, enclave.interface.name
    collateral = _collateral(platform)
    render.save(out, EvidenceFile.of(made, collateral=collateral, image=name).encode())
    render.out(
        {
            "evidence": str(out),
            "image": name,
            "image_id": image_id.hex(),
            "level": level,
            "collateral": collateral is not None,
        },
        f"written: {out}",
    )


def _collateral(platform: Backend) -> bytes | None:
    """The platform's collateral; None, with a note, if the platform cannot get it now."""
    try:
        return platform.collateral()
    except UnavailableError as error:
        render.note(f"kluis: the evidence has no collateral: {error.message}")
        return None


def suggest_fix(ecall: str, error: RemoteError) -> str | None:
    """A hint for an error that has none; None if the code's own fix suffices."""
    if error.traceback:
        return "fix the code where the traceback ends; a debug enclave is for data that is not secret"
    if error.inner_code is None:
        return f"{ecall} declares this error, so its message reaches the caller"
    return None


def _backend(tee: str | None, boot: str) -> Backend:
    """The platform that was chosen, or the default one."""
    if tee != "vm":
        return backends.default() if tee is None else Platform.connect()
    from kluis.tee.vm.machine import ondemand

    return ondemand.obtain(boot, say=render.note)


def printing(name: str) -> Callable[..., None]:
    """Serve an ocall that needs no answer by printing it."""
    return lambda *arguments: render.note(
        f"ocall {name}: {msgspec.json.encode(arguments).decode()}"[:MAX_SHOWN]
    )


def _line(enclave: host.EnclaveProxy) -> str:
    debug = ", debug: protects nothing" if enclave.debug else ""
    return f"enclave {enclave.image_id.hex()[:16]} runs, level {enclave.level}{debug}"


def _payload(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PAYLOAD + 1)
    except OSError as error:
        raise UsageError(f"--app-data: {path}: {error.strerror}") from None
    if len(data) > MAX_PAYLOAD:
        raise UsageError(f"--app-data: {path}: want at most {MAX_PAYLOAD} bytes, got more")
    return data


MAX_NONCE = 64
MAX_SHOWN = 500
MAX_PAYLOAD = 128 * 1024
