"""``kluis platform``: start and stop the local root of trust, and get what relying parties need from it."""

from __future__ import annotations

import json as stdjson
import re
from pathlib import Path
from typing import Annotated, Any, Final

from kluis import files
from kluis.cli import render
from kluis.cli.parameters import Output, argument, flag, option
from kluis.errors import UnavailableError, UsageError
from kluis.tee import backends
from kluis.tee.platform import start as starting
from kluis.tee.platform.client import Platform

CPUSVN: Final = re.compile("[0-9a-fA-F]{32}")
BEHIND: Final = ("OutOfDate", "Revoked")
NONE: Final = "none"


def start(
    endorse: Annotated[
        str | None,
        option("The driver whose TEE endorses the root, or none; by default one that is found.", "NAME"),
    ] = None,
    tpm: Annotated[
        bool,
        flag(
            "From now on seal the secret to the TPM, for this boot, and witness counters there."
            " An older copy of the state still opens without it.",
            "--tpm",
        ),
    ] = False,
    device: Annotated[str, option("Device of the TPM.", "PATH", "--tpm-device")] = starting.TPM,
    foreground: Annotated[
        bool,
        flag("Stay until the platform ends; Ctrl-C or SIGTERM stops it. For containers.", "--foreground"),
    ] = False,
) -> None:
    """Start the platform, and leave it running.

    As root it runs as the user kluis, for everyone on this machine; otherwise for one user. In a confidential
    virtual machine, its TEE endorses the platform's root.
    """
    from kluis.tee.drivers import by_name, detect
    from kluis.tee.platform.endorsing import endorse as endorse_root

    driver = detect() if endorse is None else None if endorse == NONE else by_name(endorse)
    starting.start(tpm=tpm, tpm_device=device)
    platform = Platform.connect(start=False)
    if driver is None:
        _show(platform.status())
    else:
        _show(endorse_root(platform, driver))
        render.note(
            f"kluis: {driver.name} endorses the root. Kluis does not measure this machine's kernel, files and"
            " users: a policy names in [machine] what the TEE measured."
        )
    if foreground:
        from kluis.cli.machine import staying

        staying.stay()


def stop() -> None:
    """Stop the platform, and every enclave that it runs."""
    try:
        platform = Platform.connect(start=False)
    except UnavailableError:
        render.out({"running": False}, "no platform runs")
        return
    platform.stop()
    render.out({"running": False}, "stopped")


def root(output: Output = None) -> None:
    """Print the platform's root certificate.

    A relying party trusts it with kluis trust add, or by naming its file.
    """
    pem = backends.default().root_pem().decode()
    render.give({"root": pem}, pem, output)


def collateral(output: Output = None) -> None:
    """Print fresh collateral, signed.

    It contains TCB info, QE identity and revocation lists.
    """
    text = backends.default().collateral().decode()
    render.give(stdjson.loads(text), text, output)


def status() -> None:
    """Print the platform's identity, missing protections and enclaves."""
    _show(Platform.connect(start=False).status())


def reseal(
    values: Annotated[
        Path, argument("PCR values of SHA-256 after the upgrade, JSON; others stay as they are.", "PCRS")
    ],
) -> None:
    """Seal the platform's secret for the boot after an upgrade, too.

    A secret that is sealed to a TPM is lost after an upgrade that was not announced so.
    """
    from kluis.formats.tpm import pcrs
    from kluis.formats.tpm.algorithm import HashId

    banks = pcrs.parse_json(files.read(values, pcrs.MAX_SIZE))
    if set(banks) != {HashId.SHA256}:
        raise UsageError(
            f"{values}: want PCR values of sha256, got {', '.join(each.label for each in banks)}"
        )
    digests = {str(index): value.hex() for index, value in banks[HashId.SHA256].items()}
    _show(Platform.connect(start=False).order("reseal", pcrs=digests))


def recover(
    cpusvn: Annotated[
        str | None, option("Minimum component SVNs, 32 hex digits; by default the current ones.", "HEX")
    ] = None,
    pcesvn: Annotated[int | None, option("Minimum PCESVN; by default the current one plus one.", "N")] = None,
    advisory: Annotated[
        list[str] | None, option("The advisory that affects older platforms; may be repeated.", "ID")
    ] = None,
) -> None:
    """Raise the versions that platforms must have.

    Platforms certified earlier become OutOfDate.
    """
    if cpusvn is not None and not CPUSVN.fullmatch(cpusvn):
        raise UsageError(f"--cpusvn: want 32 hex digits, got {cpusvn[:64]!a}")
    order: dict[str, Any] = {"advisories": list(advisory or ())}
    order |= {} if cpusvn is None else {"cpusvn": cpusvn.lower()}
    order |= {} if pcesvn is None else {"pcesvn": pcesvn}
    _show(Platform.connect().order("recover", **order))


def revoke() -> None:
    """Revoke this platform's key.

    Verifiers with fresh collateral then reject its quotes.
    """
    _show(Platform.connect().order("revoke"))


def certify(
    new_keys: Annotated[
        bool, flag("Generate new keys; a revoked key is always replaced.", "--new-keys")
    ] = False,
) -> None:
    """Certify this platform again for the versions that it runs.

    Its own authority signs the certificate.
    """
    _show(Platform.connect().order("certify", new_keys=new_keys))


def enroll(
    url: Annotated[str, argument("The service: https://host[:port].")],
    root: Annotated[Path, option("The service's root certificate, from its owner (PEM).", "PEM")],
    ca: Annotated[Path | None, option("The authority of its TLS certificate (PEM).", "PEM")] = None,
) -> None:
    """Get a certificate and collateral from a provisioning service.

    Run it again to renew both.

    The platform checks the service's documents before it uses them. If the service's owner has not approved
    the platform yet, send the owner its ppid and key, and run this again.
    """
    from kluis.cli.machine.enrolling import enroll_with

    _show(enroll_with(Platform.connect(), url, root, ca))


def _show(state: dict[str, Any]) -> None:
    rows = {name: _words(value) for name, value in state.items()}
    if state.get("lockable_bytes", 0) is None:
        rows["lockable_bytes"] = "unlimited"
    render.out(state, render.table(list(rows.items())))
    if (tcb := state.get("tcb")) in BEHIND:
        render.note(
            f"kluis: verifiers with current collateral see {tcb}; once it is fixed, kluis platform certify"
        )


def _words(value: object) -> str:
    match value:
        case []:
            return "none"
        case list():
            return ", ".join(str(one) for one in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


COMMANDS = (start, stop, root, collateral, status, reseal, recover, revoke, certify, enroll)
