"""Trust anchors: the root keys that a relying party trusts.

Only vendors' own roots are shipped (:mod:`kluis.evidence.roots`). Emulated roots, and all others that Kluis
does not ship, are trusted only if their file is named.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import AuthenticityError, FormatError, InternalError, UnsupportedError, UsageError
from kluis.evidence import roots
from kluis.evidence.engine import OPENSSL, Engine, Key
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.roots import SHIPPED_ROOTS, Root
from kluis.formats import x509
from kluis.formats.x509 import Certificate, Scheme
from kluis.frozen import frozen
from kluis.hashes import sha256

EMULATED: Final = "Kluis emulated"
EMULATED_LEVELS: Final = (ProtectionLevel.PROCESS_USER, ProtectionLevel.PROCESS, ProtectionLevel.VM)
STATED_LEVELS: Final = (
    ProtectionLevel.NONE,
    ProtectionLevel.VTPM,
    *(level for level in ProtectionLevel if level.hardware),
)


@frozen(kw_only=True)
class Anchor:
    """One root key, and the protection level that evidence under it has.

    Attributes:
        name: for messages.
        ``vendor``: prefix of the names in its certificates; empty for a bare key.
        spki: DER of the SubjectPublicKeyInfo.
        level: of evidence under this anchor.
        product: the only product line that it signs for; empty for all of the vendor's.
        proven: certificates, by their bytes, whose signature by the key was already verified.
    """

    name: str
    vendor: str
    spki: bytes
    level: ProtectionLevel
    product: str = ""
    proven: Mapping[bytes, Certificate] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    @property
    def emulated(self) -> bool:
        """Whether an operator, not a vendor, has its private key."""
        return self.vendor == EMULATED


class _Known:
    """Lookup tables over all anchors, by exact bytes."""

    __slots__ = ("chains", "keys", "proven", "roots", "sizes")

    def __init__(self, anchors: tuple[Anchor, ...]) -> None:
        self.roots: dict[bytes, Anchor] = {}
        self.proven: dict[bytes, Certificate] = {}
        self.chains: dict[bytes, tuple[Certificate, ...]] = {}
        # By SubjectPublicKeyInfo; each is loaded on first use.
        self.keys: dict[bytes, dict[tuple[type[Engine], str, Scheme], Key]] = {}
        for anchor in anchors:
            self.roots.setdefault(anchor.spki, anchor)
            self.proven.update(anchor.proven)
            roots = [each for each in anchor.proven.values() if each.spki == anchor.spki]
            for each in anchor.proven.values():
                self.keys[each.spki] = {}
                for root in roots:
                    certificates = (each,) if each.spki == anchor.spki else (each, root)
                    self.chains[b"".join(x509.write_pem(one.der) for one in certificates)] = certificates
        self.sizes = frozenset(map(len, self.chains))


@frozen
class TrustAnchors:
    """The anchors that a relying party trusts, at least one."""

    anchors: tuple[Anchor, ...]
    _known: _Known = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.anchors:
            raise UsageError("trust anchors: want at least 1, got 0")
        object.__setattr__(self, "_known", _Known(self.anchors))

    def __iter__(self) -> Iterator[Anchor]:
        return iter(self.anchors)

    @staticmethod
    def shipped() -> TrustAnchors:
        """The vendors' roots that Kluis ships: only hardware and vTPMs."""
        return _load_shipped()

    @classmethod
    def from_pem(cls, data: bytes, level: ProtectionLevel | None = None) -> Self:
        """Trust the root whose certificate, or bare public key, is ``data``.

        A vendor's root and an emulated one have a fixed level. Any other root has the level that the relying
        party states, because only the relying party knows who has its key. Without one, it is ``none``.

        Args:
            data: PEM: one self-signed certificate, or one public key.
            level: ``none``, ``vtpm`` or one of hardware.

        Raises:
            FormatError: not exactly one certificate or key.
            UnsupportedError: an emulated root that does not name its level.
            AuthenticityError: not signed by its own key.
            UsageError: a level that cannot be stated.
        """
        if level is not None and level not in STATED_LEVELS:
            raise UsageError(f"root level: want one of {', '.join(STATED_LEVELS)}, got {level}")
        if b"-----BEGIN PUBLIC KEY-----" in data[:256]:
            key = x509.parse_public_key(data, "root key")
            return cls((_match_shipped(key.spki) or _make_anchor("public key", "", key.spki, level),))
        chain = x509.parse_pem(data, "root certificate")
        if len(chain) != 1:
            raise FormatError(f"root certificate: want 1 certificate, got {len(chain)}", code="bad_length")
        return cls.from_root(chain[0], level)

    @classmethod
    def from_root(cls, root: Certificate, level: ProtectionLevel | None = None) -> Self:
        """Trust a root that is already parsed, like :meth:`from_pem`.

        Raises:
            UnsupportedError: an emulated root that does not name its level.
            AuthenticityError: not signed by its own key.
        """
        _check_self_signed(root)
        if known := _match_shipped(root.spki):
            return cls((known,))
        name = root.common_name
        vendor = EMULATED if name.startswith(EMULATED) else name.partition(" ")[0]
        if vendor == EMULATED:
            if root.unit not in EMULATED_LEVELS or level is not None:
                raise UnsupportedError(
                    f"root certificate: {name!a} is no emulated platform's root that names its level",
                    hint="kluis platform root prints the root of this machine's platform",
                    code="bad_type",
                )
            level = ProtectionLevel(root.unit)
        anchor = _make_anchor(name, vendor, root.spki, level)
        return cls((dataclasses.replace(anchor, proven=MappingProxyType({root.der: root})),))

    def __or__(self, other: TrustAnchors) -> TrustAnchors:
        """Trust the anchors of both."""
        return TrustAnchors((*self.anchors, *other.anchors))

    def match(self, spki: bytes) -> Anchor | None:
        """The anchor whose key is exactly ``spki``, DER, or None."""
        return self._known.roots.get(spki)

    def key(self, spki: bytes, scheme: Scheme, engine: Engine) -> Key | None:
        """The key of a proven certificate, loaded once; None if it belongs to none of them.

        Raises:
            ValueError: not a key of that scheme.
        """
        loaded = self._known.keys.get(spki)
        if loaded is None:
            return None
        # Keyed by the engine's class as well: shipped roots are shared by all verifiers, and any engine can
        # have any name.
        name = (type(engine), engine.name, scheme)
        loaded_key = loaded.get(name)
        if loaded_key is None:
            loaded_key = loaded[name] = engine.key(spki, scheme)
        return loaded_key

    def chain(self, pem: bytes) -> tuple[Certificate, ...] | None:
        """The proven certificates of the PEM chain ``pem``, in PEM's usual form; None for other chains.

        A chain is one certificate and the root that issued it, or only the root.
        """
        # Looking up data that does not have a chain's size would hash all of it.
        return self._known.chains.get(pem) if len(pem) in self._known.sizes else None

    def proven(self, der: bytes) -> Certificate | None:
        """The certificate with these bytes, if the signature by an anchor is already verified."""
        return self._known.proven.get(der)


def _match_shipped(spki: bytes) -> Anchor | None:
    return TrustAnchors.shipped().match(spki)


def _make_anchor(name: str, vendor: str, spki: bytes, level: ProtectionLevel | None) -> Anchor:
    return Anchor(
        name=f"{name} sha256:{sha256(spki).hex()[:16]}",
        vendor=vendor,
        spki=spki,
        level=level or ProtectionLevel.NONE,
    )


def _check_self_signed(root: x509.Certificate) -> None:
    try:
        own = OPENSSL.key(root.spki, root.scheme).verify(root.signature, root.signed)
    except ValueError:
        own = False
    if not own or root.issuer != root.subject:
        raise AuthenticityError(
            "root certificate: is not signed by the key it should be", code="root_untrusted"
        )


@lru_cache(maxsize=1)
def _load_shipped() -> TrustAnchors:
    """Every shipped anchor.

    Raises:
        InternalError: a file does not match its pin.
    """
    return TrustAnchors(tuple(map(_load, SHIPPED_ROOTS)))


def _load(entry: Root) -> Anchor:
    (certificate,) = _read(entry.file)
    if sha256(certificate.spki).hex() != entry.pin:
        raise InternalError(f"{entry.file}: is not the root that was pinned")
    issued = _read(entry.issued) if entry.issued else ()
    for each in (certificate, *issued):
        _check_issued(each, certificate, entry.issued or entry.file)
    return Anchor(
        name=entry.name,
        vendor=entry.vendor,
        spki=certificate.spki,
        level=entry.level,
        product=entry.product,
        proven=MappingProxyType({each.der: each for each in (certificate, *issued)}),
    )


def _read(file: str) -> tuple[Certificate, ...]:
    return x509.parse_pem(pkgutil.get_data(roots.__name__, file) or b"", file, most=16)


def _check_issued(certificate: Certificate, root: Certificate, file: str) -> None:
    try:
        key = OPENSSL.key(root.spki, certificate.scheme)
        signed = key.verify(certificate.signature, certificate.signed)
    except ValueError:
        signed = False
    if certificate.issuer != root.subject or not signed:
        raise InternalError(f"{file}: {certificate.common_name!a} is not of its root")
