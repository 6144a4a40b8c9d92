"""A platform in this process, with its own authority and quotes, so that verification is real."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kluis.cleanroom.agreement import keys
from kluis.cleanroom.agreement.exchange import RECEIPT, Evidence
from kluis.formats.encoding import jcs
from kluis.formats.kluis.launch import LaunchConfiguration, config_id
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, okp_key, report_data
from kluis.formats.sgx.report import Flag
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.quoting import PlatformKeys, make_quote
from kluis.tee.platform.root.reports import make_report_body


@dataclass
class Platform:
    """One emulated platform, valid at a time."""

    now: datetime.datetime
    level: str = "process"
    authority: Authority = field(init=False)
    keys: PlatformKeys = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority.create(self.level, self.now)
        self.keys = PlatformKeys.create(self.authority, self.now)

    def root(self) -> str:
        return self.authority.root_pem().decode()

    def collateral(self) -> bytes:
        found = self.authority.collateral(self.now)
        return found if isinstance(found, bytes) else jcs.dumps(found)


@dataclass
class Attester:
    """An enclave's side of a platform: what the runtime gives code that runs inside."""

    platform: Platform
    image_id: str = "11" * 32
    mrsigner: str = "22" * 32
    product_id: int = 31
    svn: int = 1
    debug: bool = False
    missing: tuple[str, ...] = ()
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def quote(self, purpose: Purpose, nonce: bytes, payload: bytes, *jwks: dict[str, str]) -> Evidence:
        document = RuntimeData(
            purpose=purpose, image_id=bytes.fromhex(self.image_id), nonce=nonce, keys=jwks, payload=payload
        ).encode()
        launch = LaunchConfiguration(
            heap_bytes=1 << 30,
            threads=8,
            grants=(),
            missing=self.missing,
            counter="unwitnessed",
            level=self.platform.level,
        ).encode()
        body = make_report_body(
            cpusvn=self.platform.keys.cpusvn,
            flags=Flag.INIT | Flag.MODE64 | Flag.KSS | (Flag.DEBUG if self.debug else 0),
            mrenclave=bytes.fromhex(self.image_id),
            mrsigner=bytes.fromhex(self.mrsigner),
            isvprodid=self.product_id,
            isvsvn=self.svn,
            configid=config_id(launch),
            report_data=report_data(document),
        )
        return Evidence(
            quote=make_quote(body, self.platform.keys), runtime_data=document, launch_configuration=launch
        )

    def release_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        return self.quote(Purpose.RELEASE_KEY, nonce, payload)

    def receipt_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        key = okp_key("Ed25519", self.key.public_key().public_bytes_raw())
        return self.quote(Purpose.RECEIPT, nonce, payload, key)

    def sign_receipt(self, statement: bytes) -> bytes:
        return self.key.sign(keys.statement(RECEIPT, statement))
