"""What a scenario is, and the world that it runs in: ``az``, signed in, and a forger to ask for evidence.

This and the modules of scenarios run in the environment of Azure's command line; nothing here knows Kluis.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLOUD = "kluis"
MANAGEMENT = "https://management.azure.com"
ATTEST = "https://attest.azure.net"
VAULT = "https://vault.azure.net"
SECONDS = 600


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        name: of its function.
        call: what is typed, in a line.
        run: does it; raises where the outcome is another than it must be.
    """

    name: str
    call: str
    run: Callable[[World], None]


SCENARIOS: list[Scenario] = []


def scenario(call: str) -> Callable[[Callable[[World], None]], Any]:
    """Declare a scenario: tests/clients/azure/listing.py reads these lines without running them."""

    def declare(run: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS.append(Scenario(run.__name__, call, run))
        return run

    return declare


class World:
    """The running services, and the command line that uses them.

    Args:
        ``told``: addresses and secrets, as given by the other side.
        folder: for files and what ``az`` keeps.
    """

    def __init__(self, told: dict[str, Any], folder: Path) -> None:
        self.attestation: str = told["attestation"]
        self.vault: str = told["keyvault"]
        self.issuer, _, self.tenant = told["authorization"].rpartition("/")
        self.secrets: dict[str, str] = told["secrets"]
        self.proofs: dict[str, Any] = told["proofs"]
        self.folder = folder
        # ``https://127.0.0.1:PORT``: the name is the first label, and the rest is the suffix of every vault.
        self.name, _, parent = self.vault.removeprefix("https://").partition(".")
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "PYTHON"))
        }
        self._variables = {
            **kept,
            "REQUESTS_CA_BUNDLE": told["ca"],
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_ONLY_SHOW_ERRORS": "yes",
            "AZURE_CORE_INSTANCE_DISCOVERY": "no",
            "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
        }
        self._cloud = self.file(
            json.dumps({
                "endpoints": {
                    "activeDirectory": self.issuer,
                    "activeDirectoryResourceId": MANAGEMENT,
                    "management": self.attestation,
                    "resourceManager": self.attestation,
                },
                "suffixes": {"keyvaultDns": f".{parent}", "mhsmDns": f".{parent}"},
            })
        )  # fmt: skip
        self._configuration = ""

    def file(self, text: str | bytes, name: str = "") -> str:
        """The path of a file with this content; of a missing one, for no bytes."""
        path = self.folder / (name or secrets.token_hex(8))
        if text:
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            path.chmod(0o600)
        return str(path)

    @contextlib.contextmanager
    def signed_out(self) -> Iterator[None]:
        """Nobody is signed in, and the cloud is known."""
        before, self._configuration = self._configuration, tempfile.mkdtemp(dir=self.folder)
        try:
            self.az(
                "cloud",
                "register",
                "-n",
                CLOUD,
                "--skip-endpoint-discovery",
                "--cloud-config",
                f"@{self._cloud}",
            )
            self.az("cloud", "set", "-n", CLOUD)
            yield
        finally:
            self._configuration = before

    def sign_in(self, client: str, *words: str) -> Any:
        """Sign in by the client's secret, which is in a file and not in the command line."""
        given = ("-u", client, "-p", f"@{self.file(self.secrets[client])}", "--tenant", self.tenant)
        return self.az("login", "--service-principal", *given, *words)

    def az(self, *words: str, **variables: str) -> Any:
        """Run a command; what it prints, as JSON.

        Raises:
            RuntimeError: it failed, with what it said.
        """
        done = self._ran(words, variables)
        if done.returncode:
            raise RuntimeError(f"az {' '.join(words)}: {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, said: str, *words: str, **variables: str) -> None:
        """Run a command that must fail, and say this."""
        done = self._ran(words, variables)
        assert done.returncode, f"az {' '.join(words)}: went well: {done.stdout[:500]}"
        assert said in done.stderr, done.stderr[-2000:]

    def _ran(self, words: tuple[str, ...], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            # What it imports is compiled once, by whichever command comes first.
            [sys.executable, "-W", "ignore", "-m", "azure.cli", *words, "-o", "json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=self.folder,
            env={**self._variables, "AZURE_CONFIG_DIR": self._configuration, **variables},
        )

    def key(self, verb: str, name: str, *words: str) -> Any:
        """``az keyvault key VERB`` of a key in the vault."""
        return self.az("keyvault", "key", *verb.split(), "--vault-name", self.name, "-n", name, *words)

    def fresh(self) -> str:
        """A name that no key has had."""
        return f"cli-{secrets.token_hex(6)}"

    def forged(self, kind: str, **fields: Any) -> dict[str, bytes]:
        """Evidence that the services are configured to trust; bytes go and come as hex."""
        asked = {
            name: f"hex:{each.hex()}" if isinstance(each, bytes) else each for name, each in fields.items()
        }
        print(json.dumps({"forge": kind, **asked}), flush=True)
        return {
            name: bytes.fromhex(each.removeprefix("hex:"))
            for name, each in json.loads(sys.stdin.readline()).items()
        }


def b64u(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64u(text: str) -> bytes:
    """Base64url to bytes."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
