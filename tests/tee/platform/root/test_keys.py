"""Sealing keys: who gets which, and who never does."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.formats.kluis.launch import UNWITNESSED, LaunchConfiguration
from kluis.formats.sgx.report import Flag
from kluis.tee.platform.root.identity import Identity
from kluis.tee.platform.root.keys import CPUSVN, Secret

SECRET = Secret(bytes(range(32)))
KEY_ID = bytes(32)
CONFIGURATION = LaunchConfiguration(
    heap_bytes=1 << 29,
    threads=8,
    grants=(),
    missing=(),
    counter=UNWITNESSED,
    level="process",
    platform=bytes(32),
)
CALLER = Identity(
    mrenclave=b"e" * 32,
    mrsigner=b"s" * 32,
    product_id=7,
    svn=3,
    flags=int(Flag.INIT | Flag.MODE64 | Flag.KSS),
    cpusvn=CPUSVN,
    configuration=CONFIGURATION,
)


def key(who: Identity, policy: str = "measurement", svn: int = 1, key_id: bytes = KEY_ID) -> bytes:
    """The key that ``who`` gets."""
    return SECRET.seal_key(who, policy=policy, svn=svn, key_id=key_id, cpusvn=CPUSVN)


def launched(**changes: object) -> Identity:
    """The caller, started otherwise."""
    return dataclasses.replace(CALLER, configuration=dataclasses.replace(CONFIGURATION, **changes))  # type: ignore[arg-type]


def test_same_asker_same_key() -> None:
    """The same question has the same answer, of 32 bytes; another key id another."""
    assert key(CALLER) == key(CALLER)
    assert len(key(CALLER)) == 32
    assert key(CALLER, key_id=b"\1" * 32) != key(CALLER)


def test_measurement_follows_the_code() -> None:
    """By measurement: other code gets another key, its signer aside."""
    assert key(dataclasses.replace(CALLER, mrenclave=b"x" * 32)) != key(CALLER)


def test_signer_follows_the_product() -> None:
    """By signer: other code of the product gets the same key; another product or signer does not."""
    own = key(CALLER, "signer")

    assert key(dataclasses.replace(CALLER, mrenclave=b"x" * 32), "signer") == own
    assert key(dataclasses.replace(CALLER, product_id=8), "signer") != own
    assert key(dataclasses.replace(CALLER, mrsigner=b"x" * 32), "signer") != own


def test_newer_code_reaches_older_keys_and_not_the_other_way() -> None:
    """An svn at or below the caller's own has its key; one above is refused."""
    newer = dataclasses.replace(CALLER, svn=4)

    assert key(newer, "signer", svn=3) == key(CALLER, "signer", svn=3)
    with pytest.raises(PolicyError) as refused:
        key(CALLER, "signer", svn=4)
    assert refused.value.message == "seal key: svn: want at most the caller's 3, got 4"


@pytest.mark.parametrize(
    "less",
    [
        launched(missing=("secret-memory",)),
        launched(level="process-user"),
        launched(grants=("insecure_jit",)),
        dataclasses.replace(CALLER, flags=CALLER.flags | int(Flag.DEBUG)),
    ],
    ids=["a lack", "a lower level", "an insecure grant", "debug"],
)
@pytest.mark.parametrize("policy", ["measurement", "signer"])
def test_less_protected_launch_gets_another_key(less: Identity, policy: str) -> None:
    """What is protected less never reaches the key of what is protected more."""
    assert key(less, policy) != key(CALLER, policy)


def test_heap_and_threads_do_not_matter() -> None:
    """A release with another heap still opens what its predecessor sealed."""
    assert key(launched(heap_bytes=1 << 30, threads=2), "signer") == key(CALLER, "signer")


def test_platform_version() -> None:
    """A key of an older platform version can be requested; one of a newer version is refused."""
    older, newer = bytes(16), bytes([2]) + CPUSVN[1:]

    assert SECRET.seal_key(CALLER, policy="signer", svn=1, key_id=KEY_ID, cpusvn=older) != key(
        CALLER, "signer"
    )
    with pytest.raises(PolicyError, match="cpusvn: want at most"):
        SECRET.seal_key(CALLER, policy="signer", svn=1, key_id=KEY_ID, cpusvn=newer)


@pytest.mark.parametrize(
    ("policy", "svn", "key_id"), [("any", 1, KEY_ID), ("signer", -1, KEY_ID), ("signer", 1, b"short")]
)
def test_senseless_requests(policy: str, svn: int, key_id: bytes) -> None:
    """Another policy, an svn below 0, a short key id: refused."""
    with pytest.raises(UsageError):
        key(CALLER, policy, svn, key_id)


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """The secret's file is made at first use with mode 0600, read again afterwards, refused when open."""
    path = tmp_path / "platform.secret"
    made = Secret.load_or_create(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Secret.load_or_create(path).report_root == made.report_root
    assert repr(made) == "<platform secret>"
    path.chmod(0o644)
    with pytest.raises(UnavailableError, match="want mode 0600, got 0644"):
        Secret.load_or_create(path)
