"""A machine's configuration: in one form only, and in runtime data of its own purpose."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import jcs
from kluis.formats.kluis import machine
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.hashes import sha256
from tests.strategies import PROPERTY, mutations

BARE = MachineConfiguration(root=b"\1" * 32, boot=b"\2" * 16, debug=False, missing=())
FULL = MachineConfiguration(
    root=b"\1" * 32, boot=b"\2" * 16, debug=True, missing=("a", "b"), only=b"\3" * 32, release="1.0"
)
TEXT = FULL.encode()


@pytest.mark.parametrize("value", [BARE, FULL])
def test_document(value: MachineConfiguration) -> None:
    """The document is canonical JSON, and reads back; what is not stated is left out."""
    assert MachineConfiguration.parse(value.encode()) == value
    assert machine.of_runtime_data(value.runtime_data()) == value
    whole = {
        "version": 1,
        "root": "01" * 32,
        "boot": "02" * 16,
        "debug": value.debug,
        "missing": list(value.missing),
        "only": "03" * 32,
        "release": "1.0",
    }
    if value is BARE:
        del whole["only"], whole["release"]
    assert json.loads(value.encode()) == whole


def test_runtime_data() -> None:
    """The runtime data are of purpose platform, with nothing but the configuration."""
    found = RuntimeData.parse(FULL.runtime_data())
    assert (found.purpose, found.image_id, found.nonce, found.keys) == (Purpose.PLATFORM, bytes(32), b"", ())
    assert found.payload == TEXT


def test_name_of_a_root() -> None:
    """A root is named by the SHA-256 of its key."""
    assert machine.name_of(b"key") == sha256(b"key")


def _changed(**changes: object) -> bytes:
    held = {name: value for name, value in {**json.loads(TEXT), **changes}.items() if value is not None}
    return jcs.dumps(held)


MEMBERS = "['boot', 'debug', 'missing', 'only', 'release', 'root', 'version']"
REFUSED = {
    "version": (_changed(version=2), "machine configuration.version: want one of [1], got 2"),
    "an unknown member": (
        _changed(more=1),
        f"machine configuration: want members {MEMBERS},"
        " got ['boot', 'debug', 'missing', 'more', 'only', 'release', 'root', 'version']",
    ),
    "no root": (
        _changed(root=None),
        f"machine configuration: want members {MEMBERS},"
        " got ['boot', 'debug', 'missing', 'only', 'release', 'version']",
    ),
    "root": (_changed(root="00"), "machine configuration.root: want 32 bytes, got 1"),
    "root in capitals": (_changed(root="AA" * 32), "machine configuration.root: is not lower-case hex"),
    "boot": (_changed(boot="00" * 15), "machine configuration.boot: want 16 bytes, got 15"),
    "debug": (_changed(debug=1), "machine configuration.debug: want true or false, got an integer"),
    "missing that is not sorted": (
        _changed(missing=["b", "a"]),
        "machine configuration.missing: want sorted names, none twice",
    ),
    "missing twice": (
        _changed(missing=["a", "a"]),
        "machine configuration.missing: want sorted names, none twice",
    ),
    "only": (_changed(only="00"), "machine configuration.only: want 32 bytes, got 1"),
    "no release": (
        _changed(release=""),
        "machine configuration.release: want 1 to 64 printable characters",
    ),
    "two lines of release": (
        _changed(release="a\nb"),
        "machine configuration.release: want 1 to 64 printable characters",
    ),
    "a long release": (
        _changed(release="a" * 65),
        "machine configuration.release: is 65 long, must be at most 64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Each document with one fault is refused, and the fault is named."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        MachineConfiguration.parse(data)
    assert caught.value.message == message


@PROPERTY
@given(mutations(TEXT))
def test_mutated(data: bytes) -> None:
    """What still reads is written as the same bytes."""
    try:
        found = MachineConfiguration.parse(data)
    except KluisError:
        return
    assert found.encode() == data
