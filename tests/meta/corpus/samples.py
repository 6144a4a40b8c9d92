"""Records made by a forger, as their folder holds them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from kluis.hashes import sha256
from tests.collateral.service import signed
from tests.evidence.forge import IMAGE, NOW, Forge


def files(forge: Forge, quote: bytes | None = None) -> dict[str, bytes]:
    """A quote of the forger's, and its collateral, by role."""
    good = forge.collateral()
    return {
        "quote": quote or forge.quote(),
        "tcb_info": signed("tcbInfo", good, "x").body,
        "qe_identity": signed("enclaveIdentity", good, "x").body,
        "tcb_info_issuer_chain": good.tcb_info_issuer_chain,
        "qe_identity_issuer_chain": good.qe_identity_issuer_chain,
        "pck_crl": good.pck_crl,
        "pck_crl_issuer_chain": good.pck_crl_issuer_chain,
        "root_ca_crl": good.root_ca_crl,
    }


def write(
    root: Path,
    name: str,
    parts: dict[str, bytes],
    *,
    outcome: str,
    tee: str = "sgx",
    now: datetime | None = NOW,
    **more: Any,
) -> Path:
    """Put a record where the runner finds it, and into the index."""
    folder = root / tee / name
    folder.mkdir(parents=True)
    listed = {}
    for role, data in parts.items():
        (folder / f"{role}.bin").write_bytes(data)
        listed[role] = {"file": f"{role}.bin", "size": len(data), "sha256": sha256(data).hex()}
    meta = {
        "id": f"{tee}/{name}",
        "tee": tee,
        "verify_time": now.isoformat() if now else None,
        "expected": {"outcome": outcome, **more.pop("expected", {})},
        "known": {"mrenclave": IMAGE.hex(), "isvsvn": 3},
        "files": listed,
        **more,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    index = root / "INDEX.json"
    named = json.loads(index.read_text()) if index.exists() else []
    index.write_text(json.dumps([*named, {"id": meta["id"]}]))
    return folder
