"""A vault without an enclave: it checks a token, wraps a key, signs its answer, and records it first.

``VAULT_STATE`` names a folder with ``keys.json``, the token signing keys, and ``recipient.pem``. The record
is a table of SQLite, on disk before the answer is sent.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from pathlib import Path

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

STATE = Path(os.environ["VAULT_STATE"])
KEYS = KeySet.import_key_set(json.loads((STATE / "keys.json").read_text(encoding="utf-8")))
RECIPIENT = serialization.load_pem_public_key((STATE / "recipient.pem").read_bytes())
SIGNER, RELEASED = (rsa.generate_private_key(65537, 2048) for _ in range(2))
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
PLAIN = RELEASED.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
record = sqlite3.connect(STATE / "record.db", isolation_level=None)
for pragma in ("journal_mode=WAL", "synchronous=FULL"):
    record.execute(f"PRAGMA {pragma}")
record.execute("CREATE TABLE released (id INTEGER PRIMARY KEY, issuer TEXT)")


async def release(request: Request) -> Response:
    """Release the key to the token's environment."""
    token = jwt.decode((await request.json())["target"], KEYS, algorithms=["RS256"])
    inner = os.urandom(32)
    wrapped = RECIPIENT.encrypt(inner, OAEP) + keywrap.aes_key_wrap_with_padding(inner, PLAIN)
    signature = SIGNER.sign(wrapped, padding.PKCS1v15(), hashes.SHA256())
    record.execute("INSERT INTO released (issuer) VALUES (?)", (token.claims["iss"],))
    return JSONResponse({"value": base64.b64encode(wrapped + signature).decode()})


vault = Starlette(routes=[Route("/", release, methods=["POST"])])
