"""A TPM's client made by hand: requests of both versions, each wrong in one way on request."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.enclave.store.model import Storage
from kluis.evidence import ProtectionLevel
from kluis.formats import x509
from kluis.formats.eventlog.log import Event
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Clock, Selection
from kluis.formats.tpm.certify import Certification
from kluis.formats.tpm.platform_claim import PlatformClaim
from kluis.formats.tpm.signature import RsaSignature
from kluis.services.attestation.settings import Root
from tests.evidence.tpm.forge import CLOCK, area, quote, rsa_key, sign
from tests.services.attestation.vm import AK, MAKER, Vm, boot
from tests.services.attestation.world import VERSION, World, b64u, from_b64u

BEGIN = b"-----BEGIN CERTIFICATE-----"
LEAF = MAKER.ak(AK.public_key())
CHAIN = MAKER.endorse(LEAF).chain
ROOT = BEGIN + CHAIN.split(BEGIN)[-1]
KEY = rsa_key()
ALL = tuple(range(24))
PERMIT = "version=1.2; authorizationrules{ => permit(); }; issuancerules{ ISSUE };"


def world_of(storage: Storage, **settings: Any) -> World:
    """A service that trusts the TPM's vendor."""
    issuers = x509.split_pem(CHAIN, "chain")
    roots = (Root(ROOT, ProtectionLevel.VTPM),)
    return World(storage, roots=roots, tpm_issuers=issuers, collateral=(), **settings)


def jwk_text(key: rsa.RSAPrivateKey) -> str:
    """A key's JWK, with spaces as another client may write it."""
    n = key.public_key().public_numbers().n
    return json.dumps({"kty": "RSA", "n": b64u(n.to_bytes(256, "big")), "e": "AQAB"})


def signed(header: dict[str, Any], payload: str, key: rsa.RSAPrivateKey = KEY) -> str:
    """A JWS by PS256."""
    text = f"{b64u(json.dumps(header).encode())}.{b64u(payload.encode())}"
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    return f"{text}.{b64u(key.sign(text.encode(), pss, hashes.SHA256()))}"


class Client:
    """One machine, and its attestation service.

    Args:
        world: the service.
        events: of its start.
    """

    def __init__(self, world: World, events: tuple[Event, ...] = boot()) -> None:
        self.world = world
        self.vm = Vm(events)
        self.challenge, self.context = self.begin()

    def send(self, message: dict[str, Any], headers: bool = True) -> Any:
        """One message, with a reader's token or without."""
        body = {"data": b64u(json.dumps(message).encode())}
        path = f"/attest/Tpm?{VERSION}"
        ask = self.world.owner if headers else self.world.ask
        return ask("POST", path, json=body)

    def begin(self) -> tuple[bytes, str]:
        """A challenge and its context."""
        answer = self.send({"payload": {"type": "aikcert"}})
        if answer.status_code != 200:
            return b"", ""
        made = json.loads(from_b64u(answer.json()["data"]))["payload"]
        return from_b64u(made["challenge"]), made["service_context"]

    def quoted(self, extra: bytes, pcrs: tuple[int, ...] = ALL, clock: Clock = CLOCK) -> tuple[bytes, bytes]:
        """A quote and its signature."""
        selected = (Selection.of(HashId.SHA256, *pcrs),)
        made = quote(self.vm.values, selected, nonce=extra)
        message = dataclasses.replace(made, clock=clock).encode()
        return message, sign(AK, message).encode()

    def bound(self, jwk: str) -> bytes:
        """What a quote is over, to bind a key and the challenge."""
        return hashlib.sha256(jwk.encode() + b"\0" + self.challenge).digest()

    def attestation(self, extra: bytes, **changes: Any) -> dict[str, Any]:
        """The TPM's attestation, in version 2."""
        pcrs = changes.pop("pcrs_quoted", ALL)
        message, signature = self.quoted(extra, pcrs, changes.pop("clock", CLOCK))
        n = AK.public_key().public_numbers().n
        values = self.vm.values[HashId.SHA256]
        return {
            "logs": [{"type": "TCG", "log": b64u(self.vm.log)}],
            "aik_cert": b64u(LEAF.public_bytes(Encoding.DER)),
            "aik_pub": {"kty": "RSA", "n": b64u(n.to_bytes(256, "big")), "e": "AQAB"},
            "pcrs": [
                {
                    "algorithm": 11,
                    "values": [{"index": index, "digest": b64u(value)} for index, value in values.items()],
                }
            ],
            "quote": b64u(message),
            "signature": b64u(signature),
            **changes,
        }

    def data(self, said: dict[str, Any], key: str, **changes: Any) -> str:
        """A request's data, as text: the key is in it unchanged."""
        given = {
            "rp_id": "https://relying.example",
            "rp_data": "cnA",
            "challenge": b64u(self.challenge),
            "tpm_att_data": said,
            "service_context": self.context,
            "custom_claims": [],
            **changes,
        }
        return json.dumps(given)[:-1] + "," + key + "}"

    def v2(
        self, key: rsa.RSAPrivateKey = KEY, alter: Callable[[dict[str, Any]], None] | None = None, **rest: Any
    ) -> str:
        """A request of version 2, whose key the quote is over."""
        jwk = jwk_text(key)
        said = self.attestation(rest.pop("extra", self.bound(jwk)), **rest.pop("tpm", {}))
        if alter:
            alter(said)
        info = json.dumps(rest.pop("info", {"tpm_quote": {"hash_alg": "sha-256"}}))
        member = f'"request_key":{{"jwk":{jwk},"info":{info}}}'
        given = {"current_attestation": said, **rest.pop("att_data", {})}
        data = self.data(given, member, **rest)
        return signed({"alg": "PS256", "typ": "attReqV2"}, f'{{"att_type":"basic","att_data":{data}}}', key)

    def certification(
        self,
        key: rsa.RSAPrivateKey = KEY,
        attributes: int = 0x60072,
        extra: bytes | None = None,
        clock: Clock = CLOCK,
        **rest: str,
    ) -> dict[str, Any]:
        """How a key's certification is sent."""
        public = area(key, attributes)
        qualifying = self.challenge if extra is None else extra
        certification = Certification(
            qualified_signer=b"", extra_data=qualifying, clock=clock, name=public.name, qualified_name=b""
        ).encode()
        return {
            "tpm_certify": {
                "public": b64u(public.encode()),
                "certification": b64u(certification),
                "signature": b64u(sign(AK, certification).encode()),
                **rest,
            }
        }

    def certified(self, **changes: Any) -> str:
        """A request of version 2, whose key the attestation key certified."""
        info = self.certification(**changes)
        said = {"current_attestation": self.attestation(self.challenge)}
        member = f'"request_key":{{"jwk":{jwk_text(KEY)},"info":{json.dumps(info)}}}'
        payload = f'{{"att_type":"basic","att_data":{self.data(said, member)}}}'
        return signed({"alg": "PS256", "typ": "attReqV2"}, payload)

    def claim(self, extra: bytes, clock: Clock = CLOCK) -> bytes:
        """A quote in Windows' own form."""
        message, _ = self.quoted(extra, clock=clock)
        made = sign(AK, message)
        assert isinstance(made, RsaSignature)
        values = tuple(self.vm.values[HashId.SHA256][index] for index in ALL)
        return PlatformClaim(
            bank=HashId.SHA256, values=values, quote=message, signature=made.value, log=self.vm.log
        ).encode()

    def v1(self, extra: bytes | None = None, **changes: Any) -> str:
        """A request of version 1; Windows' quote is over the challenge, and over no key."""
        jwk = jwk_text(KEY)
        claim = self.claim(self.challenge if extra is None else extra)
        n = AK.public_key().public_numbers().n
        said = {
            "aik_cert": b64u(LEAF.public_bytes(Encoding.DER)),
            "aik_pub": {"kty": "RSA", "n": b64u(n.to_bytes(256, "big")), "e": "AQAB"},
            "current_claim": b64u(claim),
            **changes,
        }
        data = self.data(said, f'"attest_key":{jwk}')
        return signed({"alg": "PS256", "typ": "attReq"}, f'{{"att_type":"basic","att_data":{data}}}')

    def report(self, jws: str, **message: Any) -> dict[str, Any]:
        """The claims of the report that a request gets."""
        return self.world.verified(self.token(jws, **message))

    def token(self, jws: str, **message: Any) -> str:
        """The report that a request gets."""
        answer = self.send({"request": jws, **message})
        assert answer.status_code == 200, answer.text
        found: str = json.loads(from_b64u(answer.json()["data"]))["report"]
        return found

    def refused(self, jws: str) -> tuple[str, str]:
        """The code and message of a refusal."""
        answer = self.send({"request": jws})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        return error["code"], error["message"]
