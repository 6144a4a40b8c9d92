"""Client of Intel's Provisioning Certification Service, version 4, and of compatible caches (PCCS).

Spec: Intel PCS API v4, "Get TCB Info", "Get Quoting Enclave Identity", "Get Revocation List", "Retrieve
TCB Evaluation Data Numbers"; PCCS design guide, versions 3 (CRLs in hex, other header names) and 4.
"""

from __future__ import annotations

import re
import ssl
from datetime import datetime
from typing import Final, Self

from kluis.collateral.documents import Document, Key, Kind, Times, check_key, times
from kluis.collateral.paths import issuer_chain
from kluis.collateral.transport import Answer, Limits, Origin
from kluis.errors import UnavailableError, UsageError
from kluis.formats.sgx.collateral import crl_der

PCS: Final = "https://api.trustedservices.intel.com"
ROOTS: Final = "https://certificates.trustedservices.intel.com"
_CACHE: Final = re.compile(
    r"(https://[^/?#]+)((?:/(?!sgx/|tdx/)[a-z0-9-]{1,32}){0,4})(?:/sgx/certification/v([34]))?/?", re.ASCII
)


class Pcs:
    """Intel's service, or a cache of it; use it as a context manager.

    Args:
        url: Intel's own, or a cache: ``https://host[:port]`` and the folder of its paths, if any (version 4),
            or the same followed by ``/sgx/certification/v3`` or ``/v4``.
        roots: the origin of the root's CRL; None if ``url`` is a cache, which serves it too.
        trust: the certificate authorities for its TLS; None for the system's.
        limits: on each answer.

    Raises:
        UsageError: ``url`` has another form.
    """

    def __init__(
        self,
        url: str = PCS,
        *,
        roots: str | None = ROOTS,
        trust: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        match = _CACHE.fullmatch(url)
        self._version = int(match[3] or 4) if match else 4
        self._folder = match[2] if match else ""
        self._origin = Origin(match[1] if match else url, trust=trust, limits=limits)
        self._roots = Origin(roots, trust=trust, limits=limits) if roots is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._origin.__exit__(*raised)
        if self._roots is not None:
            self._roots.__exit__(*raised)

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Fetch one of Intel's documents; its format is checked, its signature is not.

        Raises:
            UnavailableError: as for :meth:`Origin.get`.
            FormatError: the answer is not such a document, or its issuer chain is damaged.
            UsageError: the kind is not Intel's.
        """
        check_key(kind, key)
        hint: str | None = None
        match kind, key:
            case Kind.TCB_INFO, (tee, fmspc, which):
                path, query = f"{self._path(tee)}/tcb", {"fmspc": fmspc, **_release(which)}
                hint = "its FMSPC is not Intel's to sign for, or that evaluation data number is not published"
            case Kind.QE_IDENTITY, (tee, which):
                path, query = f"{self._path(tee)}/qe/identity", _release(which)
                hint = "that evaluation data number is not published"
            case Kind.EVALUATION_NUMBERS, (tee,):
                path, query = f"{self._path(tee)}/tcbevaluationdatanumbers", {}
            case Kind.PCK_CRL, ("platform" | "processor" as ca,):
                # Caches of version 3 do not support the encoding parameter: they answer in hex.
                path, query = f"{self._path('sgx')}/pckcrl", {"ca": ca}
                query |= {"encoding": "der"} if self._version == 4 else {}
            case Kind.ROOT_CA_CRL, ():
                return self._root_crl(now)
            case _:
                raise UsageError(f"{kind}: is not a document of Intel's service, or its key is another's")
        what = " ".join((kind, *key))
        answer = self._origin.get(path, query, what, hint=hint)
        body = crl_der(answer.body, what) if kind is Kind.PCK_CRL else answer.body
        document = Document(body=body, chain=issuer_chain(answer.headers, kind, what))
        _check_number(times(kind, document), key, what)
        return document

    def _path(self, tee: str) -> str:
        # Version 3 never had TDX: its caches serve version 4 for TDX in addition to version 3 for SGX.
        return f"{self._folder}/{tee}/certification/v{4 if tee == 'tdx' else self._version}"

    def _root_crl(self, now: datetime) -> Document:
        answer: Answer
        if self._roots is not None:
            answer = self._roots.get("/IntelSGXRootCA.der", {}, Kind.ROOT_CA_CRL)
        else:
            answer = self._origin.get(f"{self._path('sgx')}/rootcacrl", {}, Kind.ROOT_CA_CRL)
        document = Document(body=crl_der(answer.body, Kind.ROOT_CA_CRL))
        times(Kind.ROOT_CA_CRL, document)
        return document


def _release(which: str) -> dict[str, str]:
    return {"tcbEvaluationDataNumber": which} if which.isdigit() else {"update": which}


def _check_number(header: Times, key: Key, what: str) -> None:
    """A cache that ignores the requested number returns a document with another."""
    if header.evaluation is not None and key[-1].isdigit() and header.evaluation != int(key[-1]):
        raise UnavailableError(
            f"{what}: want evaluation data number {key[-1]}, got {header.evaluation}",
            hint="the service passes over the number; ask another, or name no number",
            code="service_refused",
        )
