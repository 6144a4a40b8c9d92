"""Keys: their life, their kinds, and their use."""

from __future__ import annotations

import base64
import hashlib

from command import World, scenario
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DIGEST = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
TEXT = ("--data-type", "plaintext", "--value")


@scenario("az keyvault key create, show, list, set-attributes, list-versions, rotate, delete, recover, purge")
def a_key(world: World) -> None:
    name = world.fresh()
    made = world.key("create", name, "--kty", "RSA", "--size", "2048", "--expires", "2040-01-01T00:00:00Z")
    kid = made["key"]["kid"]
    assert kid.startswith(f"{world.vault}/keys/{name}/")
    assert made["attributes"]["expires"] == "2040-01-01T00:00:00+00:00"
    assert world.az("keyvault", "key", "show", "--id", kid)["key"]["n"] == made["key"]["n"]
    assert name in [each["name"] for each in world.az("keyvault", "key", "list", "--id", world.vault)]
    changed = world.key(
        "set-attributes", name, "--enabled", "false", "--ops", "sign", "verify", "--tags", "a=b"
    )
    assert (changed["attributes"]["enabled"], changed["tags"]) == (False, {"a": "b"})
    assert changed["key"]["keyOps"] == ["sign", "verify"]
    assert world.key("rotate", name)["key"]["kid"] != kid
    assert len(world.key("list-versions", name)) == 2
    world.key("delete", name)
    world.refused(
        "ObjectIsDeletedButRecoverable", "keyvault", "key", "create", "--vault-name", world.name, "-n", name
    )
    listed = world.az("keyvault", "key", "list-deleted", "--vault-name", world.name)
    assert name in [each["name"] for each in listed]
    assert world.key("show-deleted", name)["recoveryId"] == f"{world.vault}/deletedkeys/{name}"
    world.key("recover", name)
    world.key("delete", name)
    world.key("purge", name)
    world.refused("KeyNotFound", "keyvault", "key", "show", "--vault-name", world.name, "-n", name)


@scenario("az keyvault key create --kty, of every kind; a managed HSM's by --hsm-name")
def kinds(world: World) -> None:
    for given, kty in (
        (("--kty", "EC", "--curve", "P-256K"), "EC"),
        (("--kty", "EC-HSM", "--curve", "P-521"), "EC-HSM"),
        (("--kty", "RSA-HSM", "--size", "3072"), "RSA-HSM"),
        (("-p", "hsm"), "RSA-HSM"),
    ):
        assert world.key("create", world.fresh(), *given)["key"]["kty"] == kty, given
    name = world.fresh()
    here = ("--hsm-name", world.name, "-n", name)
    given = ("--kty", "oct-HSM", "--size", "256", "--ops", "encrypt", "decrypt")
    assert world.az("keyvault", "key", "create", *here, *given)["key"]["kty"] == "oct-HSM"
    path = world.file(b"", f"{name}.json")
    world.az("keyvault", "key", "get-attestation", *here, "-f", path)
    with open(path) as stream:
        assert "certificatePemFile" in stream.read()
    random = world.az("keyvault", "key", "random", "--hsm-name", world.name, "--count", "16")["value"]
    assert len(base64.b64decode(random + "==", altchars=b"-_")) == 16


@scenario("az keyvault key rotation-policy update, show")
def rotation(world: World) -> None:
    name = world.fresh()
    world.key("create", name, "--kty", "EC")
    usual = world.key("rotation-policy show", name)["lifetimeActions"]
    assert [(each["action"], each["timeBeforeExpiry"]) for each in usual] == [("Notify", "P30D")]
    wanted = world.file(
        '{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"Rotate"}}],'
        '"attributes":{"expiryTime":"P2Y"}}'
    )
    assert world.key("rotation-policy update", name, "--value", wanted)["expiresIn"] == "P2Y"
    shown = world.key("rotation-policy show", name)
    actions = [(each["action"], each["timeAfterCreate"]) for each in shown["lifetimeActions"]]
    assert actions == [("Rotate", "P90D"), ("Notify", None)]


@scenario("az keyvault key encrypt, decrypt: by RSA, and by AES with an iv and a tag")
def encryption(world: World) -> None:
    name = world.fresh()
    world.key("create", name, "--kty", "RSA-HSM")
    sealed = world.key("encrypt", name, "-a", "RSA-OAEP-256", *TEXT, "hello")["result"]
    assert world.key("decrypt", name, "-a", "RSA-OAEP-256", *TEXT, sealed)["result"] == "hello"
    name = world.fresh()
    world.key("create", name, "--kty", "oct-HSM", "--size", "256", "--ops", "encrypt", "decrypt")
    made = world.key("encrypt", name, "-a", "A256GCM", *TEXT, "hello", "--aad", "0102")
    given = ("--iv", made["iv"], "--tag", made["tag"], "--aad", "0102")
    found = world.key("decrypt", name, "-a", "A256GCM", *TEXT, made["result"], *given)["result"]
    assert found == "hello"


@scenario("az keyvault key sign, verify")
def signatures(world: World) -> None:
    for given, algorithm in (
        (("--kty", "EC"), "ES256"),
        (("--kty", "RSA"), "PS256"),
        (("--kty", "RSA"), "RS256"),
    ):
        name = world.fresh()
        world.key("create", name, *given)
        made = world.key("sign", name, "-a", algorithm, "--digest", DIGEST)["signature"]
        asked = ("-a", algorithm, "--signature", made, "--digest")
        assert world.key("verify", name, *asked, DIGEST)["isValid"] is True, algorithm
        other = base64.b64encode(bytes(32)).decode()
        assert world.key("verify", name, *asked, other)["isValid"] is False, algorithm


@scenario("az keyvault key backup, purge, restore; download")
def backup(world: World) -> None:
    name = world.fresh()
    kid = world.key("create", name, "--kty", "EC")["key"]["kid"]
    blob, pem = world.file(b"", f"{name}.blob"), world.file(b"", f"{name}.pem")
    world.key("backup", name, "-f", blob)
    world.key("download", name, "-f", pem)
    with open(pem) as stream:
        assert stream.read().startswith("-----BEGIN PUBLIC KEY-----")
    world.key("delete", name)
    world.key("purge", name)
    restored = world.az("keyvault", "key", "restore", "--vault-name", world.name, "-f", blob)
    assert restored["key"]["kid"] == kid


@scenario("az keyvault key import --pem-string; --byok-file, which is refused")
def imports(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = world.key("import", world.fresh(), "--pem-string", pem, "-p", "hsm", "--ops", "sign")
    assert (made["key"]["kty"], made["key"]["crv"]) == ("EC-HSM", "P-256")
    here = ("--vault-name", world.name, "-n", world.fresh(), "--byok-file", world.file(b"wrapped"))
    world.refused("got key_hsm", "keyvault", "key", "import", *here)
