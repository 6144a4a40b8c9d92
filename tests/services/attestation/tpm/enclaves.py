"""VBS enclaves made by hand: what a boot measures of the secure kernel's key, and what is sent under it."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from kluis.formats.azure import vbs
from kluis.formats.eventlog.sipa import Sipa
from kluis.hashes import sha512
from tests.services.attestation.tpm.client import KEY, Client, jwk_text, signed
from tests.services.attestation.world import b64u


def idks(key: Any) -> tuple[int, bytes]:
    """The secure kernel's key, as the loader measures it."""
    n = key.public_key().public_numbers().n.to_bytes(256, "big")
    head = b"".join(number.to_bytes(4, "little") for number in (1, 2048, 3, 256))
    return Sipa.VSM_IDKS_INFO, head + b"\1\0\1" + n


def vbs_request(
    client: Client, signer: Any, data: bytes | None = None, version: int = 2, flags: int = 0
) -> str:
    """A request of a VBS enclave's."""
    jwk = jwk_text(KEY)
    said: dict[str, Any] = {"current_attestation": client.attestation(client.bound(jwk))}
    member = f'"request_key":{{"jwk":{jwk},"info":{{"tpm_quote":{{"hash_alg":"sha-256"}}}}}}'
    if version == 1:
        told = client.attestation(b"")
        said = {name: told[name] for name in ("aik_cert", "aik_pub")}
        said["current_claim"] = b64u(client.claim(client.challenge))
        member = f'"attest_key":{jwk}'
    text = client.data(said, member)
    report = vbs.Report(
        report_size=224, report_version=1, enclave_data=data or sha512(text.encode()), owner_id=bytes(32),
        unique_id=bytes(32), author_id=b"\1" * 32, family_id=bytes(16), image_id=b"\1" * 16, enclave_svn=4,
        secure_kernel_svn=1, platform_svn=2, flags=flags, signing_level=1, enclave_type=16,
    ).encode()  # fmt: skip
    signature = signer.sign(report, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    header = vbs.Header(
        package_size=24 + len(report) + len(signature), version=1, signature_scheme=1,
        statement_size=len(report), signature_size=256,
    )  # fmt: skip
    package = b64u(header.encode() + report + signature)
    told = f'"{package}"' if version == 1 else f'{{"enclave":{{"report":"{package}"}}}}'
    kind = "attReq" if version == 1 else "attReqV2"
    payload = f'{{"att_type":"vbs","att_data":{{"report_signed":{text},"vsm_report":{told}}}}}'
    return signed({"alg": "PS256", "typ": kind}, payload)
