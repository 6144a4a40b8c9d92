"""Launch configuration: the document behind CONFIGID, in one form only."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import jcs
from kluis.formats.kluis import launch
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.hashes import sha512
from tests.strategies import PROPERTY, mutations

GOOD = LaunchConfiguration(
    heap_bytes=1 << 29,
    threads=8,
    grants=("connect:db", "insecure_jit"),
    missing=("memfd_secret",),
    counter="unwitnessed",
    level="process",
    platform=b"\xab" * 32,
)
TEXT = GOOD.encode()


def test_document() -> None:
    """The document is canonical JSON, reads back, and CONFIGID has its SHA-512."""
    assert LaunchConfiguration.parse(TEXT) == GOOD
    assert json.loads(TEXT) == {
        "version": 1,
        "heap_bytes": 1 << 29,
        "threads": 8,
        "grants": ["connect:db", "insecure_jit"],
        "missing": ["memfd_secret"],
        "counter": "unwitnessed",
        "level": "process",
        "platform": "ab" * 32,
    }
    assert launch.config_id(TEXT) == sha512(TEXT)


def test_scratch() -> None:
    """The size of scratch is a member where there is scratch, and is not named where there is none."""
    with_scratch = dataclasses.replace(GOOD, scratch_bytes=1 << 28)

    assert json.loads(with_scratch.encode()) == {**json.loads(TEXT), "scratch_bytes": 1 << 28}
    assert LaunchConfiguration.parse(with_scratch.encode()) == with_scratch


def _changed(**changes: object) -> bytes:
    return jcs.dumps({**json.loads(TEXT), **changes})


REFUSED = {
    "version": (_changed(version=2), "launch configuration.version: want one of [1], got 2"),
    "heap": (_changed(heap_bytes=0), "launch configuration.heap_bytes: want 1..9007199254740991, got 0"),
    "no scratch, named": (
        _changed(scratch_bytes=0),
        "launch configuration.scratch_bytes: want 1..9007199254740991, got 0",
    ),
    "threads": (_changed(threads="8"), "launch configuration.threads: want an integer, got text"),
    "threads that are true": (
        _changed(threads=True),
        "launch configuration.threads: want an integer, got a boolean",
    ),
    "unsorted": (_changed(grants=["b", "a"]), "launch configuration.grants: want sorted names, none twice"),
    "twice": (_changed(missing=["a", "a"]), "launch configuration.missing: want sorted names, none twice"),
    "names": (_changed(missing=[None]), "launch configuration.missing: want text, got null"),
    "too many": (
        _changed(missing=[f"{i:03}" for i in range(257)]),
        "launch configuration.missing: has 257 items, must be at most 256",
    ),
    "counter": (_changed(counter=None), "launch configuration.counter: want text, got null"),
    "platform": (_changed(platform="ab"), "launch configuration.platform: want 32 bytes, got 1"),
    "platform in capitals": (
        _changed(platform="AB" * 32),
        "launch configuration.platform: is not lower-case hex",
    ),
    "level": (_changed(level=["a"]), "launch configuration.level: want text, got a list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A document with other members, kinds or order is refused."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        LaunchConfiguration.parse(data)
    assert str(caught.value) == message


@PROPERTY
@given(mutations(TEXT))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        parsed = LaunchConfiguration.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
