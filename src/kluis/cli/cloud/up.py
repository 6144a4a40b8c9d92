"""``kluis up``: start a local cloud, in the foreground or in the background."""

from __future__ import annotations

import os
from typing import Annotated

from kluis.cli import completion, render
from kluis.cli.cloud import background, places
from kluis.cli.cloud.places import State
from kluis.cli.image import protections
from kluis.cli.parameters import argument, flag, option
from kluis.cli.service.serve_options import Bind, Certificate, Instances, Key, Metrics, Name, Otlp
from kluis.errors import UsageError, unknown
from kluis.serve import DEFAULT_PORT, HOST
from kluis.serve.cloud import lock
from kluis.serve.cloud.folder import Folder

ALL = ("attestation", "keyvault", "ledger", "provisioning")


def up(
    services: Annotated[
        list[str] | None,
        argument(
            f"{', '.join(ALL)}, several of them, or all. [default: all]",
            complete=completion.words((*ALL, "all")),
        ),
    ] = None,
    detach: Annotated[bool, flag("Return at once, and run in the background.", "-d", "--detach")] = False,
    state: State = None,
    port: Annotated[
        int | None,
        option(
            "The first port; 0 chooses free ports."
            f" [default: the ports of the last start, or {DEFAULT_PORT}]",
            "N",
        ),
    ] = None,
    instances: Instances = 1,
    name: Name = None,
    bind: Bind = HOST,
    certificate: Certificate = None,
    key: Key = None,
    metrics: Metrics = None,
    otlp: Otlp = None,
    root: Annotated[
        list[str] | None,
        option(
            "A root that the attestation service trusts (PEM), as for kluis serve; may be repeated.", "PEM"
        ),
    ] = None,
    online: Annotated[bool, flag("Fetch collateral from Intel and AMD.", "--online")] = False,
    missing: Annotated[list[str] | None, completion.allow_missing()] = None,
) -> None:
    """Start a local cloud: the services in enclaves of this machine.

    In the foreground, it ends with Ctrl-C; with -d it runs until kluis down. Its folder has keys, images, the
    database and the log, and only this user can read it. Each service keeps the port of its first start.

    For example: kluis up -d && kluis wait && eval "$(kluis env)"
    """
    from kluis.cli.service import serve_settings  # help does not need it

    pair = serve_settings.pair(certificate, key)
    if pair is not None:  # the process in the background changes its folder
        pair = (pair[0].absolute(), pair[1].absolute())
    for service in services or ():
        if service not in (*ALL, "all"):
            raise unknown("service", service, ALL, "kluis up, without a service, starts all")
    chosen = ALL if not services or "all" in services else tuple(dict.fromkeys(services))
    folder = Folder.create(places.path_of(state))
    if lock.is_occupied(folder):
        raise lock.refusal(folder, lock.holder(folder))

    def work() -> None:
        from kluis.cli.cloud import running  # needs the extra, and a parent that does not run them does not

        running.run(
            folder,
            detached=detach,
            services=chosen,
            port=port,
            instances=instances,
            front=running.Front(tuple(name or ()), bind, pair),
            metrics=metrics,
            otlp=otlp,
            roots=root,
            online=online,
            missing=protections.parse_protections(missing),
        )

    if not detach:
        work()
        return
    if not hasattr(os, "fork"):
        raise UsageError("-d: want a system with fork, got another", hint="kluis up, without -d")
    pid = background.start(folder, work)
    shown = {"pid": pid, "state": str(folder.path), "services": list(chosen)}
    render.out(shown, f"starting {', '.join(chosen)}: kluis wait; kluis status; kluis down")
