"""A client whose package is not installed: the error names the package and the command that installs it."""

from __future__ import annotations

import sys

import pytest

from kluis import client, installing
from kluis.errors import UnavailableError


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package ``openai`` only its clients are missing, with the extra that brings them."""
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "kluis.client.openai_clients", raising=False)
    for name in ("OpenAI", "AsyncOpenAI"):
        with pytest.raises(UnavailableError) as raised:
            getattr(client, name)
        assert raised.value.message == f"kluis.client.{name}: want the package openai, got none"
        assert raised.value.hint == installing.command_for("openai")
    assert client.unlock_model
    with pytest.raises(AttributeError):
        _ = client.Other
