"""Recognise what endorses evidence, from files in any order: a bundle, or documents from the vendor's
service.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

from kluis.errors import FormatError, UsageError
from kluis.evidence.registry import Kind
from kluis.formats import x509
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.encoding.armor import open_armor
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements

_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_AZURE: Final = re.compile(rb'\s*\{\s*"(?:snp|tdx|ak)"\s*:')
_MAKERS: Final[dict[type, str]] = {
    Collateral: "Intel's TCB info, identity and CRLs",
    SnpEndorsements: "AMD's certificates",
}
_INTEL: Final = (b'{"tcbInfo":', b'{"enclaveIdentity":')


def of_files(kind: Kind, files: Sequence[tuple[str, bytes]]) -> Any:
    """What endorses evidence of a kind; None if there is no file.

    Args:
        kind: of the evidence.
        files: names and bytes, in any order: JSON of a bundle or of the vendor's service, PEM or DER; hex and
            base64 of these.

    Raises:
        FormatError: a file is not a document that endorses this kind.
        UsageError: two files have the same role, or the kind takes none.
        UnavailableError: one of Intel's documents is missing.
    """
    if not files:
        return None
    datas = [_decode(data, name) for name, data in files]
    taken = set(kind.endorsements)
    if taken & {Collateral, SnpEndorsements}:
        endorsements = _of_service(taken, datas, [name for name, _ in files])
        if not isinstance(endorsements, kind.endorsements):
            raise UsageError(
                f"{files[0][0]}: want {_MAKERS[next(iter(taken & set(_MAKERS)))]} for {kind.name}, "
                f"got {_MAKERS.get(type(endorsements), 'what endorses an Azure VM')}",
                hint="kluis collateral fetch EVIDENCE -o FILE gets what endorses it",
            )
        return endorsements
    if TpmEndorsements in taken and not _json(datas[0]):
        return _of_tpm(datas)
    if NvidiaEndorsements in taken and not _json(datas[0]):
        return NvidiaEndorsements(ocsp=tuple(datas))
    if len(datas) > 1:
        raise UsageError(f"--collateral: want one bundle for {kind.name}, got {len(datas)} files")
    if CcaEndorsements in taken and b'"cpak"' not in datas[0]:
        return CcaEndorsements(cpak=datas[0])
    if not kind.endorsements:
        raise UsageError(
            f"{files[0][0]}: evidence of kind {kind.name} takes no collateral",
            hint="leave --collateral out: the evidence carries all that endorses it",
        )
    form: Any = kind.endorsements[0]
    return form.from_json(datas[0])


def _decode(data: bytes, name: str) -> bytes:
    """The content of hex or base64; PEM unchanged, since its label identifies it."""
    return data if data.lstrip()[:5] == b"-----" else open_armor(data, name).data


def is_fetched(kind: Kind) -> bool:
    """Whether the vendor has a service that provides the endorsements of a kind."""
    return bool({Collateral, SnpEndorsements} & set(kind.endorsements))


def _of_service(taken: set[type], datas: Sequence[bytes], names: Sequence[str]) -> Any:
    from kluis.collateral import bundle

    if len(datas) == 1 and _json(datas[0]) and not datas[0].startswith(_INTEL):
        if AzureEndorsements in taken and _AZURE.match(datas[0]):
            return AzureEndorsements.from_json(datas[0])
        return SnpEndorsements.from_thim(datas[0]) if b'"vcekCert"' in datas[0] else bundle.parse(datas[0])
    parts: list[bytes] = []
    for name, data in zip(names, datas, strict=True):
        try:
            bundle.roles_of(data)
            parts.append(data)
        except FormatError as error:
            if not data.startswith(_PEM):
                raise FormatError(
                    f"{name}: want a bundle, TCB info, an identity, certificates or a CRL, got none of them",
                    hint=(
                        f"kluis inspect {shlex.quote(name)} shows what it is; the evidence itself is the"
                        " first argument"
                    ),
                    code=error.code,
                ) from None
            # AMD's service gives the chain as one file: ASK, then ARK.
            parts += x509.split_pem(data, "part")
    return bundle.join(bundle.recognise(parts))


def _of_tpm(datas: Sequence[bytes]) -> TpmEndorsements:
    """An attestation key's certificate, those of its issuers, and their CRLs."""
    leaves: list[x509.Certificate] = []
    chain: list[x509.Certificate] = []
    crls: list[bytes] = []
    for data in datas:
        for one in x509.split_pem(data, "part") if data.startswith(_PEM) else (data,):
            try:
                certificate = x509.parse(one, "part")
            except FormatError:
                x509.parse_crl(one, "part")
                crls.append(one)
                continue
            (chain if certificate.ca else leaves).append(certificate)
    if len(leaves) != 1:
        raise UsageError(f"--collateral: want 1 certificate of an attestation key, got {len(leaves)}")
    return TpmEndorsements(
        certificate=leaves[0].der,
        chain=b"".join(x509.write_pem(each.der) for each in chain),
        crls=tuple(crls),
    )


def _json(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"
