"""The record of running services, which the process that runs them writes and all others read."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from kluis import files
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.serve.cloud.folder import MOST_BYTES, Folder
from kluis.serve.cloud.processes import Process

Phase: TypeAlias = Literal["starting", "ready", "failed"]


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service.

    Attributes:
        name: ``attestation``, ``keyvault``, ``ledger``, ``provisioning``.
        url: ``https://host:port``.
        level: the protection level of its enclaves; empty before they run.
        instances: enclaves that serve.
        wanted: enclaves that should serve.
        since: seconds since 1970, the start of the oldest enclave; 0 before it runs.
        pids: of its enclaves.
    """

    name: str
    url: str
    level: str = ""
    instances: int = 0
    wanted: int = 1
    since: int = 0
    pids: tuple[int, ...] = ()


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the services ended: an error's text, its hint, code and class."""

    message: str
    hint: str | None
    code: str
    kind: str


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The services of one folder, as of the last change.

    Attributes:
        process: that runs them.
        phase: ``starting`` until all serve; then ``ready``; ``failed`` if the start failed.
        services: in the order of their start.
        issuer: the token issuer, ``https://host:port``; empty before it serves.
        tenant: of the issuer.
        fault: why the start failed.
        certificate: path of the operator's own certificate; empty if the local authority issues them.
    """

    process: Process
    phase: Phase
    services: tuple[Service, ...] = ()
    issuer: str = ""
    tenant: str = ""
    fault: Fault | None = None
    certificate: str = ""


def read(folder: Folder) -> Run | None:
    """Read the record; None if there is none.

    Raises:
        FormatError: it is damaged, or of another version.
    """
    if not folder.record.exists():
        return None
    try:
        return msgspec.json.decode(files.read(folder.record, MOST_BYTES), type=Run)
    except UNREADABLE as error:
        raise FormatError(f"{folder.record}: {error}", code="cloud_damaged") from None


def write(folder: Folder, run: Run) -> None:
    """Write the record.

    Raises:
        UnavailableError: the folder cannot be written.
    """
    folder.write(folder.record, msgspec.json.encode(run))
