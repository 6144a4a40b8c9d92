"""Parse the runtime data that an Azure confidential VM's hardware report binds: keys and configuration.

Nothing here is verified. Spec: Azure "Guest attestation of confidential VMs", "Runtime data";
RFC 7517 for the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.hcl.report import MAX_RUNTIME
from kluis.formats.x509 import PublicKey
from kluis.frozen import frozen

WHAT: Final = "HCL runtime data"
AK: Final = "HCLAkPub"
MAX_KEYS: Final = 8
MAX_SETTINGS: Final = 64
EXPONENT: Final = "AQAB"
MIN_BITS: Final = 2048

Setting: TypeAlias = bool | int | str


@frozen(kw_only=True)
class RuntimeData:
    """The paravisor's statement about its VM.

    Attributes:
        ak: DER of the SubjectPublicKeyInfo of the one key named HCLAkPub, RSA, exponent 65537, at
            least 2048 bits.
        key_ids: of every key, in order.
        configuration: of the VM, by name: ``secure-boot``, ``tpm-enabled``, ``console-enabled``, ...
        vm_id: the VM's unique id; empty if absent.
        user_data: 64 bytes that the guest wrote before the report was made; None on older hosts.
    """

    ak: bytes
    key_ids: tuple[str, ...]
    configuration: Mapping[str, Setting]
    vm_id: str
    user_data: bytes | None


def parse(data: bytes) -> RuntimeData:
    """Parse the runtime data.

    Raises:
        UnsupportedError: the attestation key is not an RSA key of exponent 65537.
        FormatError: not the expected JSON, no attestation key, or more than one.
    """
    value = Members(jcs.loads(data, WHAT, max_size=MAX_RUNTIME, max_depth=8), WHAT)
    keys = value.objects("keys", most=MAX_KEYS)
    names = tuple(key.text("kid", limit=64) for key in keys)
    if names.count(AK) != 1:
        code = "duplicate_key" if AK in names else "bad_type"
        raise FormatError(f"{WHAT}.keys: want 1 key {AK}, got {names.count(AK)}", code=code)
    settings = _settings(value.object("vm-configuration"))
    vm_id = settings.get("vmUniqueId", "")
    if not isinstance(vm_id, str):
        raise FormatError(f"{WHAT}.vm-configuration.vmUniqueId: want text", code="bad_type")
    return RuntimeData(
        ak=_rsa(keys[names.index(AK)]),
        key_ids=names,
        configuration=MappingProxyType(settings),
        vm_id=vm_id,
        user_data=value.hex("user-data", 64) if "user-data" in value else None,
    )


def _settings(members: Members) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for name, value in members.entries(most=MAX_SETTINGS).items():
        if not isinstance(value, bool | int | str):
            raise FormatError(f"{members.what}.{name[:32]!a}: is no plain value", code="bad_type")
        settings[name] = value
    return settings


def _rsa(key: Members) -> bytes:
    kind, exponent = key.text("kty", limit=8), key.text("e", limit=16)
    if (kind, exponent) != ("RSA", EXPONENT):
        raise UnsupportedError(
            f"{WHAT}.{AK}: want an RSA key of exponent 65537, got {kind!a}", code="bad_type"
        )
    modulus = int.from_bytes(b64.decode_url(key.text("n", limit=1024), f"{WHAT}.{AK}.n"), "big")
    if modulus.bit_length() < MIN_BITS:
        raise UnsupportedError(
            f"{WHAT}.{AK}: want at least {MIN_BITS} bits, got {modulus.bit_length()}", code="bad_type"
        )
    return PublicKey.of_rsa(modulus, 65537).spki
