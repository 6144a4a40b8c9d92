"""The operator's launch policy: each rule, and each way to write it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import FormatError, PolicyError
from kluis.tee.platform.launching import policy
from kluis.tee.platform.launching.policy import LaunchPolicy

ASKED = {"signer": b"s" * 32, "debug": False, "heap_bytes": 1 << 29, "user": 1000}


def test_without_a_file_the_defaults(tmp_path: Path) -> None:
    """No launch.toml: an ordinary launch passes."""
    policy.load(tmp_path / "launch.toml").check(**ASKED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "asked", "message"),
    [
        (LaunchPolicy(debug=False), {"debug": True}, "debug: want off, got on"),
        (LaunchPolicy(max_heap="1MiB"), {}, "max_heap: want at most 1MiB, got 536870912 bytes"),
        (
            LaunchPolicy(max_scratch="1MiB"),
            {"scratch_bytes": 1 << 21},
            "max_scratch: want at most 1MiB, got 2097152 bytes",
        ),
        (LaunchPolicy(signers=["00" * 32]), {}, f"signers: want one of 1, got {(b's' * 32).hex()}"),
        (LaunchPolicy(users=[0]), {}, "users: want one of [0], got 1000"),
    ],
)
def test_each_rule(rules: LaunchPolicy, asked: dict[str, object], message: str) -> None:
    """Each rule refuses by its name, with what it wants and what it got."""
    with pytest.raises(PolicyError) as refused:
        rules.check(**{**ASKED, **asked})  # type: ignore[arg-type]

    assert refused.value.message == f"launch policy: {message}"


@pytest.mark.parametrize("text", ["max_heap = 5", 'max_heap = "5"', "unknown = 1", "debug = 'yes'", "= 1"])
def test_wrong_file(tmp_path: Path, text: str) -> None:
    """An unknown field or a wrong type does not load."""
    (tmp_path / "launch.toml").write_text(text)

    with pytest.raises(FormatError, match=r"launch\.toml|size"):
        policy.load(tmp_path / "launch.toml")


def test_sizes() -> None:
    """Sizes are whole numbers of binary units."""
    assert policy.size("512MiB") == 512 << 20
    assert policy.size("3B") == 3
