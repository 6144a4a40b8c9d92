"""``kluis serve``: run the services in enclaves of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from kluis.cli import completion
from kluis.cli.image import protections
from kluis.cli.parameters import argument, flag, option
from kluis.cli.service import serve_settings
from kluis.cli.service.serve_options import Bind, Certificate, Instances, Key, Metrics, Name, Otlp
from kluis.serve import DEFAULT_PORT, HOST
from kluis.serve.images import SERVICES, STORE_KEYS


def serve(
    services: Annotated[
        list[str],
        argument(
            f"{', '.join(SERVICES)}, several of them, or all.", complete=completion.words((*SERVICES, "all"))
        ),
    ],
    state: Annotated[Path | None, option("The folder for keys, images and the database.", "DIR")] = None,
    database: Annotated[
        str | None, option("SQLAlchemy URL; by default SQLite in the state folder.", "URL")
    ] = None,
    port: Annotated[int, option("The first port; 0 chooses free ports.", "N")] = DEFAULT_PORT,
    instances: Instances = 1,
    name: Name = None,
    bind: Bind = HOST,
    certificate: Certificate = None,
    key: Key = None,
    metrics: Metrics = None,
    otlp: Otlp = None,
    insecure_expose_issuer: Annotated[
        bool,
        flag(
            "Also serve the development issuer at --bind: anyone with one of its clients' secrets "
            "gets that client's roles.",
            "--insecure-expose-issuer",
        ),
    ] = False,
    root: Annotated[
        list[str] | None,
        option(
            "A root that the attestation service trusts (PEM): FILE; or FILE=LEVEL, such as "
            "hardware-snp, if it is neither a vendor's nor emulated; may be repeated.",
            "PEM",
        ),
    ] = None,
    collateral: Annotated[
        list[Path] | None, option("Intel's documents, JSON; may be repeated.", "FILE")
    ] = None,
    policy_signer: Annotated[
        list[Path] | None, option("A certificate whose key signs policies (PEM): isolated mode.", "PEM")
    ] = None,
    tpm_issuer: Annotated[
        list[Path] | None,
        option("A certificate authority of TPM keys, up to the root (PEM); may be repeated.", "PEM"),
    ] = None,
    authority: Annotated[
        list[Path] | None,
        option("Another attestation authority that the vault trusts (JSON); may be repeated.", "FILE"),
    ] = None,
    insecure_authority: Annotated[
        list[str] | None,
        option("An authority by its URL: its keys are fetched, and not verified by evidence.", "URL"),
    ] = None,
    client_certificate: Annotated[
        list[str] | None,
        option(
            "An RSA certificate with which a client of the development issuer signs, instead of a "
            "secret; may be repeated.",
            "CLIENT=PEM",
        ),
    ] = None,
    federated: Annotated[
        list[Path] | None,
        option(
            "A subject of another issuer that may act as one of its clients. JSON with client, "
            "issuer, subject and jwks, the keys of the other issuer, which are never fetched; may "
            "be repeated.",
            "FILE",
        ),
    ] = None,
    insecure_managed_identity: Annotated[
        bool,
        flag(
            "Also serve a managed identity, over plain HTTP on 127.0.0.1: every process of every "
            "user of this machine gets tokens of the client workload, without authentication.",
            "--insecure-managed-identity",
        ),
    ] = False,
    insecure_accept_unprotected: Annotated[
        bool, flag("Also attest evidence of level none; tokens state it.", "--insecure-accept-unprotected")
    ] = False,
    token_seconds: Annotated[
        int | None, option("Lifetime of an attestation token; by default 8 hours.", "SECONDS")
    ] = None,
    settings: Annotated[
        Path | None, option("More settings by service (JSON); the other options add to them.", "FILE")
    ] = None,
    online: Annotated[bool, flag("Fetch collateral from Intel and AMD.", "--online")] = False,
    store_key: Annotated[
        str,
        option(
            "Which images may reopen the stores: measurement (this exact image) or signer (any "
            "image signed with author.pem, so upgrades work).",
            "WHO",
            complete=completion.words(STORE_KEYS),
        ),
    ] = "measurement",
    missing: Annotated[list[str] | None, completion.allow_missing()] = None,
    rekey: Annotated[
        bool,
        flag(
            "Before serving, seal all data of each service under a fresh key. No other command "
            "may use the data.",
            "--rekey",
        ),
    ] = False,
    rekey_beside_others: Annotated[
        bool,
        flag(
            "Re-key even if another kluis serve uses this database. That process stops serving "
            "until you restart it.",
            "--rekey-beside-others",
        ),
    ] = False,
) -> None:
    """Run the services, each in an enclave, until stopped; on loopback, unless --bind names an address.

    When they are ready, prints how clients reach them. Stop it with Ctrl-C. SIGHUP restarts every enclave and
    refuses no client.

    For example: kluis serve all --root platform.pem
    """
    from kluis.cli.service import serve_run  # these want the extra, and the help does not
    from kluis.cli.service.serve_clients import read_registered
    from kluis.serve.plan import Plan

    chosen = SERVICES if "all" in services else tuple(dict.fromkeys(services))
    plan = Plan(
        services=chosen,
        state=(state or _folder()).absolute(),
        database=database,
        port=port,
        instances=instances,
        names=tuple(name or ()),
        store_key=store_key,
        insecure_allow_missing=protections.parse_protections(missing),
        online=online,
        origins=tuple(insecure_authority or ()),
        given=serve_settings.merge(
            settings,
            {
                "attestation": serve_settings.attestation(
                    root, collateral, policy_signer, tpm_issuer, token_seconds, insecure_accept_unprotected
                )
            },
        ),
        authorities=serve_settings.authorities(authority, insecure_authority),
        rekey=rekey,
        rekey_beside_others=rekey_beside_others,
        registered=read_registered(client_certificate, federated),
        insecure_managed_identity=insecure_managed_identity,
        bind=bind,
        certificate=serve_settings.pair(certificate, key),
        insecure_expose_issuer=insecure_expose_issuer,
        metrics=metrics,
        otlp=otlp,
    )
    serve_run.run(plan)


def _folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "kluis" / "services"
