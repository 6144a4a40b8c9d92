"""The reason of an unavailable database is in the host's log, once; clients get an error that it is
unavailable.
"""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from kluis.errors import UnavailableError
from kluis.serve import store_log
from kluis.serve.store_log import StoreLog

WHERE = 'database: connection to server at "10.0.0.5" failed: no password for user "kluis"'


def test_what_clients_are_told_of_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclave does not learn its address; the log has it and the fix, and not each time."""
    records, lines = Mock(), []
    away = UnavailableError(WHERE, hint="see that it runs", code="store_database")
    functions = StoreLog("keyvault", lines.extend).functions(records)
    for each in ("read", "commit", "keys"):
        getattr(records, each).side_effect = away
        with pytest.raises(UnavailableError) as refused:
            functions[f"store_{each}"]([], 0)
        assert (refused.value.message, refused.value.code) == ("database: unavailable", "store_database")
    assert lines == [f"store keyvault: {WHERE} (hint: see that it runs)"]
    monkeypatch.setattr(store_log, "AGAIN_SECONDS", 0.0)
    with pytest.raises(UnavailableError):
        functions["store_read"]([], 0)
    assert len(lines) == 2


def test_what_is_no_fault_of_the_database() -> None:
    """Goes through as it is, answers and refusals."""
    records, lines = Mock(), []
    functions = StoreLog("keyvault", lines.extend).functions(records)
    records.read.return_value = "rows"
    assert functions["store_read"]([b"id"], 7) == "rows"
    records.read.assert_called_once_with([b"id"], 7)
    other = UnavailableError("store: re-keying: want one that has begun, got none")
    records.rekey_put.side_effect = other
    with pytest.raises(UnavailableError) as refused:
        functions["store_rekey_put"](b"", [])
    assert refused.value is other
    assert lines == []
