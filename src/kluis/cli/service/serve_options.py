"""Options that several commands which serve have: where they listen, and what an operator observes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Instances: TypeAlias = Annotated[
    int, typer.Option("--instances", metavar="N", help="Enclaves of each service.")
]
Name: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="NAME", help="Another name or address that clients use."),
]
Bind: TypeAlias = Annotated[
    str,
    typer.Option(
        "--bind",
        metavar="ADDRESS",
        help="The address to listen on. One that is not loopback also needs --certificate.",
    ),
]
Certificate: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="PEM",
        help="The operator's own certificate for --name, its issuers after it; SIGHUP reads it again.",
    ),
]
Key: TypeAlias = Annotated[
    Path | None,
    typer.Option("--key", metavar="PEM", help="The certificate's key, a file that only you can read."),
]
Metrics: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="Serve metrics of all instances there, for Prometheus, over plain HTTP.",
    ),
]
Otlp: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--otlp",
        metavar="URL",
        help="Send a span for each request to this OpenTelemetry collector; needs the extra otel.",
    ),
]
