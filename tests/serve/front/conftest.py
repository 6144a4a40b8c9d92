"""One command under its operator's own certificate, for every test of this folder."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.serve.front.pki import Operator
from tests.serve.served import Served

ADDRESS, BY_HAPROXY, BY_NGINX = "127.0.0.2", "127.0.0.3", "127.0.0.4"
NAMES = (ADDRESS, BY_HAPROXY, BY_NGINX)


@dataclasses.dataclass
class Fronted:
    """A running command, its operator, and what its clients trust."""

    command: Served
    operator: Operator
    chain: Path

    @property
    def addresses(self) -> Any:
        """Of services and issuer."""
        return self.command.told["addresses"]

    def trust(self) -> ssl.SSLContext:
        """TLS of a client that trusts the operator's CA and no other."""
        return ssl.create_default_context(cafile=str(self.operator.folder / "operator-ca.pem"))


@pytest.fixture(scope="session")
def fronted(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """The attestation service and the issuer, at another address of loopback."""
    operator = Operator(tmp_path_factory.mktemp("operator"), datetime.now(UTC))
    chain, key = operator.issue(*NAMES)
    own = tmp_path_factory.mktemp("state")
    copytree(state / "images", own / "images")
    (own / "author.pem").write_bytes((state / "author.pem").read_bytes())
    (own / "author.pem").chmod(0o600)
    names = [word for name in NAMES for word in ("--name", name)]
    options = ["--bind", ADDRESS, *names, "--certificate", str(chain), "--key", str(key)]
    with Served(["attestation"], own, *options, "--insecure-expose-issuer") as command:
        yield Fronted(command, operator, chain)
        assert command.stop() == 0
    assert "PRIVATE KEY" not in "".join(command.log)
