"""The roots that a command trusts: of ``--root``, or else the vendors', the trust store's, a policy's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from kluis import trust
from kluis.cli.evidence import files
from kluis.cli.evidence.recognised import recognize_format
from kluis.cli.parameters import option
from kluis.errors import FormatError, UsageError, unknown
from kluis.evidence import ProtectionLevel, TrustAnchors

Only: TypeAlias = Annotated[
    Path | None,
    option("The only root to trust; by default this platform's and those of kluis trust.", "ROOT", "--root"),
]
_HINT = "a root is one certificate in PEM; of this machine's platform: kluis platform root"


def anchors(roots: Sequence[Path], level: str | None, emulated: Iterable[Path] = ()) -> TrustAnchors:
    """The trusted roots: those given, or else the shipped ones, those of the trust store and of a policy.

    Raises:
        UsageError: an unknown level, or one without a root.
        UnavailableError: other users may write the trust store.
    """
    stated = stated_level(level, "--root-level")
    if stated is not None and not roots:
        raise UsageError("--root-level: is the level of a root that --root names")
    if roots:
        loaded = [read(path, stated) for path in roots]
        return TrustAnchors(tuple(anchor for each in loaded for anchor in each))
    trusted = trust.anchors(trust.folder())
    for path in emulated:
        trusted |= read(path)
    return trusted


def one(path: Path | None) -> bytes:
    """The only root that a command trusts: a file, a name of the trust store, or the store's only root.

    Returns:
        Its certificate or public key, PEM.

    Raises:
        UsageError: there is no such file and no root of this name, or several roots and no name.
        UnavailableError: other users may write the trust store.
    """
    if path is not None and path.exists():
        # The sender of a folder can name a file like a trusted root, whose name has no dot.
        bare = len(path.parts) == 1 and not path.suffix
        if bare and any(each.name == str(path) for each in trust.load(trust.folder())):
            raise UsageError(
                f"--root: {path}: want one root, got a file and a trusted root of this name",
                hint=f"--root {path.absolute()} names the file; elsewhere, {path} is the trusted root",
            )
        return files.read(path)
    trusted = {root.name: root.pem for root in trust.load(trust.folder())}
    if path is not None:
        if (pem := trusted.get(str(path))) is not None:
            return pem
        raise UsageError(
            f"--root: want a file or a trusted root, got {str(path)[:80]!a}", hint="kluis trust list"
        )
    if len(trusted) != 1:
        raise UsageError(
            f"--root: want one root, got {len(trusted)} in the trust store",
            hint="kluis trust list" if trusted else "kluis trust add NAME ROOT.pem --level process",
        )
    return next(iter(trusted.values()))


def read(path: Path, level: ProtectionLevel | None = None) -> TrustAnchors:
    """The root of a file.

    Raises:
        FormatError: it is not one certificate or public key.
        UsageError: it cannot be read, or has another level.
    """
    data = files.read(path)
    try:
        return TrustAnchors.from_pem(data, level)
    except FormatError as error:
        name = None if data.lstrip().startswith(b"-----BEGIN ") else recognize_format(data)
        raise FormatError(
            f"{path}: {error.message if name is None else f'want a root (PEM), got {name}'}",
            hint=error.hint or _HINT,
            code=error.code,
        ) from None


def stated_level(value: str | None, option: str) -> ProtectionLevel | None:
    """The level that an option states; None if it is left out.

    Raises:
        UsageError: there is no such level.
    """
    if value is None:
        return None
    if value not in set(ProtectionLevel):
        raise unknown(option, value, ProtectionLevel)
    return ProtectionLevel(value)
