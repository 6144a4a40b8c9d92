"""The template's application, served inside, and its models without HTTP."""

from app import SEALED, app, state
from workload import Workload

from kluis.enclave.models import open_model

_workloads: list[Workload] = []


@app.ecall
def unlock(key: bytes) -> None:
    """Open the models."""
    state.open(key)
    with open_model(SEALED, key) as model:
        _workloads.append(Workload(model))


@app.ecall
def embed() -> float:
    """The seconds of one batch."""
    return _workloads[0].embed()


@app.ecall
def decode() -> float:
    """The seconds of one token."""
    return _workloads[0].decode()
