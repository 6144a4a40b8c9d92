"""A fixed time for a record that has none: inside the window of every certificate, and of what else has one.

Spec: RFC 5280, "Validity", "This Update", "Next Update"; Intel PCS API v4: ``issueDate``, ``nextUpdate``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from kluis.errors import KluisError, UsageError
from kluis.formats import x509
from kluis.formats.nitro.document import Document
from kluis.formats.sgx.collateral import crl_der, split_signed
from kluis.formats.sgx.tcb_info import parse_identity, parse_tcb_info
from kluis.formats.x509 import Certificate

FALLBACK: Final = datetime(2025, 1, 1, tzinfo=UTC)
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_DAY: Final = timedelta(days=1)

Window: TypeAlias = tuple[datetime, datetime]


def instant(files: Mapping[str, bytes]) -> datetime:
    """A fixed time inside the validity of every certificate in the files, including those inside evidence.

    It is also in the validity of every list and document of a vendor, if such a time exists.

    Raises:
        UsageError: certificates have no time in common.
    """
    held = [(one.not_before, one.not_after) for data in files.values() for one in certificates(data)]
    published = [window for data in files.values() for window in _published(data)]
    when = _within([*held, *published]) or _within(held)
    if when is None:
        raise UsageError("files: no time is inside the window of every certificate")
    return when


def certificates(data: bytes) -> tuple[Certificate, ...]:
    """The certificates of a file: PEM, anywhere in it; one in DER; a Nitro document's."""
    found = []
    for der in _ders(data):
        try:
            found.append(x509.parse(der, "file"))
        except KluisError:
            continue  # what is broken has no window
    return tuple(found)


def _ders(data: bytes) -> Iterator[bytes]:
    for block in _PEM.findall(data):
        try:
            yield from x509.split_pem(block, "file")
        except KluisError:
            continue
    if data[:1] == b"\x30":
        yield data
    if data[:1] in (b"\x84", b"\xd2"):
        try:
            document = Document.parse(data)
        except KluisError:
            return
        yield from (document.certificate, *document.cabundle)


def _published(data: bytes) -> Iterator[Window]:
    """The window of a list, or of a signed document."""
    try:
        if data.startswith(b'{"tcbInfo":'):
            info = parse_tcb_info(split_signed(data, "tcbInfo")[0])
            yield info.issued, info.next_update
        elif data.startswith(b'{"enclaveIdentity":'):
            identity = parse_identity(split_signed(data, "enclaveIdentity")[0])
            yield identity.issued, identity.next_update
        else:
            crl = x509.parse_crl(crl_der(data, "file"), "file")
            yield crl.this_update, crl.next_update
    except KluisError:
        return


def _within(windows: list[Window]) -> datetime | None:
    if not windows:
        return FALLBACK
    start, end = max(first for first, _ in windows), min(last for _, last in windows)
    return min(max(start + _DAY, FALLBACK), end) if start <= end else None
