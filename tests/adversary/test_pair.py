"""Two enclaves that speak with each other over sockets of a host's, who would be one of them."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kluis import appraisal
from kluis.appraisal import BySigner, strict
from kluis.errors import KluisError
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.hashes import sha256
from kluis.host import load
from kluis.tee import author_keys
from kluis.tee.image import signing
from kluis.tee.image.build import builder
from kluis.tee.platform.client import Platform
from tests.keys import author_key

HERE = Path(__file__).parent
REQUIRED = ("starlette", "uvicorn", "pyOpenSSL", "httpx")
Ask = Callable[[Path, socket.socket], tuple[str, str]]


@pytest.fixture(scope="module")
def image(
    tmp_path_factory: pytest.TempPathFactory, platform: Platform, allowed: frozenset[str]
) -> Callable[[str], Path]:
    """The pair's image under an author's name; the policy inside is for the first author's."""
    place = tmp_path_factory.mktemp("pair")
    signing.ensure_key(place / "first.pem")
    modulus = signing.author_key(place / "first.pem").public_key().public_numbers().n
    signer = sha256(modulus.to_bytes(author_keys.KEY_BYTES, "little"))
    policy = strict(
        BySigner(signers=frozenset({signer}), product_id=8, min_svn=1),
        protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
        purpose=Purpose.CHANNEL,
        counters=frozenset({"unwitnessed"}),
        missing=allowed,
    )
    folder = place / "code"
    shutil.copytree(HERE / "pair", folder, ignore=shutil.ignore_patterns("__pycache__"))
    pinned = ", ".join(f'"{one}=={metadata.version(one)}"' for one in REQUIRED)
    settings = f'grants = ["listen:web", "connect:other"]\nheap = "256MiB"\nrequirements = [{pinned}]\n'
    (folder / "kluis.toml").write_text(settings)
    (folder / "peers.toml").write_text(appraisal.dumps(policy))
    (folder / "root.crt").write_bytes(platform.root_pem())

    builder.build(folder, place / "first.kluis", place / "first.pem")

    def made(author: str) -> Path:
        out = place / f"{author}.kluis"
        if author != "first":
            signing.sign(place / "first.kluis", author_key(1), out)
        return out

    return made


@pytest.fixture(scope="module")
def first(image: Callable[[str], Path]) -> Path:
    """The first author's."""
    return image("first")


@pytest.fixture
def address(first: Path, platform: Platform, allowed: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Where one of the first author's serves."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        load(first, insecure_allow_missing=allowed, sockets={"listen:web": listener}) as one,
    ):
        one.bring(platform.collateral())
        one.submit("serve")
        yield listener.getsockname()


@pytest.fixture
def ask(platform: Platform, allowed: frozenset[str]) -> Ask:
    """Let an enclave query the peer at the other end of a socket; returns the answer and the peer's name."""

    def asked(image: Path, brought: socket.socket) -> tuple[str, str]:
        with load(image, insecure_allow_missing=allowed, sockets={"connect:other": brought}) as other:
            other.bring(platform.collateral())
            return other.ask(), other.image_id.hex()

    return asked


def test_two_of_one_author(address: tuple[str, int], first: Path, ask: Ask) -> None:
    """Each knows the other before a word is said, by the measurement that both have."""
    with socket.create_connection(address) as brought:
        heard, name = ask(first, brought)
    assert heard == f"for {name}"


def test_the_same_code_of_another_author(
    address: tuple[str, int],
    image: Callable[[str], Path],
    ask: Ask,
) -> None:
    """The same code signed by another author is refused: the peer reports that, and discloses nothing."""
    second = image("second")  # before any client connects: a silent client is not waited for long
    with socket.create_connection(address) as brought, pytest.raises(KluisError, match=r"got 403.*signer"):
        ask(second, brought)
