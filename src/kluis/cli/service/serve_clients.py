"""Read the clients of the development issuer from the files of ``kluis serve``'s options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kluis.cli.evidence import files
from kluis.errors import UsageError
from kluis.serve.issuer import Certificate, Federated, Registered


def read_registered(certificates: Sequence[str] | None, federated: Sequence[Path] | None) -> Registered:
    """The credentials that clients may use instead of their secrets.

    Args:
        certificates: each ``CLIENT=PEM``.
        federated: files, JSON.

    Raises:
        UsageError: a file is malformed; names it.
    """
    registered = []
    for text in certificates or ():
        client, equals, path = text.partition("=")
        if not client or not equals:
            raise UsageError(f"client certificate: want CLIENT=PEM, got {text}")
        registered.append((client, Certificate.of_pem(files.read(Path(path)), path)))
    return Registered(
        certificates=tuple(registered),
        federated=tuple(Federated.of_json(files.read(path), str(path)) for path in federated or ()),
    )
