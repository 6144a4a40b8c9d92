"""Evidence for scenarios, with any content, under roots that the services are configured to trust."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from kluis.formats.tdx.report import TdReport, TdReport15
from kluis.hashes import sha256
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import Forge
from tests.evidence.intel.forge import TdxForge
from tests.evidence.tpm.forge import Maker, rsa_key
from tests.services.attestation.tpm.client import Client
from tests.services.attestation.tpm.enclaves import idks, vbs_request
from tests.services.attestation.vm import AK, GOOD, KEY, Vm, b64, boot, sipa, unseal
from tests.services.attestation.world import b64u

__all__ = ["Forger"]

MARK = "hex:"


class Forger:
    """The vendors of one session.

    Args:
        now: aware; everything made is valid then.
    """

    def __init__(self, now: datetime) -> None:
        self._intel, self._tdx = Forge(now=now), TdxForge(now=now)
        self._amd = AmdForge(emulated=True, now=now)
        self._stranger = Forge(now=now)
        self._maker = Maker(now)
        self._leaf = self._maker.ak(AK.public_key())
        self._certificate = b64u(self._leaf.public_bytes(Encoding.DER))
        self._kernel = rsa_key()
        self._makers = {
            "sgx": self.sgx, "tdx": self.tdx, "snp": self.snp, "tpm": self.tpm, "vbs": self.vbs,
            "vm": self.vm, "unseal": self.unseal,
        }  # fmt: skip

    def options(self, folder: Path) -> list[str]:
        """The words that make ``kluis serve`` trust these roots, whose files are written to ``folder``."""
        words = []
        roots = {
            "sgx": self._intel.authority.root_pem(),
            "tdx": self._tdx.authority.root_pem(),
            "snp": self._amd.ark.public_bytes(Encoding.PEM),
        }
        for name, pem in roots.items():
            path = folder / f"{name}.pem"
            path.write_bytes(pem)
            words += ["--root", str(path)]
        (folder / "tpm.pem").write_bytes(self._maker.root.public_bytes(Encoding.PEM))
        (folder / "issuers.pem").write_bytes(self._maker.endorse(self._leaf).chain)
        words += ["--root", f"{folder / 'tpm.pem'}=vtpm", "--tpm-issuer", str(folder / "issuers.pem")]
        known = {name: [b64(sha256(value))] for name, value in GOOD.items()}
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"attestation": {"secure_boot_variables": known}}))
        words += ["--settings", str(settings)]
        for name, forge in (("sgx", self._intel), ("tdx", self._tdx)):
            path = folder / f"{name}.json"
            path.write_bytes(forge.collateral().to_json())
            words += ["--collateral", str(path)]
        return words

    def answer(self, request: dict[str, Any]) -> dict[str, str]:
        """Answer a runner's request; bytes come and go as hex.

        Args:
            request: ``forge`` names the kind, the rest are parameters of the evidence.
        """
        fields = {
            name: bytes.fromhex(value.removeprefix(MARK)) if str(value).startswith(MARK) else value
            for name, value in request.items()
            if name != "forge"
        }
        made = self._makers[request["forge"]](**fields)
        return {name: MARK + value.hex() for name, value in made.items()}

    def sgx(self, *, stranger: bool = False, **fields: Any) -> dict[str, bytes]:
        """A quote of an enclave; of a platform that nobody trusts, for a ``stranger``."""
        forge = self._stranger if stranger else self._intel
        return {"quote": forge.quote(forge.body(**fields))}

    def tdx(self, *, version: int = 4, **fields: Any) -> dict[str, bytes]:
        """A quote of a trust domain."""
        return {"quote": self._tdx.quote(self._tdx.td(TdReport if version == 4 else TdReport15, **fields))}

    def snp(self, **fields: Any) -> dict[str, bytes]:
        """A report of a guest, and its chain, PEM."""
        chain = (self._amd.vek, self._amd.ask, self._amd.ark)
        return {
            "report": self._amd.report(**fields),
            "chain": b"".join(each.public_bytes(Encoding.PEM) for each in chain),
        }

    def tpm(
        self,
        *,
        challenge: bytes,
        context: str,
        version: int = 2,
        extra: bytes | None = None,
        certified: bool = False,
    ) -> dict[str, bytes]:
        """A TPM's request (JWS) that answers a challenge.

        Args:
            challenge: of the service.
            context: that came with it.
            version: of the protocol.
            extra: what the TPM's quote is over; None: the request's key and the challenge.
            certified: whether the TPM certified the request's key, and its quote only covers the challenge.
        """
        client = _Tpm(challenge, context, self._certificate)
        if version == 1:
            return {"request": client.v1(aik_cert=self._certificate).encode()}
        if certified:
            return {"request": client.certified().encode()}
        rest = {} if extra is None else {"extra": extra}
        return {"request": client.v2(**rest).encode()}

    def vbs(self, *, challenge: bytes, context: str, stranger: bool = False) -> dict[str, bytes]:
        """A VBS enclave's request, under a secure kernel whose key the boot measured, or another's."""
        events = boot(b"\1", sipa(idks(self._kernel)))
        client = _Tpm(challenge, context, self._certificate, events)
        return {"request": vbs_request(client, KEY if stranger else self._kernel).encode()}

    def vm(self, *, secure: bool = True) -> dict[str, bytes]:
        """What an Azure guest's client sends, JSON, before it is encoded."""
        vm = _Guest(self._amd, boot() if secure else boot(b"\0"))
        return {"info": json.dumps(vm.info()).encode()}

    def unseal(self, *, envelope: bytes) -> dict[str, bytes]:
        """The token in the envelope that the guest got, as its TPM opens it."""
        return {"token": unseal(json.loads(envelope), KEY).encode()}


class _Tpm(Client):
    """A TPM's client whose challenge was requested by another client, under this session's vendor."""

    def __init__(self, challenge: bytes, context: str, certificate: str, events: Any = None) -> None:
        self.vm = Vm() if events is None else Vm(events)
        self.challenge, self.context = challenge, context
        self._certificate = certificate

    def attestation(self, extra: bytes, **changes: Any) -> dict[str, Any]:
        return super().attestation(extra, **{"aik_cert": self._certificate, **changes})


class _Guest(Vm):
    """A guest under this session's AMD."""

    def __init__(self, amd: AmdForge, events: Any) -> None:
        super().__init__(events)
        self._amd = amd

    def snp(self, **changes: Any) -> dict[str, Any]:
        report = self._amd.report(**{"report_data": self.report_data, "vmpl": 0, **changes})
        chain = (self._amd.vek, self._amd.ask, self._amd.ark)
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
        proof = json.dumps({"SnpReport": b64u(report), "VcekCertChain": b64u(pem)}).encode()
        return {"Type": "SevSnp", "Evidence": {"Proof": b64(proof), "RunTimeData": b64(self.runtime)}}
