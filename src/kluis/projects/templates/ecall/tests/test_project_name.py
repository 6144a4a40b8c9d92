"""The enclave as its host sees it."""

from pathlib import Path

import pytest

from kluis.errors import RemoteError, UsageError

APP = Path(__file__).parents[1] / "app.py"


def test_mean_age(enclave):
    assert enclave(APP).mean_age([61, 58, 70, 66, 49]) == 60.8


def test_too_few(enclave):
    with pytest.raises(RemoteError, match="at least 5 people"):
        enclave(APP).mean_age([61])


def test_another_type(enclave):
    with pytest.raises(UsageError, match=r"mean_age.ages\[0\]"):
        enclave(APP).mean_age(["sixty-one"])
