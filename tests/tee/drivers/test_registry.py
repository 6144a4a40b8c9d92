"""Drivers are chosen by detection or by name, never one in the place of another."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.tee.drivers import NAMES, by_name, detect
from kluis.tee.drivers.registry import all_drivers


class Known:
    """A driver of a machine."""

    def __init__(self, name: str, reason: str | None) -> None:
        self.name = name
        self._reason = reason

    def available(self) -> str | None:
        return self._reason

    def kind(self) -> str:
        return self.name

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        return {"report": report_data}

    def seal_secret(self) -> bytes | None:
        return None


FOUND = Known("one", "no device"), Known("two", None), Known("three", None)


def test_detect() -> None:
    """The first available driver is detected; None if there is none."""
    found = detect(FOUND)
    assert found is not None
    assert found.name == "two"
    assert detect(FOUND[:1]) is None


def test_by_name() -> None:
    """A named driver is this one; one that cannot be used is refused with its reason, not replaced."""
    assert by_name("three", FOUND).name == "three"
    with pytest.raises(UnavailableError, match="driver one: no device") as refused:
        by_name("one", FOUND)
    assert refused.value.exit_code == 7
    with pytest.raises(UsageError, match="driver: want one of one, two, three, got 'tow'"):
        by_name("tow", FOUND)


def test_order() -> None:
    """What proves more comes first: reports of hardware, then documents and vTPMs, a bare TPM last."""
    assert NAMES == ("google", "tsm", "snp", "tdx", "aws", "emulated", "azure", "tpm")
    assert tuple(driver.name for driver in all_drivers()) == NAMES


def test_each_states_its_reason() -> None:
    """On every machine each driver is available, or has a reason that begins with a name."""
    for driver in all_drivers():
        reason = driver.available()
        assert reason is None or ": " in reason
