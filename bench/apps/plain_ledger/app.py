"""A ledger without an enclave, under uvicorn: each write is encrypted, hashed, signed twice, and on the disk.

``LEDGER_STATE`` names the folder of its file. What it writes of an entry has as many bytes as a ledger's, the
entry of its signatures included, and it answers as a ledger does, with a receipt.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SIGNATURES = bytes(int(os.environ["LEDGER_SIGNATURE_BYTES"]))
NODE, SERVICE = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
SEALED = AESGCM(os.urandom(32))
file = os.open(Path(os.environ["LEDGER_STATE"]) / "ledger", os.O_RDWR | os.O_CREAT, 0o600)
written = 0


async def write(request: Request) -> Response:
    """Write an entry."""
    global written
    contents = json.dumps({**(await request.json()), "secretKey": base64.b64encode(os.urandom(32)).decode()})
    public = written.to_bytes(8, "little") + bytes(73)
    sealed = SEALED.encrypt(written.to_bytes(12, "little"), contents.encode(), public)
    leaf = hashlib.sha256(hashlib.sha256(public + sealed).digest() + bytes(64)).digest()
    signatures = [key.sign(leaf, ec.ECDSA(hashes.SHA384())) for key in (NODE, SERVICE)]
    os.pwrite(file, public + sealed + b"".join(signatures) + SIGNATURES, written)
    written += len(public) + len(sealed) + sum(map(len, signatures)) + len(SIGNATURES)
    os.fdatasync(file)
    receipt = {"root": leaf.hex(), "signatures": [base64.b64encode(one).decode() for one in signatures]}
    return JSONResponse({"collectionId": "subledger:0", "receipt": receipt}, headers={"x-txid": str(written)})


ledger = Starlette(routes=[Route("/", write, methods=["POST"])])
