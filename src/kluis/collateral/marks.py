"""Marks of the newest document ever seen of each kind, so that older ones are refused as replays.

A vendor's signature lasts: TCB info that a recovery has superseded remains valid for thirty more days, and so
does a CRL that lists one certificate fewer. A verifier cannot detect this, but a machine that has seen the
newer document can. A mark records when that document was issued, and Intel's number of it; it outlives the
document.

Each mark belongs to one kind, key and authority: two vendors, or two emulated authorities, share no mark.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kluis.collateral import folder
from kluis.collateral.documents import Document, Key, Kind, Times, check_key, times
from kluis.errors import FormatError, FreshnessError, UnavailableError
from kluis.formats import x509
from kluis.formats.encoding import jcs
from kluis.formats.encoding.brief import instant
from kluis.formats.encoding.members import Members
from kluis.hashes import sha256

MARKED: Final = frozenset(Kind) - {Kind.VCEK, Kind.AMD_CHAIN}  # certificates are not superseded, but revoked
MAX_MARK: Final = 4096
_CRLS: Final = frozenset({Kind.PCK_CRL, Kind.ROOT_CA_CRL, Kind.AMD_CRL})
_AUTHORITY_KEY: Final = "2.5.29.35"  # RFC 5280 4.2.1.1


class Marks:
    """The marks in a folder of cached documents, one file each."""

    def __init__(self, path: Path) -> None:
        self._folder = path

    def path(self, kind: Kind, key: Key, document: Document) -> Path:
        """The path of a document's mark.

        Raises:
            UsageError: a word of ``key`` is not a word.
            FormatError: not such a document.
        """
        check_key(kind, key)
        return self._folder / ("_".join((kind, *key, authority(kind, document)[:16])) + ".seen.json")

    def read(self, kind: Kind, key: Key, document: Document) -> Times | None:
        """The newest mark of the authority that ``document`` names; None if there is none.

        Raises:
            UnavailableError: the mark's file is damaged.
            FormatError: ``document`` is not such a document.
        """
        path = self.path(kind, key, document)
        if not os.path.lexists(path):
            return None
        data = folder.read(path, MAX_MARK)
        try:
            if data is None:
                raise FormatError("is a link, or others may write it", code="bad_type")
            mark = Members(jcs.loads(data, "mark", max_size=MAX_MARK), "mark")
            mark.version(1)
            issued, number = mark.time("issued"), mark.integer("evaluation", most=1 << 32)
        except FormatError as error:
            raise UnavailableError(
                f"{path}: want what was seen here last, got a file that cannot be it: {error.message}",
                hint=f"rm {shlex.quote(str(path))}; what is fetched next is then taken as the first",
            ) from None
        return Times(issued, issued, number or None)

    def raise_to(self, kind: Kind, key: Key, document: Document) -> None:
        """Record a document once its vendor's signature is checked; a mark never goes down.

        Raises:
            UnavailableError: the existing mark is damaged, or the folder cannot be written.
        """
        if kind not in MARKED:
            return
        seen, before = times(kind, document), self.read(kind, key, document)
        highest = seen if before is None else _highest(before, seen)
        if highest == before:
            return
        folder.write(
            self.path(kind, key, document),
            jcs.dumps(
                {"version": 1, "issued": instant(highest.issued), "evaluation": highest.evaluation or 0}
            ),
        )


def authority(kind: Kind, document: Document) -> str:
    """The stated authority of a document: 64 hex digits of the root's key, or of a CRL's issuer.

    It is only the document's claim: true once the document is verified, and not before.

    Raises:
        FormatError: it is not such a document.
    """
    if kind in _CRLS:
        crl = x509.parse_crl(document.body, kind)
        return sha256(crl.issuer + crl.extensions.get(_AUTHORITY_KEY, b"")).hex()
    chain = x509.parse_pem(document.chain, f"{kind}: issuer chain")  # in any order: the verifier takes any
    return sha256(b"".join(sorted(one.spki for one in chain if one.subject == one.issuer))).hex()


def refuse_older(what: str, seen: Times, got: Times, files: Iterable[Path]) -> None:
    """Refuse a document that is older than one seen before.

    Args:
        what: name of the document, for the error.
        seen: of the newest.
        got: of the document.
        files: that store ``seen``.

    Raises:
        FreshnessError: names both (``collateral_replayed``), and the command that deletes the mark.
    """
    if is_older(got, seen):
        paths = " ".join(shlex.quote(str(path)) for path in files if path.exists())
        raise FreshnessError(
            f"{what}: want one issued {format_times(seen)} or later, as was seen before, "
            f"got one issued {format_times(got)}",
            hint=f"ask another service, this one gives an old document; to take it all the same: rm {paths}",
            code="collateral_replayed",
        )


def is_older(got: Times, seen: Times) -> bool:
    """Whether ``got`` was issued before ``seen``, or has a lower number."""
    return got.issued < seen.issued or (got.evaluation or 0) < (seen.evaluation or 0)


def format_times(times: Times) -> str:
    """When a document was issued, and its number if it has one."""
    return instant(times.issued) + (f" with evaluation number {times.evaluation}" if times.evaluation else "")


def _highest(one: Times, other: Times) -> Times:
    issued = max(one.issued, other.issued)
    return Times(issued, issued, max(one.evaluation or 0, other.evaluation or 0) or None)
