"""What a platform publishes: in a machine, its collateral has the endorsement of its root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.evidence import Collateral
from kluis.formats.kluis import channel
from kluis.formats.kluis.endorsement import MAX_SIZE
from kluis.tee.platform import daemon
from kluis.tee.platform.root.session import Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A platform's keys and authority, in files."""
    return daemon.load_root(tmp_path, "process", bytes(32))


def test_outside_of_a_machine(root: Root) -> None:
    """Without a machine the collateral has the members of dcap-qvl, and no other."""
    assert "endorsement" not in json.loads(root.collateral())
    assert Collateral.from_json(root.collateral()).endorsement is None


def test_in_a_machine(root: Root) -> None:
    """The endorsement is a member of the collateral, as text."""
    root.endorsement = b'{"kind":"snp"}'
    assert Collateral.from_json(root.collateral()).endorsement == root.endorsement


def test_the_largest_endorsement_fits_into_a_frame(root: Root) -> None:
    """An enclave in a machine receives the endorsement with its platform's answer, however large it is."""
    root.endorsement = b'"' * 64 + b"a" * (MAX_SIZE - 64)
    answer = channel.Platform("process", root.root_pem(), root.collateral(), bytes(32), bytes(16))
    assert len(answer.collateral) + len(answer.root) < channel.MAX_FRAME - 1024
