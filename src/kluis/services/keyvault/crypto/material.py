"""Key material: generated inside, imported from a client's JSON Web Key, and opened for one use.

Spec: RFC 7517, RFC 7518 (JSON Web Keys); RFC 5958 (PKCS#8); SEC 2, secp256k1, which Azure calls P-256K.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from kluis.errors import InternalError
from kluis.formats.encoding import b64
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.octets import decode_base64
from kluis.services.keyvault.vault.records import KeyVersion

KTYS: Final = ("RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM")
RSA_SIZES: Final = (2048, 3072, 4096)
# The exponents that hardware accepts; for others, finding primes may take long.
EXPONENTS: Final = (3, 5, 17, 257, 65537)
OCT_SIZES: Final = (128, 192, 256, 384, 512)
MAX_OCT: Final = 64
CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}
_NAMES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "P-256K"}


class Material(NamedTuple):
    """A key's material, and its public part.

    Attributes:
        secret: PKCS#8 DER, or an oct key's bytes.
        public: the JWK's public members.
        size: bits.
    """

    secret: bytes
    public: dict[str, str]
    size: int

    def __repr__(self) -> str:
        return f"Material({self.size} bits)"


def family(kty: str) -> str:
    """``RSA``, ``EC`` or ``oct``, whatever the kind of vault.

    Raises:
        BadParameter: another type.
    """
    for known in KTYS:
        if kty.lower() == known.lower():
            return known.removesuffix("-HSM")
    raise BadParameter(f"kty: want one of {', '.join(KTYS)}, got {kty[:32]!a}")


def azure_type(kty: str) -> str:
    """The type in Azure's spelling."""
    return family(kty) + ("-HSM" if is_hardware(kty) else "")


def is_hardware(kty: str) -> bool:
    """Whether the client requested an ``-HSM`` key; here every key stays in the enclave."""
    return kty.lower().endswith("-hsm")


def generate(kty: str, *, size: int | None, crv: str | None, exponent: int | None) -> Material:
    """Generate a key.

    Args:
        kty: of a family above.
        size: bits; RSA 2048, 3072 or 4096 (2048 if None), oct 128 to 512 (256 if None).
        crv: of an EC key; P-256 if None.
        exponent: of an RSA key, a Fermat prime; 65537 if None.

    Raises:
        BadParameter: an unsupported size, curve or exponent.
    """
    match family(kty):
        case "RSA":
            bits = _one_of("key_size", size, RSA_SIZES, 2048)
            return of_rsa(_rsa(bits, _one_of("public_exponent", exponent, EXPONENTS, 65537)))
        case "EC":
            name = crv or "P-256"
            if name not in CURVES:
                raise BadParameter(f"crv: want one of {', '.join(CURVES)}, got {name[:32]!a}")
            kind = CURVES[name]()
            if size is not None and size != kind.key_size:
                raise BadParameter(f"key_size: want {kind.key_size} on {name}, got {size}")
            return of_ec(ec.generate_private_key(kind))
        case _:
            bits = _one_of("key_size", size, OCT_SIZES, 256)
            return Material(secrets.token_bytes(bits // 8), {}, bits)


def another(version: KeyVersion) -> Material:
    """Generate a key like that of a version: its size, its curve, its public exponent.

    If the version was imported with an exponent that is not generated here, the new key has 65537.
    """
    exponent, e = None, version.public.get("e")
    if e is not None:
        number = int.from_bytes(b64.decode_url(e, "stored key e"), "big")
        exponent = number if number in EXPONENTS else None
    return generate(version.kty, size=version.size, crv=version.public.get("crv"), exponent=exponent)


def import_jwk(jwk: Mapping[str, object]) -> Material:
    """Import a private JSON Web Key.

    Raises:
        BadParameter: not a private key of a supported kind, or one whose members do not match.
    """
    kty = jwk.get("kty")
    if not isinstance(kty, str):
        raise BadParameter("JSON Web Key: want kty, got none")
    if jwk.get("key_hsm") is not None:
        raise BadParameter(
            "JSON Web Key: want a private key's members, got key_hsm, a key that an HSM's tool wrapped",
            hint="bring the key itself, over attested TLS",
        )
    try:
        match family(kty):
            case "RSA":
                return _imported_rsa(jwk)
            case "EC":
                return _imported_ec(jwk)
            case _:
                return _imported_oct(jwk)
    except (ValueError, UnsupportedAlgorithm):
        # The message does not name the member that does not match: it may be a private one.
        raise BadParameter("JSON Web Key: its members do not make one private key") from None


def of_rsa(key: rsa.RSAPrivateKey) -> Material:
    """The material of an RSA key."""
    numbers = key.public_key().public_numbers()
    public = {
        "n": b64.encode_url(numbers.n.to_bytes((key.key_size + 7) // 8, "big")),
        "e": b64.encode_url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")),
    }
    return Material(_pkcs8(key), public, key.key_size)


def of_ec(key: ec.EllipticCurvePrivateKey) -> Material:
    """The material of a key on a curve."""
    numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    public = {
        "crv": _NAMES[key.curve.name],
        "x": b64.encode_url(numbers.x.to_bytes(size, "big")),
        "y": b64.encode_url(numbers.y.to_bytes(size, "big")),
    }
    return Material(_pkcs8(key), public, key.key_size)


def open_key(version: KeyVersion) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Open an RSA or EC key from the store."""
    # An RSA key was checked when it was generated or imported, and sealed since: checking it again takes 36
    # ms.
    key = load_der_private_key(version.secret, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InternalError(f"stored key {version.id}: want RSA or EC, got another kind")
    return key


def _imported_rsa(jwk: Mapping[str, object]) -> Material:
    n, e, d = (_number(jwk, name) for name in ("n", "e", "d"))
    if n.bit_length() not in RSA_SIZES:
        raise BadParameter(f"JSON Web Key: want an RSA key of {_list(RSA_SIZES)} bits, got {n.bit_length()}")
    if not 3 <= e < 1 << 32 or e % 2 == 0:
        raise BadParameter("JSON Web Key: want an odd public exponent of at most 32 bits, got another")
    # The primes are required: an attacker can send a false key for which finding them from d takes minutes.
    p, q = _number(jwk, "p"), _number(jwk, "q")
    if p * q != n or min(p, q) < 2:
        raise BadParameter("JSON Web Key: its members do not make one private key")
    dp = _number(jwk, "dp") if jwk.get("dp") is not None else rsa.rsa_crt_dmp1(d, p)
    dq = _number(jwk, "dq") if jwk.get("dq") is not None else rsa.rsa_crt_dmq1(d, q)
    qi = _number(jwk, "qi") if jwk.get("qi") is not None else rsa.rsa_crt_iqmp(p, q)
    return of_rsa(rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key())


def _imported_ec(jwk: Mapping[str, object]) -> Material:
    name = jwk.get("crv")
    if not isinstance(name, str) or name not in CURVES:
        raise BadParameter(f"JSON Web Key: want a curve of {', '.join(CURVES)}, got another")
    x, y, d = (_number(jwk, member) for member in ("x", "y", "d"))
    public = ec.EllipticCurvePublicNumbers(x, y, CURVES[name]())
    return of_ec(ec.EllipticCurvePrivateNumbers(d, public).private_key())


def _imported_oct(jwk: Mapping[str, object]) -> Material:
    secret = decode_base64(jwk.get("k"), "JSON Web Key.k")
    if len(secret) > MAX_OCT:
        raise BadParameter(f"JSON Web Key: k property of oct key is too large, maximum size is {MAX_OCT}")
    if len(secret) * 8 not in OCT_SIZES:
        raise BadParameter(
            f"JSON Web Key: want an oct key of {_list(OCT_SIZES)} bits, got one of {8 * len(secret)}"
        )
    return Material(secret, {}, 8 * len(secret))


def _number(jwk: Mapping[str, object], name: str) -> int:
    return int.from_bytes(decode_base64(jwk.get(name), f"JSON Web Key.{name}", most=1024), "big")


def _rsa(bits: int, exponent: int) -> rsa.RSAPrivateKey:
    # The library only generates keys with exponents 65537 and 3. The primes of such a key also work for
    # another prime exponent, unless one of them less 1 is a multiple of it.
    while True:
        key = rsa.generate_private_key(65537, bits)
        if exponent == 65537:
            return key
        made = key.private_numbers()
        p, q = made.p, made.q
        if (p - 1) % exponent and (q - 1) % exponent:
            d = pow(exponent, -1, math.lcm(p - 1, q - 1))
            crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
            public = rsa.RSAPublicNumbers(exponent, made.public_numbers.n)
            return rsa.RSAPrivateNumbers(p, q, d, *crt, public).private_key()


def _pkcs8(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _one_of(what: str, got: int | None, known: tuple[int, ...], otherwise: int) -> int:
    if got is None:
        return otherwise
    if got not in known:
        raise BadParameter(f"{what}: want one of {_list(known)}, got {str(got)[:32]}")
    return got


def _list(several: tuple[int, ...]) -> str:
    return ", ".join(str(each) for each in several)
