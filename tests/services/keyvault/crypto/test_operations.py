"""Using keys: every algorithm there and back, against another implementation where one holds the key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.formats.encoding import b64
from tests.services.keyvault.world import OTHER_KEY, World, public_jwk
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())
RSA = ("RSA1_5", "RSA-OAEP", "RSA-OAEP-256")
OPERATIONS = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify"]


def octets(text: str) -> bytes:
    """Bytes of base64url."""
    return b64.decode_url(text, "it")


def private_jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """The private JWK of an RSA key."""
    numbers = key.private_numbers()
    named = {
        "d": numbers.d, "p": numbers.p, "q": numbers.q, "dp": numbers.dmp1, "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }  # fmt: skip
    members = {
        name: b64.encode_url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
        for name, value in named.items()
    }
    return {**public_jwk(key), **members, "key_ops": OPERATIONS}


@pytest.fixture(scope="module")
def world() -> World:
    """A vault with a key of each kind."""
    made = World()
    made.ok("PUT", "/keys/rsa", {"key": private_jwk(OTHER_KEY)})
    for bits in (128, 192, 256):
        jwk = {"kty": "oct", "k": b64.encode_url(bytes(range(bits // 8))), "key_ops": OPERATIONS}
        made.ok("PUT", f"/keys/aes{bits}", {"key": jwk, "Hsm": True})
    for curve in ("P-256", "P-384", "P-521", "P-256K"):
        made.ok("POST", f"/keys/ec-{curve}/create", {"kty": "EC-HSM", "crv": curve})
    return made


def use(world: World, name: str, verb: str, **asked: Any) -> Any:
    """Use a key."""
    sent = {
        each: b64.encode_url(value) if isinstance(value, bytes) else value for each, value in asked.items()
    }
    return world.ok("POST", f"/keys/{name}//{verb}", sent)


def refused(world: World, name: str, verb: str, **asked: Any) -> str:
    """Use a key as it cannot be used: the message."""
    sent = {
        each: b64.encode_url(value) if isinstance(value, bytes) else value for each, value in asked.items()
    }
    status, code, message, _ = world.refused("POST", f"/keys/{name}//{verb}", sent)
    assert (status, code) == (400, "BadParameter")
    return message


@pytest.mark.parametrize("algorithm", RSA)
@pytest.mark.parametrize("verbs", [("encrypt", "decrypt"), ("wrapkey", "unwrapkey")])
def test_rsa(world: World, algorithm: str, verbs: tuple[str, str]) -> None:
    """RSA there and back, and the key's other owner reads it as well."""
    sealed = octets(use(world, "rsa", verbs[0], alg=algorithm, value=b"word")["value"])
    assert octets(use(world, "rsa", verbs[1], alg=algorithm, value=sealed)["value"]) == b"word"
    digest = hashes.SHA1() if algorithm == "RSA-OAEP" else hashes.SHA256()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    assert OTHER_KEY.decrypt(sealed, padding.PKCS1v15() if algorithm == "RSA1_5" else oaep) == b"word"


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_gcm(world: World, bits: int) -> None:
    """GCM makes its nonce inside; what is opened must be what was sealed."""
    name, alg = f"aes{bits}", f"A{bits}GCM"
    made = use(world, name, "encrypt", alg=alg, value=b"word", aad=b"beside")
    iv, tag, value = (octets(made[each]) for each in ("iv", "tag", "value"))
    assert AESGCM(bytes(range(bits // 8))).decrypt(iv, value + tag, b"beside") == b"word"
    opened = use(world, name, "decrypt", alg=alg, value=value, iv=iv, tag=tag, aad=b"beside")
    assert octets(opened["value"]) == b"word"
    wrong = "value: cannot be opened with this key and algorithm"
    assert refused(world, name, "decrypt", alg=alg, value=value, iv=iv, tag=tag) == wrong
    assert refused(world, name, "decrypt", alg=alg, value=value, iv=iv, tag=bytes(16), aad=b"beside") == wrong
    assert refused(world, name, "encrypt", alg=alg, value=b"word", iv=bytes(12)) == (
        f"iv: want none for {alg}, whose nonce is made inside, got one"
    )
    assert use(world, name, "encrypt", alg=alg, value=b"word")["iv"] != made["iv"]


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_cbc(world: World, bits: int) -> None:
    """CBC takes the caller's vector, whole blocks or padded."""
    name, vector = f"aes{bits}", b"v" * 16
    for alg, plain in ((f"A{bits}CBC", b"w" * 32), (f"A{bits}CBCPAD", b"word")):
        made = use(world, name, "encrypt", alg=alg, value=plain, iv=vector)
        opened = use(world, name, "decrypt", alg=alg, value=octets(made["value"]), iv=vector)
        assert octets(opened["value"]) == plain
        assert refused(world, name, "encrypt", alg=alg, value=plain) == "iv: want 16 bytes, got no iv"
        assert refused(world, name, "encrypt", alg=alg, value=plain, iv=vector, aad=b"x") == (
            f"aad, tag: want none for {alg}, got some"
        )
    assert refused(world, name, "encrypt", alg=f"A{bits}CBC", value=b"word", iv=vector) == (
        "value: want whole blocks of 16 bytes, got 4 bytes"
    )


@pytest.mark.parametrize(
    "algorithm", ["A128KW", "A192KW", "A256KW", "CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD"]
)
def test_key_wrap(world: World, algorithm: str) -> None:
    """Keys under keys, as RFC 3394 and RFC 5649 have it."""
    bits = int(algorithm[1:4]) if algorithm[1:4].isdigit() else 256
    plain = b"k" * (20 if algorithm.endswith("PAD") else 32)
    sealed = octets(use(world, f"aes{bits}", "wrapkey", alg=algorithm, value=plain)["value"])
    unwrap = keywrap.aes_key_unwrap_with_padding if algorithm.endswith("PAD") else keywrap.aes_key_unwrap
    assert unwrap(bytes(range(bits // 8)), sealed) == plain
    assert octets(use(world, f"aes{bits}", "unwrapkey", alg=algorithm, value=sealed)["value"]) == plain
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    assert refused(world, f"aes{bits}", "unwrapkey", alg=algorithm, value=changed) == (
        "value: cannot be opened with this key and algorithm"
    )
    assert refused(world, f"aes{bits}", "unwrapkey", alg=algorithm, value=b"short") == (
        "value: cannot be opened with this key and algorithm"
    )


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_signatures(world: World, algorithm: str) -> None:
    """Signatures that the key's other owner accepts."""
    digest = hashlib.new(f"sha{algorithm[2:]}", b"word").digest()
    made = octets(use(world, "rsa", "sign", alg=algorithm, value=digest)["value"])
    kind = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    scheme: Any = padding.PKCS1v15()
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(kind), kind.digest_size)
    OTHER_KEY.public_key().verify(made, b"word", scheme, kind)
    assert use(world, "rsa", "verify", alg=algorithm, digest=digest, value=made) == {"value": True}
    assert use(world, "rsa", "verify", alg=algorithm, digest=digest, value=made[:-1]) == {"value": False}


@pytest.mark.parametrize(
    ("algorithm", "curve", "kind"),
    [
        ("ES256", "P-256", ec.SECP256R1), ("ES384", "P-384", ec.SECP384R1), ("ES512", "P-521", ec.SECP521R1),
        ("ES256K", "P-256K", ec.SECP256K1),
    ],
)  # fmt: skip
def test_ecdsa(world: World, algorithm: str, curve: str, kind: type[ec.EllipticCurve]) -> None:
    """R and S side by side; one changed bit is no signature."""
    name = f"ec-{curve}"
    hashed = (
        hashes.SHA256()
        if algorithm.startswith("ES256")
        else {"ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[algorithm]
    )
    digest = hashlib.new(hashed.name, b"word").digest()
    made = octets(use(world, name, "sign", alg=algorithm, value=digest)["value"])
    jwk = world.ok("GET", f"/keys/{name}/")["key"]
    x, y = (int.from_bytes(octets(jwk[each]), "big") for each in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, kind()).public_key()
    half = len(made) // 2
    r, s = int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big")
    public.verify(encode_dss_signature(r, s), b"word", ec.ECDSA(hashed))
    assert use(world, name, "verify", alg=algorithm, digest=digest, value=made)["value"] is True
    for wrong in (made[:-1], bytes([made[0] ^ 1]) + made[1:], bytes(2 * half), made + b"\0\0"):
        assert use(world, name, "verify", alg=algorithm, digest=digest, value=wrong)["value"] is False
    assert refused(world, "ec-P-384" if curve != "P-384" else "ec-P-256", "sign", alg=algorithm, value=digest)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac(world: World, algorithm: str) -> None:
    """A MAC over the message that is sent."""
    made = octets(use(world, "aes256", "sign", alg=algorithm, value=b"word")["value"])
    assert made == hmac.digest(bytes(range(32)), b"word", f"sha{algorithm[2:]}")
    assert use(world, "aes256", "verify", alg=algorithm, digest=b"word", value=made)["value"] is True
    assert use(world, "aes256", "verify", alg=algorithm, digest=b"word", value=made[:-1])["value"] is False


@pytest.mark.parametrize(
    ("name", "verb", "asked", "message"),
    [
        ("rsa", "sign", {"alg": "ES256", "value": bytes(32)}, "alg: ES256 is not for RSA keys"),
        ("ec-P-256", "sign", {"alg": "ES384", "value": bytes(48)},
         "alg: ES384 is not for EC-HSM keys on P-256"),
        ("aes128", "encrypt", {"alg": "A256GCM", "value": b""}, "alg: A256GCM is not for keys of 128 bits"),
        ("rsa", "encrypt", {"alg": "A256GCM", "value": b""}, "alg: A256GCM is not for RSA keys"),
        ("aes256", "encrypt", {"alg": "RSA-OAEP", "value": b""}, "alg: RSA-OAEP is not for oct-HSM keys"),
        ("rsa", "sign", {"alg": "RS256", "value": b"short"},
         "value: want a digest of 32 bytes for RS256, got 5"),
        ("rsa", "sign", {"value": b""}, "alg: want one, got none"),
        ("rsa", "sign", {"alg": "RS256"}, "value: want base64url, got nothing"),
        ("rsa", "sign", {"alg": "RS256", "value": "!!"}, "value: want base64url, got something else"),
        ("rsa", "encrypt", {"alg": "RSA1_5", "value": bytes(300)},
         "value: want what fits RSA1_5, got 300 bytes"),
        ("rsa", "decrypt", {"alg": "RSA-OAEP", "value": bytes(256)},
         "value: cannot be opened with this key and algorithm"),
        ("rsa", "encrypt", {"alg": "none", "value": b""},
         "alg: want one of RSA1_5, RSA-OAEP, RSA-OAEP-256, A128GCM, A192GCM, A256GCM, A128CBC, "
         "A192CBC, A256CBC, "
         "A128CBCPAD, A192CBCPAD, A256CBCPAD, got 'none'"),
        ("aes256", "wrapkey", {"alg": "A256KW", "value": b"odd"},
         "value: want a key that A256KW takes, got 3 bytes"),
        ("aes256", "wrapkey", {"alg": "A256KW", "value": bytes(16), "tag": b""}, "tag: want none, got one"),
    ],
)  # fmt: skip
def test_what_a_key_does_not_do(world: World, name: str, verb: str, asked: Any, message: str) -> None:
    """An algorithm or a value that is not the key's is refused."""
    assert refused(world, name, verb, **asked) == message


def test_key_ops_and_times_hold() -> None:
    """A key does what it is for, while it is enabled; outside its time it opens and verifies, and no more."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "RSA", "key_ops": ["encrypt", "decrypt"]})
    sealed = use(world, "k", "encrypt", alg="RSA-OAEP", value=b"word")["value"]
    assert world.refused("POST", "/keys/k//sign", {"alg": "RS256", "value": "AA"}) == (
        403, "Forbidden", "Operation sign is not permitted on this key.", "KeyOperationForbidden",
    )  # fmt: skip
    asked = {"alg": "RSA-OAEP", "value": sealed}
    world.ok("PATCH", "/keys/k/", {"attributes": {"nbf": AT + 1}})
    assert world.refused("POST", "/keys/k//encrypt", asked) == (
        403, "Forbidden",
        f"Operation encrypt is not allowed on a key before its time: want {AT + 1}, got "
        f"{AT}", "KeyNotYetValid",
    )  # fmt: skip
    assert octets(world.ok("POST", "/keys/k//decrypt", asked)["value"]) == b"word"
    world.ok("PATCH", "/keys/k/", {"attributes": {"nbf": 1, "exp": AT}})
    assert world.refused("POST", "/keys/k//encrypt", asked) == (
        403, "Forbidden", f"Operation encrypt is not allowed on an expired key: want before {AT}, got {AT}",
        "KeyExpired",
    )  # fmt: skip
    assert octets(world.ok("POST", "/keys/k//decrypt", asked)["value"]) == b"word"
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False}})
    assert world.refused("POST", "/keys/k//decrypt", asked) == (
        403, "Forbidden", "Operation decrypt is not allowed on a disabled key.", "KeyDisabled",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "operations", "there", "back", "algorithm"),
    [
        ("RSA", ["encrypt", "decrypt"], "encrypt", "decrypt", "RSA-OAEP"),
        ("RSA", ["wrapKey", "unwrapKey"], "wrapkey", "unwrapkey", "RSA-OAEP-256"),
        ("oct-HSM", ["wrapKey", "unwrapKey"], "wrapkey", "unwrapkey", "A256KW"),
    ],
)
def test_a_disabled_key_still_encrypts(
    kind: str, operations: list[str], there: str, back: str, algorithm: str
) -> None:
    """Encrypt and wrapKey pass, decrypt and unwrapKey do not: as azure-sdk-for-python #45342 reports."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": kind, "key_ops": operations})
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False}})
    sealed = use(world, "k", there, alg=algorithm, value=bytes(16))["value"]
    asked = {"alg": algorithm, "value": sealed}
    name = {"decrypt": "decrypt", "unwrapkey": "unwrapKey"}[back]
    assert world.refused("POST", f"/keys/k//{back}", asked) == (
        403, "Forbidden", f"Operation {name} is not allowed on a disabled key.", "KeyDisabled",
    )  # fmt: skip
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": True}})
    assert octets(world.ok("POST", f"/keys/k//{back}", asked)["value"]) == bytes(16)


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS256"), ("EC", "ES256")])
def test_a_disabled_key_still_verifies(kind: str, algorithm: str) -> None:
    """Verify passes, sign does not."""
    world, digest = World(), hashlib.sha256(b"word").digest()
    world.ok("POST", "/keys/k/create", {"kty": kind})
    signature = use(world, "k", "sign", alg=algorithm, value=digest)["value"]
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False}})
    asked = {"alg": algorithm, "digest": b64.encode_url(digest), "value": signature}
    assert world.ok("POST", "/keys/k//verify", asked)["value"] is True
    assert world.refused("POST", "/keys/k//sign", {"alg": algorithm, "value": asked["digest"]}) == (
        403, "Forbidden", "Operation sign is not allowed on a disabled key.", "KeyDisabled",
    )  # fmt: skip


def test_what_a_disabled_key_may_not_do_otherwise() -> None:
    """Its operations and its times hold as those of any other."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "RSA", "key_ops": ["encrypt"]})
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False, "exp": AT}})
    asked = {"alg": "RSA-OAEP", "value": "AA"}
    assert world.refused("POST", "/keys/k//wrapkey", asked)[3] == "KeyOperationForbidden"
    assert world.refused("POST", "/keys/k//encrypt", asked)[3] == "KeyExpired"
