"""Release a secret to an enclave: verify the key that it offers, then seal to that key, and to no other.

For the owner of the secret, who may be elsewhere: the host that carries the bytes learns nothing. Inside,
:func:`kluis.enclave.release_offer` makes the offer, and :func:`kluis.enclave.open_sealed` opens what was
sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from kluis.appraisal import AttestationResult, Policy, Purpose, RuntimeBinding
from kluis.enclave.attestation import Evidence
from kluis.errors import AuthenticityError, UsageError
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.host import attesting

__all__ = ["Recipient", "verify_offer"]

_CURVE = "X25519"
_KEY_BYTES = 32


@frozen
class Recipient:
    """The key of one run of an enclave, which met the owner's policy.

    Attributes:
        result: the judgement, with every rule met.
        key: X25519, 32 bytes.
    """

    result: AttestationResult
    key: bytes

    def seal(self, secret: bytes, *, info: bytes = b"") -> bytes:
        """Seal a secret, which only that run opens.

        Args:
            secret: of any length.
            info: the same bytes that the code inside passes to ``open_sealed``.

        Returns:
            HPKE base mode: 32 bytes of encapsulated key, ciphertext, tag. DHKEM(X25519, HKDF-SHA256),
            HKDF-SHA256, AES-256-GCM. Spec: RFC 9180.
        """
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        return suite.encrypt(secret, X25519PublicKey.from_public_bytes(self.key), info)


def verify_offer(
    offer: Callable[[bytes], Evidence],
    policy: Policy | Path | str,
    *,
    root: bytes | None = None,
    collateral: bytes | None = None,
) -> Recipient:
    """Request an offer over a fresh nonce, and verify that the enclave behind its key meets the policy.

    1. The evidence is authentic, and over the nonce generated here.
    2. It meets the policy, whose purpose is ``release-key``.
    3. It contains one X25519 key.

    Args:
        offer: passes the nonce, 32 bytes, to the enclave, and returns its evidence.
        policy: or the path of its TOML file.
        root: PEM of the root to trust; None trusts this machine's platform, which only proves that this
            machine's operator runs it.
        collateral: JSON in the format of ``dcap-qvl``; None uses this machine's platform.

    Raises:
        UsageError: the policy is for another purpose.
        AuthenticityError, FreshnessError, FormatError: it is not authentic, or offers no such key.
        PolicyError: it is authentic, but does not meet the policy; lists each failed claim.
    """
    wanted = attesting.read_policy(policy)
    binding = wanted.binding
    if (
        not isinstance(binding, RuntimeBinding)
        or binding.purpose is not Purpose.RELEASE_KEY
        or not binding.nonce
    ):
        raise UsageError(
            "policy.binding: want purpose release-key with a nonce, got another",
            hint="kluis policy init --purpose release-key",
        )
    nonce = attesting.fresh_nonce()
    result = attesting.judge(offer(nonce), wanted, nonce=nonce, root=root, collateral=collateral)  # 1, 2
    offered = result.runtime_data.keys if result.runtime_data else ()
    keys = [one for one in offered if one.get("kty") == "OKP" and one.get("crv") == _CURVE]
    if len(keys) != 1:  # 3
        raise AuthenticityError(
            f"offer: want one {_CURVE} key, got {len(keys)}",
            hint="inside: kluis.enclave.release_offer(nonce)",
        )
    key = b64.decode_url(str(keys[0]["x"]), "offered key")
    if len(key) != _KEY_BYTES:
        raise AuthenticityError(f"offered key: want {_KEY_BYTES} bytes, got {len(key)}")
    return Recipient(result, key)
