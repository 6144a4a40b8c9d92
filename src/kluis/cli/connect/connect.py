"""``kluis connect``: a proxy on loopback, through which any client uses a verified enclave."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from kluis.cli.evidence import files
from kluis.cli.evidence.verify import Roots
from kluis.cli.parameters import argument, option
from kluis.errors import UsageError
from kluis.serve.addresses import Address, address_of

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_ORIGIN: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,4096}")
BACKLOG: Final = 128


def connect(
    url: Annotated[str, argument("The enclave: https://host[:port].")],
    policy: Annotated[Path | None, option("The policy, of purpose channel (TOML).", "FILE")] = None,
    listen: Annotated[str, option("Where clients connect, on loopback.", "ADDRESS:PORT")] = "127.0.0.1:8080",
    root: Roots = None,
    collateral: Annotated[
        Path | None,
        option(
            "Collateral for its evidence, read for each verification; by default this platform's.", "FILE"
        ),
    ] = None,
    host: Annotated[
        list[str] | None, option("Another name that clients use for the proxy; may be repeated.", "NAME")
    ] = None,
    origin: Annotated[
        list[str] | None, option("Another page that may send requests; may be repeated.", "ORIGIN")
    ] = None,
    token: Annotated[Path | None, option("A token that clients must send: a file, or -.", "FILE")] = None,
) -> None:
    """Forward local HTTP to a verified enclave.

    Any client on this machine then uses the enclave: curl, an OpenAI client, a browser, a WebSocket.

    Nothing is forwarded before the enclave meets the policy. It is verified again before its evidence is
    older than the policy's max_evidence_age. Ctrl-C or SIGTERM ends it.

    For example: kluis connect https://127.0.0.1:8443 --policy policy.toml
    """
    where, here = _enclave_of(url), _loopback(listen)
    if policy is None:
        raise UsageError(
            "connect: want --policy FILE, got none",
            hint="kluis policy init -o policy.toml --purpose channel --image FILE writes one",
        )
    wanted = files.policy(policy)
    from kluis.cli.connect import running  # both need the extra, and help does not
    from kluis.connect.admission import Admission

    admission = Admission(
        str(where),
        hosts=_words("--host", _NAME, host, "a name without a port"),
        origins=_words("--origin", _ORIGIN, origin, "an origin, as http://localhost:3000"),
        token=None if token is None else _token(token),
    )
    with _listener(here) as listener:
        running.run(where, listener, admission, running.judge(policy, wanted, root or [], collateral))


def _enclave_of(url: str) -> Address:
    """The enclave's address.

    Raises:
        UsageError: it is not of the form https://host[:port].
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        parts, port = urlsplit(""), 0
    plain = parts.scheme == "https" and not parts.username and parts.path in ("", "/") and not parts.query
    name = parts.hostname or ""
    if not plain or parts.fragment or not _NAME.fullmatch(f"[{name}]" if ":" in name else name):
        raise UsageError(
            f"connect: want https://host[:port], got {url[:80]!a}",
            hint="use https: TLS ends inside the enclave"
            if parts.scheme == "http"
            else "kluis connect forwards to all paths of one enclave",
        )
    return Address(name, port)


def _loopback(listen: str) -> Address:
    """The address to listen on.

    Raises:
        UsageError: it is not an address of loopback and a port.
    """
    listener = address_of(listen, "--listen", "127.0.0.1:8080")
    try:
        address = ipaddress.ip_address("127.0.0.1" if listener.host == "localhost" else listener.host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise UsageError(
            f"--listen: want an address of loopback and a port, got {listen[:80]!a}",
            hint="--listen 127.0.0.1:8080; clients send it plain HTTP, so it is for this machine only",
        )
    return Address(str(address), listener.port)


@contextlib.contextmanager
def _listener(here: Address) -> Iterator[socket.socket]:
    try:
        made = socket.create_server(
            here, family=socket.AF_INET6 if ":" in here.host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise UsageError(
            f"--listen {here}: {os.strerror(error.errno or 0)}",
            hint=f"--listen {Address(here.host, 0)} chooses a free port, and prints it",
            code="connect_listen",
        ) from None
    with made:
        made.setblocking(False)
        yield made


def _words(option: str, form: re.Pattern[str], words: list[str] | None, what: str) -> frozenset[str]:
    for each in words or ():
        if not form.fullmatch(each):
            raise UsageError(f"{option}: want {what}, got {each[:80]!a}")
    return frozenset(words or ())


def _token(path: Path) -> str:
    """The token; it is in no message.

    Raises:
        UsageError: it is not one token.
        UnavailableError: the file is another user's, or others can access it.
    """
    from kluis.tee import keyfiles  # help does not need it

    text = (
        (files.read(path) if path == files.STDIN else keyfiles.read(path)).decode("ascii", "replace").strip()
    )
    if not _TOKEN.fullmatch(text):
        raise UsageError(
            f"--token: want one token of at least 16 characters in {path}, got another",
            hint="openssl rand -hex 32 > token; chmod 600 token",
        )
    return text
