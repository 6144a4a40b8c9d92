"""``kluis vm attest``: the evidence of a machine itself, without an enclave in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from kluis.cli import render
from kluis.cli.parameters import argument, option
from kluis.errors import AuthenticityError


def attest(
    name: Annotated[str, argument("The machine's name.", "NAME")],
    output: Annotated[
        Path | None, option("Write each part of the evidence to this folder.", "DIR", "-o", "--output")
    ] = None,
    root: Annotated[
        Path | None, option("The root to trust; by default that of this user's emulated processor.", "PEM")
    ] = None,
) -> None:
    """Verify a machine's evidence, and print what it proves.

    The evidence comes from the platform in the machine.

    The parts are in the formats of their TEE, which other tools read: report, hcl, quote, signature, pcrs,
    event_log, certificates, crl. runtime.json is the document that the evidence binds.
    """
    # Help, and the other commands of machines, do not need the verifiers.
    from kluis.cli.evidence import files
    from kluis.evidence import Collateral, TrustAnchors, endorsements
    from kluis.evidence.context import Context
    from kluis.tee import backends
    from kluis.tee.vm import processor
    from kluis.tee.vm.machine import kept

    trusted = processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC)).root_pem()
    collateral = Collateral.from_json(backends.of_machine(name).collateral())
    if collateral.endorsement is None:
        raise AuthenticityError(
            f"machine {name}: want an endorsement of its platform's root, got none",
            hint="start it with the guest of this release: kluis vm guest build",
        )
    endorsement = endorsements.read(collateral.endorsement)
    anchors = TrustAnchors.from_pem(trusted if root is None else files.read(root))
    endorsed = endorsements.verify(endorsement, context=Context(anchors), now=datetime.now(UTC))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for part, data in {**endorsement.parts, "runtime.json": endorsement.runtime_data}.items():
            render.save(output / part, data)
    claims, configuration = endorsed.claims, endorsed.configuration
    shown: dict[str, Any] = {
        "kind": endorsed.kind,
        "level": str(claims.level),
        "anchor": claims.anchor,
        "measurement": str(claims.measurement),
        "registers": {name: str(value) for name, value in claims.registers.items()},
        "debug": claims.debug or configuration.debug,
        "missing": list(configuration.missing),
        "only": configuration.only.hex() if configuration.only is not None else "",
        "release": configuration.release,
        "root": configuration.root.hex(),
    }
    rows = [(key, value) for key, value in shown.items() if key != "registers"]
    rows += shown["registers"].items()
    render.out(shown, render.fold(render.table([(key, cell(value)) for key, value in rows])))


def cell(value: Any) -> str:
    """A value of a machine, for people."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return (", ".join(value) if isinstance(value, list) else str(value)) or "nothing"
