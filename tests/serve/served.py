"""Run ``kluis serve`` as a separate process or in this one, and a client of its services."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from kluis.serve import images, rekeying
from kluis.serve.plan import Plan
from kluis.serve.start import Serving, serving
from kluis.services.clock import SystemClock

CODE = "import sys; from kluis.cli.main import main; main()"
SCOPES = {"attestation": "https://attest.azure.net", "keyvault": "https://vault.azure.net"}


@contextlib.contextmanager
def serving_here(plan: Plan) -> Iterator[Serving]:
    """The services of a plan, run by this process, while the ``with`` lasts.

    Their log goes to a file in their state folder: nobody catches what is written between two tests.
    """
    with (plan.state / "log").open("a") as log:

        def write(lines: Iterable[str]) -> None:
            log.writelines(f"{line}\n" for line in lines)

        with serving(plan, SystemClock(), lambda line: None, write) as made:
            yield made


def bring_images(state: Path) -> None:
    """Have the services' images in a state folder: they are built once in a run of the tests."""
    kept = Path(os.environ["XDG_CACHE_HOME"]) / "kluis/services"
    kept.mkdir(mode=0o700, exist_ok=True, parents=True)
    with rekeying.making(kept, lambda line: None):  # as the fixture kluis_services does, with the same folder
        for service in images.SERVICES:
            images.image_of(service, kept, "measurement", lambda line: None)
    shutil.copytree(kept / "images", state / "images", dirs_exist_ok=True)
    shutil.copy(kept / "author.pem", state)


class Served:
    """A running command; use it in a ``with``, which kills it if it still runs.

    Attributes:
        ``told``: its output once all was ready.
        log: lines of its standard error.
    """

    def __init__(self, services: Iterable[str], state: Path, *more: str, port: int = 0) -> None:
        where = ["--state", str(state), "--port", str(port)]
        line = [sys.executable, "-c", CODE, "serve", *services, *where, "--json"]
        self.process = subprocess.Popen(
            [*line, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.log: list[str] = []
        self._seen = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.told = self._document()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def _document(self) -> Any:
        text = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                return json.loads(text)
        self._reader.join(60)
        raise AssertionError("".join(self.log))

    def enclaves(self) -> list[int]:
        """Pids of its enclaves, as this machine knows them."""
        return [pid for pids in self.told["enclaves"].values() for pid in pids]

    def running_enclaves(self) -> list[int]:
        """Pids of the enclaves that run since the last hangup."""
        told = [line.rpartition(":")[2] for line in self.log if "enclaves now:" in line]
        return [int(word) for word in told[-1].split()] if told else self.enclaves()

    def wait_for(self, words: str, seconds: float = 300.0) -> None:
        """Wait until a line of its log that was not waited for before contains these words."""
        until = time.monotonic() + seconds
        while not any(words in line for line in self.log[self._seen :]):
            assert time.monotonic() < until, "".join(self.log)
            assert self.process.poll() is None, "".join(self.log)
            time.sleep(0.05)
        self._seen += next(n for n, line in enumerate(self.log[self._seen :], 1) if words in line)

    def kill(self) -> None:
        """End it as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(120)

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        self.process.terminate()
        return self.process.wait(300)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def free_ports(count: int = 4) -> int:
    """The first of so many ports in a row that are free now: a vault keeps its authority's address.

    Another process that runs tests meanwhile looks elsewhere.
    """
    begin = os.getpid() * 100 % 10_000
    for first in (20_000 + (begin + step) % 10_000 for step in range(0, 10_000, 10)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


class Admin:
    """A client with the development issuer's administrator's tokens."""

    def __init__(self, told: Any) -> None:
        self.addresses = told["addresses"]
        self.http = httpx.Client(verify=ssl.create_default_context(cafile=told["ca"]), timeout=120)
        secrets = {one["id"]: one["secret"] for one in json.loads(Path(told["clients"]).read_text())}
        form = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": secrets["admin"]}
        self._headers = {}
        for service, scope in SCOPES.items():
            answer = self.http.post(
                f"{told['authorization']}/oauth2/v2.0/token", data={**form, "scope": f"{scope}/.default"}
            )
            self._headers[service] = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def headers(self, service: str) -> dict[str, str]:
        """What authorises a request to one service."""
        return self._headers[service]

    def create_key(self, name: str) -> bool:
        """Make a key; whether that was acknowledged."""
        answer = self.http.post(
            f"{self.addresses['keyvault']}/keys/{name}/create?api-version=7.4",
            json={"kty": "EC", "crv": "P-256"},
            headers=self._headers["keyvault"],
        )
        return answer.status_code == 200

    def key(self, name: str) -> httpx.Response:
        """Read a key."""
        url = f"{self.addresses['keyvault']}/keys/{name}/?api-version=7.4"
        return self.http.get(url, headers=self._headers["keyvault"])

    def set_policy(self, number: int) -> bool:
        """Set a policy that carries a number; whether that was acknowledged."""
        text = f"version= 1.0; authorizationrules{{ => permit(); }}; issuancerules{{ }}; // {number}"
        body = urlsafe_b64encode(
            json.dumps({"AttestationPolicy": urlsafe_b64encode(text.encode()).rstrip(b"=").decode()}).encode()
        ).rstrip(b"=")
        answer = self.http.put(
            f"{self.addresses['attestation']}/policies/SgxEnclave?api-version=2020-10-01",
            content=b"eyJhbGciOiJub25lIn0." + body + b".",
            headers={**self._headers["attestation"], "Content-Type": "text/plain"},
        )
        return answer.status_code == 200

    def policy(self) -> int:
        """The number of the policy that holds; 0 for the default one."""
        url = f"{self.addresses['attestation']}/policies/SgxEnclave?api-version=2020-10-01"
        token = self.http.get(url, headers=self._headers["attestation"]).json()["token"]
        jws = json.loads(_part(token.split(".")[1]))["x-ms-policy"]
        text = _part(json.loads(_part(jws.split(".")[1]))["AttestationPolicy"]).decode()
        return int(text.rpartition("// ")[2]) if "// " in text else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


def _part(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
