"""Receive keys from a key service: offer an RSA key generated inside, and open what was wrapped to it.

The offer is evidence of purpose ``release-key`` whose runtime data contains the key as a JWK. An attestation
service copies it to ``x-ms-runtime.keys`` of its token, and a key service wraps to it. The host's response is
checked before it is opened: it must come from the vault that the application expects, and be for this run. So
nobody can make the enclave use a key of their choice.

Spec: Azure Key Vault, "Secure Key Release"; PKCS #11 v3.0, "CKM_RSA_AES_KEY_WRAP"; RFC 8017; RFC 5649.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from kluis.enclave.attestation import Evidence, RunKey, release_key_evidence
from kluis.enclave.inside import inside
from kluis.enclave.vaults import Vault, VaultEvidence
from kluis.errors import AuthenticityError, FreshnessError, UsageError
from kluis.evidence import signatures
from kluis.evidence.engine import OPENSSL
from kluis.formats.encoding import b64
from kluis.formats.kluis.released_key import ALGORITHMS, ReleasedKey
from kluis.formats.kluis.runtime_data import rsa_key
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey

BITS: Final = 3072
_WHAT: Final = "released key"
_UNOPENED: Final = f"{_WHAT}: cannot be opened by this enclave"


@frozen
class OpenedKey:
    """A key released to this run.

    Attributes:
        name: in its vault.
        version: in its vault.
        kty: ``oct``, ``RSA`` or ``EC``.
        material: the bytes of an oct key, else PKCS#8, DER.
    """

    name: str
    version: str
    kty: str
    material: bytes = dataclasses.field(repr=False)

    def private_key(self) -> PrivateKey:
        """The RSA or EC key.

        Raises:
            UsageError: it is an oct key.
        """
        if self.kty == "oct":
            raise UsageError(f"{_WHAT} {self.name}: want RSA or EC, got oct", hint="its bytes are material")
        return _private(self.material)


def release_key_offer(nonce: bytes = b"", payload: bytes = b"") -> Evidence:
    """Offer this run's RSA key, of 3072 bits, to which a key service wraps a released key.

    Args:
        nonce: the verifier's, at most 64 bytes; an attestation service requires none.
        payload: at most 128 KiB.

    Raises:
        FormatError: an argument is out of bounds.
    """
    inside("release_key_offer")
    return release_key_evidence(nonce, payload, _offered_jwk())


def open_released(
    release: str,
    *,
    vault: Vault,
    brought: VaultEvidence,
    key: str,
    now: datetime,
    version: str | None = None,
    nonce: str | None = None,
) -> OpenedKey:
    """Open a key released to this run.

    1. The release comes from the expected vault, with a signing key of that vault.
    2. That key signed it.
    3. It contains the wanted key, with the version and nonce if given.
    4. It is wrapped to this run's key, and opens.
    5. An RSA or EC key is the private half of the public key in the release.

    A host may store a release and present it again to the same run: a ``nonce`` generated inside, which the
    host passes to the vault, distinguishes a new one from an old one.

    Args:
        release: a JWS, as a release of Key Vault's API answers.
        vault: the expected vault; chosen by the application, never by the host.
        brought: evidence of the vault, from the host.
        key: name.
        now: aware; from the host, if it has the only clock.
        version: of the key; None accepts any.
        nonce: of the release request; None accepts any.

    Raises:
        FormatError: not a release, or not evidence.
        AuthenticityError: a step fails.
        FreshnessError: another nonce, or evidence that is expired or not yet valid.
        PolicyError: the vault's enclave does not meet the policy; lists each rule.
    """
    inside("open_released")
    read = check(release, vault, brought, key, now, version=version, nonce=nonce)  # 1 to 3
    own = _offered_jwk()["kid"]
    if read.recipient != own:  # 4
        raise AuthenticityError(
            f"{_WHAT} recipient: want {own}, this run's key, got {read.recipient!a}",
            hint="each run offers a fresh key: attest this run, and have the key released to it",
            code="release_recipient",
        )
    wrapped, sealed = read.ciphertext[: BITS // 8], read.ciphertext[BITS // 8 :]
    return unwrap(read, _key_of(wrapped, read.algorithm), sealed)  # 4 and 5


def check(
    release: str,
    vault: Vault,
    brought: VaultEvidence,
    key: str,
    now: datetime,
    *,
    version: str | None,
    nonce: str | None,
) -> ReleasedKey:
    """Steps 1 to 3 of :func:`open_released`, with its arguments and errors."""
    read = ReleasedKey.parse(release)
    spki = vault.signing_key(read, brought, now)  # 1
    _check_signature(read, spki)  # 2
    _require("name", key, read.name)  # 3
    if version is not None:
        _require("version", version, read.version)
    if nonce is not None and read.nonce != nonce:
        raise FreshnessError(f"{_WHAT} nonce: want {nonce!a}, got {read.nonce!a}", code="nonce")
    return read


def unwrap(read: ReleasedKey, kek: bytes, sealed: bytes) -> OpenedKey:
    """The end of step 4 of :func:`open_released`, and step 5.

    Args:
        read: a checked release.
        kek: the AES key that was wrapped to the environment's key, 32 bytes.
        sealed: the material, wrapped to ``kek``.

    Raises:
        AuthenticityError: it does not open, or is not the private half of the public key in the release.
    """
    from cryptography.hazmat.primitives import keywrap

    try:
        material = keywrap.aes_key_unwrap_with_padding(kek, sealed)
    except (ValueError, keywrap.InvalidUnwrap):
        raise AuthenticityError(_UNOPENED, code="sealed") from None
    opened = OpenedKey(read.name, read.version, read.kty.removesuffix("-HSM"), material)
    if opened.kty != "oct":
        _matches(opened.private_key(), read)  # 5
    return opened


def _check_signature(read: ReleasedKey, spki: bytes) -> None:
    try:
        key = OPENSSL.key(spki, Scheme.RS256)
    except ValueError:
        raise AuthenticityError(
            f"{_WHAT}: want an RSA key to sign it, got another", code="sig_token"
        ) from None
    signatures.check_raw_by(key, read.signature, read.signed, Scheme.RS256, _WHAT, code="sig_token")


def _require(what: str, want: str, got: str) -> None:
    if got != want:
        raise AuthenticityError(f"{_WHAT} {what}: want {want}, got {got}", code="release_key")


def _key_of(wrapped: bytes, algorithm: str) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    known: dict[str, hashes.HashAlgorithm] = {
        "sha1": hashes.SHA1(),  # noqa: S303  # what the mechanism names; OAEP does not need it to resist collisions
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
    }
    digest = known[ALGORITHMS[algorithm]]
    try:
        return _offered_key.get().decrypt(wrapped, padding.OAEP(padding.MGF1(digest), digest, None))
    except ValueError:
        raise AuthenticityError(_UNOPENED, code="sealed") from None


def _private(material: bytes) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(material, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise AuthenticityError(f"{_WHAT}: want an RSA or EC key in PKCS#8, got another", code="release_key")
    return key


def _matches(key: PrivateKey, read: ReleasedKey) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    numbers = key.public_key().public_numbers()
    if isinstance(numbers, RSAPublicNumbers):
        own = {"n": numbers.n, "e": numbers.e}
    else:
        own = {"x": numbers.x, "y": numbers.y}
    shown = {
        name: int.from_bytes(b64.decode_url(read.public.get(name, ""), f"{_WHAT}.{name}"), "big")
        for name in own
    }
    if shown != own:
        raise AuthenticityError(
            f"{_WHAT}: is not the private half of the key that it shows", code="release_key"
        )


def _offered_jwk() -> dict[str, str | list[str]]:
    numbers = _offered_key.get().public_key().public_numbers()
    return rsa_key(numbers.n, numbers.e)


def _rsa() -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return generate_private_key(public_exponent=65537, key_size=BITS)


_offered_key: Final = RunKey(_rsa)
