"""Add, list and remove the roots of the trust store, and trust them.

A root is a file ``NAME.toml``:

    version = 1
    level = "process"
    root = '''
    -----BEGIN CERTIFICATE-----
    ..
    -----END CERTIFICATE-----
    '''
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Final

from kluis.errors import FormatError, KluisError, UnavailableError, UsageError, unknown
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.anchors import Anchor
from kluis.formats.encoding import toml
from kluis.frozen import frozen
from kluis.trust import guarded

ENVIRONMENT: Final = "KLUIS_CONFIG"
MAX_ROOTS: Final = 64
MAX_ROOT: Final = 64 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SUFFIX: Final = ".toml"
_TEXT: Final = re.compile(r"[\x20-\x26\x28-\x7e\n]+")  # all that PEM has, and no quote


@frozen(kw_only=True)
class TrustedRoot:
    """One root of the store.

    Attributes:
        name: that its user gave it: at most 63 lower-case letters, digits, ``-`` and ``_``.
        level: of evidence under it, as its user stated it.
        pem: its certificate, or its public key.
        anchor: to verify with.
    """

    name: str
    level: ProtectionLevel
    pem: bytes
    anchor: Anchor


def folder() -> Path:
    """Where the store of this user is.

    Raises:
        UsageError: ``$KLUIS_CONFIG`` is not an absolute path.
    """
    variable = os.environ.get(ENVIRONMENT)
    if variable is None:
        import platformdirs  # with KLUIS_CONFIG it is not needed

        return platformdirs.user_config_path("kluis", appauthor=False) / "trust"
    if not Path(variable).is_absolute():
        raise UsageError(f"{ENVIRONMENT}: want an absolute path, got {variable[:200]!a}")
    return Path(variable) / "trust"


def anchors(store: Path) -> TrustAnchors:
    """The vendors' roots and those of the store.

    Raises:
        KluisError: as for :func:`load`.
    """
    shipped = TrustAnchors.shipped()
    own = tuple(
        dataclasses.replace(root.anchor, name=f"{root.anchor.name} (trusted as {root.name})")
        for root in load(store)
    )
    return shipped | TrustAnchors(own) if own else shipped


def load(store: Path) -> tuple[TrustedRoot, ...]:
    """Every root, by name; none if there is no store.

    Raises:
        UnavailableError: a file or folder is a link, or another user may change it.
        FormatError: a file is not a root of the store, or there are more than 64.
        UsageError: two names are of one key.
    """
    with guarded.open_folder(store) as descriptor:
        if descriptor is None:
            return ()
        names = sorted(each for each in os.listdir(descriptor) if not each.startswith("."))
        if len(names) > MAX_ROOTS:
            raise FormatError(f"{store}: want at most {MAX_ROOTS} roots, got {len(names)}", code="too_large")
        roots = tuple(_parse(each, store, guarded.read(each, store, descriptor, MAX_ROOT)) for each in names)
    by_key: dict[bytes, str] = {}
    for root in roots:
        if (other := by_key.setdefault(root.anchor.spki, root.name)) != root.name:
            raise UsageError(
                f"{store}: want each root once, got one as {other} and as {root.name}",
                hint=f"kluis trust remove {root.name}",
            )
    return roots


def add(store: Path, name: str, pem: bytes, level: ProtectionLevel) -> TrustedRoot:
    """Trust a root from now on.

    Args:
        store: from :func:`folder`; it is created, mode 0700, if needed.
        name: for the root.
        pem: one self-signed certificate, or one public key.
        level: of evidence under it. An emulated root states its own level, which must be the same.

    Raises:
        UsageError: the name or the root is in the store already, or Kluis ships it; or it has another level.
        FormatError: it is not one certificate or key.
        AuthenticityError: it is not signed by its own key.
        UnavailableError: another user may change the store, or it cannot be written.
    """
    _check_name(name)
    guarded.require_owners(store)  # before the folder exists: without it, verification goes on
    root = TrustedRoot(name=name, level=level, pem=pem, anchor=_anchor(pem, level))
    if TrustAnchors.shipped().match(root.anchor.spki) is not None:
        raise UsageError(
            f"{name}: is the root of {root.anchor.name}, which is trusted already",
            hint="Kluis ships the vendors' roots: no command is needed",
        )
    for other in load(store):
        if other.name == name:
            raise UsageError(
                f"{name}: want a new name, got one of a root in the trust store",
                hint=f"choose another name, or first: kluis trust remove {name}",
            )
        if other.anchor.spki == root.anchor.spki:
            raise UsageError(
                f"{name}: is a root that is trusted already, as {other.name}",
                hint=f"kluis trust remove {other.name}",
            )
    text = f"version = 1\nlevel = \"{level}\"\nroot = '''\n{_plain(pem)}'''\n"
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        with guarded.open_folder(store) as descriptor:
            if descriptor is not None:
                _write(name, text.encode(), descriptor)
    except OSError as error:
        raise UnavailableError(f"{store}: cannot be written: {error.strerror}") from None
    return root


def remove(store: Path, name: str) -> None:
    """Stop trusting a root; works for a file that :func:`load` refuses, too.

    Raises:
        UsageError: there is no root of that name.
        UnavailableError: another user may change the store, or it cannot be written.
    """
    _check_name(name)
    with guarded.open_folder(store) as descriptor:
        names = [] if descriptor is None else [each.removesuffix(_SUFFIX) for each in os.listdir(descriptor)]
        if name not in names:
            if not names:
                raise UsageError(f"{name}: is not in the trust store, which is empty")
            raise unknown("trust remove", name, sorted(names), "kluis trust list")
        try:
            os.unlink(name + _SUFFIX, dir_fd=descriptor)
        except OSError as error:
            raise UnavailableError(f"{store / name}{_SUFFIX}: cannot be removed: {error.strerror}") from None


def _write(name: str, data: bytes, descriptor: int) -> None:
    """Write a new file completely or not at all, and never over another."""
    hidden = f".{name}.{os.urandom(8).hex()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(hidden, flags, 0o600, dir_fd=descriptor), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.link(hidden, name + _SUFFIX, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        finally:
            os.unlink(hidden, dir_fd=descriptor)
    os.fsync(descriptor)


def _parse(file: str, store: Path, data: bytes) -> TrustedRoot:
    path = store / file
    name = file.removesuffix(_SUFFIX)
    if not file.endswith(_SUFFIX) or _NAME.fullmatch(name) is None:
        raise FormatError(
            f"{path}: want a file that kluis trust add wrote, got another",
            hint="remove it; kluis trust add NAME FILE --level LEVEL adds a root",
            code="bad_type",
        )
    try:
        members = toml.loads(data, str(path), max_size=MAX_ROOT)
        match members:
            case {"version": 1, "level": str(level), "root": str(root)} if len(members) == 3:
                pem, stated = root.encode(), ProtectionLevel(level)
                return TrustedRoot(name=name, level=stated, pem=pem, anchor=_anchor(pem, stated))
            case {"version": int(version)} if version != 1:
                raise FormatError(f"{path}: want version 1, got {version}", code="bad_version")
        raise FormatError(f"{path}: want version, level and root, got {sorted(members)[:8]}", code="bad_type")
    except (KluisError, ValueError) as error:
        reason = error.message if isinstance(error, KluisError) else str(error)
        code = error.code if isinstance(error, KluisError) else "bad_type"
        raise FormatError(
            reason if reason.startswith(str(path)) else f"{path}: {reason}",
            hint=f"kluis trust remove {name}, and add it again",
            code=code,
        ) from None


def _anchor(pem: bytes, level: ProtectionLevel) -> Anchor:
    (anchor,) = TrustAnchors.from_pem(pem)
    if anchor.emulated or TrustAnchors.shipped().match(anchor.spki) is not None:
        if anchor.level is not level:
            raise UsageError(
                f"--level: want {anchor.level}, which the root has, got {level}",
                hint=f"--level {anchor.level}",
            )
        return anchor
    return next(iter(TrustAnchors.from_pem(pem, level)))


def _plain(pem: bytes) -> str:
    text = pem.decode("ascii", "replace").replace("\r\n", "\n").strip() + "\n"
    if _TEXT.fullmatch(text) is None:
        raise FormatError("root: want PEM and nothing else", code="bad_encoding")
    return text


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"name: want at most 63 lower-case letters, digits, - and _, got {name[:64]!a}",
            hint="choose one such as lab or ci-platform",
        )
