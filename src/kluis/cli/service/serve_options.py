"""Options that several commands which serve have: where they listen, and what an operator observes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from kluis.cli.parameters import option

Instances: TypeAlias = Annotated[int, option("Enclaves of each service.", "N", "--instances")]
Name: TypeAlias = Annotated[
    list[str] | None, option("Another name or address that clients use.", "NAME", "--name")
]
Bind: TypeAlias = Annotated[
    str,
    option(
        "The address to listen on. One that is not loopback also needs --certificate.", "ADDRESS", "--bind"
    ),
]
Certificate: TypeAlias = Annotated[
    Path | None,
    option(
        "The operator's own certificate for --name, its issuers after it; SIGHUP reads it again.",
        "PEM",
        "--certificate",
    ),
]
Key: TypeAlias = Annotated[
    Path | None, option("The certificate's key, a file that only you can read.", "PEM", "--key")
]
Metrics: TypeAlias = Annotated[
    str | None,
    option(
        "Serve metrics of all instances there, for Prometheus, over plain HTTP.", "ADDRESS:PORT", "--metrics"
    ),
]
Otlp: TypeAlias = Annotated[
    str | None,
    option(
        "Send a span for each request to this OpenTelemetry collector; needs the extra otel.", "URL", "--otlp"
    ),
]
