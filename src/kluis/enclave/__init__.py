"""What runs inside an enclave, all of it measured: declare an app, seal, attest, count.

from kluis.enclave import Enclave, Table
app = Enclave("cohort", product_id=7, svn=3)

@app.ecall
def mean_age(sealed: bytes, cohort: str) -> float: ...
"""

from __future__ import annotations

from kluis.enclave.app import Enclave
from kluis.enclave.table import Table

__all__ = ["Enclave", "Table"]
