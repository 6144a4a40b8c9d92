"""The launch document, and the state of being inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from kluis import enclave
from kluis.enclave.boundary import memfile
from kluis.enclave.inside import Launch
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256

CONFIGURATION = {"version": 1, "heap_bytes": 5, "grants": [], "level": "process"}
DOCUMENT: dict[str, Any] = {
    "manifest": {
        "entry": "app:app", "argv": ["-v"], "interface": "ab" * 32, "threads": 4, "svn": 3,
        "grants": ["table"], "name": "more",
        "layers": [{"name": "app", "mount": "/k/app", "digest": "ef" * 32}],
    },
    "launch_configuration": CONFIGURATION,
    "level": "process",
    "debug": False,
    "platform": "ab" * 32,
}  # fmt: skip
DOCUMENT["image_id"] = sha256(jcs.dumps(DOCUMENT["manifest"])).hex()


def test_reads() -> None:
    """The document's fields come out typed, and the launch configuration's bytes as they were."""
    launch = Launch.read(memfile.of_bytes(jcs.dumps(DOCUMENT)))
    assert launch == Launch(
        entry="app:app",
        argv=("-v",),
        interface=b"\xab" * 32,
        threads=4,
        svn=3,
        grants=frozenset({"table"}),
        image_id=sha256(jcs.dumps(DOCUMENT["manifest"])),
        launch_configuration=jcs.dumps(CONFIGURATION),
        level="process",
        debug=False,
        sockets={},
        layers={"/k/app": "ef" * 32},
        platform=b"\xab" * 32,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"debug": "no"},
        {"platform": "zz"},
        {"manifest": {}, "image_id": sha256(b"{}").hex()},
        {"level": 5},
    ],
)
def test_refuses(change: dict[str, Any]) -> None:
    """A malformed document is refused."""
    with pytest.raises(FormatError, match=r"^launch document: "):
        Launch.read(memfile.of_bytes(jcs.dumps(DOCUMENT | change)))


@pytest.mark.parametrize(
    "change",
    [{"image_id": "cd" * 32}, {"image_id": "zz"}, {"manifest": DOCUMENT["manifest"] | {"svn": 4}}],
)
def test_another_image_id(change: dict[str, Any]) -> None:
    """An image id that is not the manifest's is refused: what is measured here would have another name."""
    with pytest.raises(AuthenticityError, match=r"^launch document: image_id: want its manifest's, "):
        Launch.read(memfile.of_bytes(jcs.dumps(DOCUMENT | change)))


def test_unsealed() -> None:
    """A document that its giver could still change is refused."""
    file = os.memfd_create("launch", os.MFD_ALLOW_SEALING)
    os.write(file, jcs.dumps(DOCUMENT))
    with pytest.raises(FormatError, match="want seals"):
        Launch.read(file)


@pytest.mark.parametrize(
    "call",
    [
        lambda: enclave.seal(b""),
        lambda: enclave.unseal(b""),
        lambda: enclave.quote(),
        lambda: enclave.target_info(),
        lambda: enclave.report(bytes(512)),
        lambda: enclave.open_sealed(bytes(64)),
        lambda: enclave.release_offer(b""),
        lambda: enclave.receipt_offer(),
        lambda: enclave.sign_receipt(b""),
        lambda: enclave.counter("c", policy="signer").read(),
    ],
)
def test_outside(call: Callable[[], object]) -> None:
    """Outside an enclave each of these reports that it works only inside one."""
    with pytest.raises(UsageError, match=r"works only inside an enclave(?m:$)"):
        call()


def test_exports() -> None:
    """Every name that the package lists is there, and no other is found."""
    assert all(getattr(enclave, name) for name in enclave.__all__)
    with pytest.raises(AttributeError):
        enclave.nothing  # noqa: B018
