"""What the key is not released for, each tried, and what is said of it.

python refused.py archive.kluis
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import KluisError
from kluis.host import load
from kluis.host.vaults import vault_evidence
from kluis.images import build
from services import Refused, Services, run, why

HERE = Path(__file__).parent
PATIENCE_SECONDS = 120
DIGEST = re.compile(r"\b([0-9A-Za-z_-]{8})[0-9A-Za-z_-]{31,256}([0-9A-Za-z_-]{4})\b")  # too long to read


def tried(what: str, attempt: Callable[[], object]) -> None:
    """Try something that must be refused, and say why it was."""
    try:
        attempt()
    except (Refused, KluisError) as error:
        print(f"refused {what}:")
        for line in DIGEST.sub(r"\1..\2", why(error)).splitlines():
            print(textwrap.fill(line, 78, initial_indent="    ", subsequent_indent="        "))
    else:
        sys.exit(f"NOT refused: {what}")


def main(path: str) -> None:
    """Try all."""
    services = Services("workload")
    with tempfile.TemporaryDirectory() as place, load(path) as enclave:
        another_image(services, Path(place))
        debug(services, Path(place))
        offer = enclave.offer()
        token = services.attest(offer)
        hosts_key(services, offer)
        another_run(services, path, token)
        own_release(services, enclave, token)
        stale(services, token)
    outdated(services, path)


def another_image(services: Services, place: Path) -> None:
    """One more line in app.py is another program."""
    shutil.copytree(HERE, place / "code", ignore=shutil.ignore_patterns("__pycache__"))
    with (place / "code" / "app.py").open("a") as file:
        file.write('\n\nprint("one line more")\n')
    build(place / "code", place / "other.kluis", place / "author.pem", False)
    with load(place / "other.kluis") as other:
        token = services.attest(other.offer())
        tried("another measurement", lambda: services.release("archive", token))


def debug(services: Services, place: Path) -> None:
    """The same code, but its host may look inside: the measurement is the same, the attribute is not."""
    build(HERE, place / "debug.kluis", place / "author.pem", True)
    with load(place / "debug.kluis") as other:
        tried("a debug build", lambda: services.release("archive", services.attest(other.offer())))


def hosts_key(services: Services, offer: object) -> None:
    """The host writes its own key into the document that the quote covers."""
    numbers = rsa.generate_private_key(65537, 3072).public_key().public_numbers()
    said = json.loads(offer.runtime_data)  # type: ignore[attr-defined]
    said["keys"] = [{"kty": "RSA", "use": "enc", "e": _base64url(numbers.e), "n": _base64url(numbers.n)}]
    forged = msgspec.structs.replace(offer, runtime_data=json.dumps(said).encode())  # type: ignore[type-var]
    tried("a key of the host's own", lambda: services.attest(forged))


def _base64url(number: int) -> str:
    """A number of a key, as JSON Web Keys have it."""
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def another_run(services: Services, path: str, token: str) -> None:
    """A token about one run, used for another one of the same image."""
    release = services.release("archive", token)
    brought = vault_evidence(services.vault, ca=services.ca)
    with load(path) as other:
        tried("a token for another run's key", lambda: other.mean_age(release, brought, b"", "glaucoma"))


def own_release(services: Services, enclave: object, token: str) -> None:
    """The host changes what the vault signed, to hand in a key that it knows."""
    head, body, signature = services.release("archive", token).split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))
    payload["response"]["key"]["key"]["key_ops"] = ["export"]
    changed = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    brought = vault_evidence(services.vault, ca=services.ca)
    release = f"{head}.{changed}.{signature}"
    ask = enclave.mean_age  # type: ignore[attr-defined]
    tried("a release that the host changed", lambda: ask(release, brought, b"", "glaucoma"))


def stale(services: Services, token: str) -> None:
    """A token expires after the service's configured lifetime."""
    body = token.split(".")[1]
    left = json.loads(base64.urlsafe_b64decode(body + "=="))["exp"] - time.time()  # noqa: TID251
    if left > PATIENCE_SECONDS:
        print(f"not tried: a stale token: this one lives {left:.0f} s more (kluis serve --token-seconds 30)")
        return
    time.sleep(max(left, 0) + 1)
    tried("a stale token", lambda: services.release("archive", token))


def outdated(services: Services, path: str) -> None:
    """A weakness became known: who was not certified again since is out of date, these services too.

    They cache information on platforms for an hour; after a restart it is current.
    """

    def release() -> str:
        with load(path) as enclave:
            return services.release("archive", services.attest(enclave.offer()))

    def refusal() -> bool:
        try:
            release()
        except Refused:
            return True
        return False

    platform("recover", "--advisory", "EXAMPLE-SA-1")
    services.restart()
    waited(refusal)
    tried("an outdated platform", release)
    platform("certify")
    services.restart()
    waited(lambda: not refusal())
    print("released again, once the platform was certified again")


def platform(*order: str) -> None:
    """Give this machine's platform an order."""
    subprocess.run(["kluis", "platform", *order], check=True, capture_output=True)


def waited(reached: Callable[[], bool]) -> None:
    """Wait for something, with a limit."""
    for _ in range(30):
        if reached():
            return
        time.sleep(1)
    sys.exit("waited in vain")


if __name__ == "__main__":
    run(main)
