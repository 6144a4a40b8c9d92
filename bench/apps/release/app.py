"""An environment that receives released keys."""

from __future__ import annotations

from kluis.enclave import Enclave, Evidence
from kluis.enclave.key_release import release_key_offer

app = Enclave("release", product_id=1, svn=1)


@app.ecall
def offer() -> Evidence:
    """Evidence for this run's key."""
    return release_key_offer()
