"""A host's side of a ledger: one process at a time has its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.serve.ledger.hosting import refuse_running
from kluis.serve.ledger.log import LedgerLog
from kluis.serve.plan import Plan
from kluis.serve.start import serving
from kluis.services.clock import SystemClock


def test_a_second_ledger_of_a_folder_is_refused(tmp_path: Path) -> None:
    """While the first runs, and before anything else is tried: its ports would be in use, too."""
    refuse_running(tmp_path)
    assert not any(tmp_path.iterdir())
    with LedgerLog(tmp_path / "ledger"):
        with pytest.raises(UnavailableError) as caught:
            refuse_running(tmp_path)
        assert caught.value.message == f"{tmp_path}: a ledger of this folder runs already"
        assert caught.value.code == "ledger_held"
        assert caught.value.hint == (
            f"Ctrl-C where it runs ends it; kluis ledger status --url URL --service-cert"
            f" {tmp_path}/service_cert.pem talks to it, with the URL that it printed"
        )
    refuse_running(tmp_path)


def test_a_second_ledger_reaches_no_port(tmp_path: Path) -> None:
    """Its ports are the first one's: the error names the ledger, and not a port."""
    plan = Plan(services=("ledger",), state=tmp_path, port=1)
    with (
        LedgerLog(tmp_path / "ledger"),
        pytest.raises(UnavailableError, match="a ledger of this folder runs already"),
        serving(plan, SystemClock(), lambda line: None),
    ):
        pass
