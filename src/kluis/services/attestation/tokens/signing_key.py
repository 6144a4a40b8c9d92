"""Sign claims as tokens with one key of an instance.

Spec: RFC 7515, "JWS Compact Serialization"; RFC 7519, "Unsecured JWTs".
"""

from __future__ import annotations

from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kluis.formats.encoding import b64


class SigningKey:
    """One key, ready to sign.

    Args:
        kid: its name in ``/certs``.
        certificate: DER.
        private: the key.
        url: of the instance.
    """

    def __init__(self, kid: str, certificate: bytes, private: rsa.RSAPrivateKey, url: str) -> None:
        self.kid = kid
        self.certificate = certificate
        self._private = private
        self._header = {"alg": "RS256", "jku": f"{url}/certs", "kid": kid, "typ": "JWT"}
        self._usual = _part(self._header)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r})"

    def write_unsecured(self, claims: dict[str, Any]) -> str:
        """Claims as an unsigned JWT, whose header still names this key, as Azure's do."""
        return f"{_part({**self._header, 'alg': 'none'})}.{_part(claims)}."

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """Sign claims as a JWT.

        Args:
            claims: of the token.
            header: additional or replaced members; None removes one.
        """
        first = self._usual
        if header:
            made = {**self._header, **header}
            first = _part({name: value for name, value in made.items() if value is not None})
        signed = f"{first}.{_part(claims)}"
        signature = self._private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64.encode_url(signature)}"


def _part(value: dict[str, Any]) -> str:
    return b64.encode_url(msgspec.json.encode(value))
