"""Errors of a service's enclave are reported precisely, with the code that explains them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from shutil import copytree

import pytest

from kluis.errors import (
    AuthenticityError,
    CallTimeout,
    EnclaveDied,
    KluisError,
    RemoteError,
    UnavailableError,
)
from kluis.serve import fleet, instance
from kluis.serve.instance import as_own
from kluis.serve.plan import Plan
from tests.serve.served import free_ports, serving_here


def remote(kind: str, code: str | None) -> RemoteError:
    """What comes out of an enclave."""
    made = RemoteError(kind, "store: last commit: want epoch 3 or later, got 2", hint="mend it")
    made.inner_code = code
    return made


@pytest.mark.parametrize("kind", [AuthenticityError, UnavailableError])
def test_an_error_of_ours(kind: type[KluisError]) -> None:
    """Kind, code and hint are those of the code inside."""
    told = as_own(remote(kind.__name__, "store_rollback"))
    assert (type(told), told.code, told.hint) == (kind, "store_rollback", "mend it")
    assert told.message == "store: last commit: want epoch 3 or later, got 2"


@pytest.mark.parametrize(
    "error",
    [remote("ValueError", None), remote("Other", "store_rollback"), EnclaveDied("the enclave ended")],
)
def test_another(error: KluisError) -> None:
    """Stays what it is."""
    assert as_own(error) is error


def test_one_that_stands_still(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclave that answers nothing is renamed in vain, replaced, and ended; nobody waits for its drain."""
    monkeypatch.setattr(fleet, "DRAIN_SECONDS", 3600.0)
    url = f"sqlite:///{tmp_path / 'services.db'}"
    with serving_here(Plan(services=("provisioning",), state=state, database=url, port=0)) as running:
        monkeypatch.setattr(instance, "ANSWER_SECONDS", 1.0)
        before = running.fleets[0].instances[0].enclave.pid
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(CallTimeout):
            running.rename()
        running.replace()
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        os.kill(running.fleets[0].instances[0].enclave.pid, signal.SIGSTOP)


def test_a_database_that_was_restored_alone(tmp_path: Path, state: Path) -> None:
    """Under a platform that has gone on it is not authentic, and the code is that which explains it."""
    kept, older = tmp_path / "kept", tmp_path / "older"
    kept.mkdir()
    port, url = free_ports(), f"sqlite:///{kept / 'services.db'}"
    plan = Plan(services=("attestation",), state=state, database=url, port=port)
    with serving_here(plan):
        pass
    copytree(kept, older)
    with serving_here(plan) as running:
        running.fleets[0].instances[0].enclave.store_rekey()
    for file in older.iterdir():
        (kept / file.name).write_bytes(file.read_bytes())
    with (
        pytest.raises(AuthenticityError, match="store: was sealed under another key since") as refused,
        serving_here(plan),
    ):
        pass
    assert refused.value.code == "store_rekeyed"
