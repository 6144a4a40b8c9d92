"""The root of a real platform, endorsed by an emulated processor, as relying parties see its enclaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kluis.errors import UsageError
from kluis.formats import x509
from kluis.formats.kluis import machine as configurations
from kluis.formats.kluis.endorsement import Endorsement
from kluis.tee.platform.client import Platform
from kluis.tee.platform.endorsing import endorse
from tests.authority.amd.chips import GUEST, ChipDriver, chip, launch
from tests.cli.test_platform_upkeep import Machine, Seen, built, machine, storage

__all__ = ["built", "machine", "storage"]


@pytest.fixture
def processor(machine: Machine) -> ChipDriver:
    """A processor that measured this machine, whose root is in a file."""
    made = chip(now=datetime.now(UTC))
    (machine.home / "ark.pem").write_bytes(made.root_pem())
    return ChipDriver(made, launch())


def verified(machine: Machine, root: str) -> tuple[int, dict[str, object], str]:
    """What ``kluis verify`` says of a new quote, under a root by its file."""
    quote, home = machine.quote(), machine.home
    code, value, error = machine.run(
        "verify", quote, "--root", home / root, "--collateral", home / "collateral.json"
    )
    return code, value["claims"] if value else {}, error


def test_its_enclaves_are_a_machines(machine: Machine, processor: ChipDriver) -> None:
    """Under the processor's root a quote is of an enclave in a machine; under its own it is what it was."""
    assert verified(machine, "ark.pem")[0] == 4
    said = endorse(Platform.connect(start=False), processor, release="1")
    assert str(said["endorsed"]).startswith("snp, 20")

    code, claims, error = verified(machine, "ark.pem")
    assert code == 0, error
    assert (claims["protection"], claims["tee"]) == ("vm", "sgx")
    around = claims["machine"]
    assert isinstance(around, dict)
    assert (around["kind"], around["release"], around["debug"]) == ("snp", "1", False)
    assert GUEST.hex() in json.dumps(around)

    code, claims, error = verified(machine, "root.pem")
    assert (code, claims["machine"]) == (0, None), error
    assert machine.theirs(machine.quote()) == "UpToDate"  # others ignore the member


def test_it_ends_with_the_platform(machine: Machine, processor: ChipDriver) -> None:
    """No endorsement is kept: the next platform may run in another boot, which measured something else."""
    endorse(Platform.connect(start=False), processor)
    machine.good("platform", "stop")
    assert machine.good("platform", "start", "--endorse", "none")["endorsed"] == "no"
    assert "endorsement" not in json.loads(Platform.connect(start=False).collateral())


def test_of_another_root(machine: Machine, processor: ChipDriver) -> None:
    """The platform publishes no endorsement that names another root."""
    platform = Platform.connect(start=False)
    said = endorse(platform, processor)
    given = Endorsement.parse(json.loads(platform.collateral())["endorsement"].encode())
    (root,) = x509.parse_pem(platform.root_pem(), "root")
    assert configurations.of_runtime_data(given.runtime_data).root == configurations.name_of(root.spki)

    other = configurations.of_runtime_data(given.runtime_data)
    document = configurations.MachineConfiguration(
        root=bytes(32), boot=other.boot, debug=other.debug, missing=other.missing
    ).runtime_data()
    made = Endorsement(kind="snp", runtime_data=document, parts=given.parts)
    with pytest.raises(UsageError, match=r"root: want .*, this platform's, got 0000000000000000") as caught:
        platform.order("endorse", endorsement=made.encode().decode())
    assert caught.value.code == "endorsement_root"
    assert platform.status()["endorsed"] == said["endorsed"]


def test_a_driver_by_name(machine: Machine) -> None:
    """One that is absent is refused by name, with the reason; none is found by itself on this machine."""
    code, _, error = machine.run("platform", "start", "--endorse", "tdx")
    assert (code, "driver tdx: " in error) == (7, True)
    code, _, error = machine.run("platform", "start", "--endorse", "tdz")
    assert code == 2
    assert "tdx" in error
    assert Seen(0, "UpToDate", []) == machine.ours(machine.quote())
