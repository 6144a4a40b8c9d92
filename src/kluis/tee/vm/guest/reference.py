"""Write a guest's values as a CoRIM manifest, which ``kluis appraise --reference`` reads.

One CoMID for each TEE and launch, whose environment's model names the TEE. The manifest is not signed; a
release signs it, or a relying party makes it from a guest that it built.

Spec: draft-ietf-rats-corim, "CoRIM Map", "CoMID", "Reference Values Triple".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Key, Tagged, Writable
from kluis.formats.ietf.corim import COMID, MAX_DEPTH, UNSIGNED
from kluis.tee.vm.guest.measuring import Measured

VENDOR: Final = "kluis"
SHA256, SHA384 = 1, 7
_DIGESTS: Final = 2
_REGISTERS: Final = 14


def encode(measured: Measured) -> bytes:
    """The manifest, deterministic CBOR.

    The registers of a TPM are those that the guest determines: 4, 9, 11 and 12. PCR 4 has another value if
    the monitor gives the image to OVMF; either is a reference value. A launch digest of ``uefi`` states only
    the firmware, so it is left out: it would accept any guest.
    """
    name = f"kluis-guest-{measured.release}"
    return cbor.dumps(Tagged(UNSIGNED, {0: name, 1: [_comid(name, *each) for each in _values(measured)]}))


def _comid(name: str, suffix: str, model: str, values: Mapping[Key, Writable]) -> Tagged:
    reference: Writable = [[{0: {1: VENDOR, 2: model}}, [{1: values}]]]
    comid: Writable = {1: {0: f"{name}-{suffix}"}, 4: {0: reference}}
    return Tagged(COMID, cbor.dumps(comid, max_depth=MAX_DEPTH))


def _values(measured: Measured) -> Iterator[tuple[str, str, dict[Key, Writable]]]:
    boots = {"": measured.pcrs, "-loaded": {**measured.pcrs, "pcr4": measured.loaded}}
    for model in ("tpm", "azure"):
        for suffix, pcrs in boots.items():
            values: dict[Key, Writable] = {
                int(name.removeprefix("pcr")): [[SHA256, value]] for name, value in pcrs.items()
            }
            yield f"{model}{suffix}", model, {_REGISTERS: values}
    yield "tdx", "tdx", {_REGISTERS: {2: [[SHA384, measured.rtmr2]]}}
    for each in measured.launches:
        if each.boot == "direct":
            suffix = f"snp-{each.firmware}-{each.cpus}"
            yield suffix, "snp", {_DIGESTS: [[SHA384, each.digest]]}
