"""Read evidence and its documents from files, stdin and parts, with bounded sizes, and recognise them.

The documents of a piece of evidence are in its evidence file, or else in its folder:
``quote.bin.runtime.json``, ``quote.bin.launch.json`` and ``quote.bin.collateral.json``. A root is in neither.
"""

from __future__ import annotations

import re
import shlex
import string
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kluis.cli.evidence.recognised import known_kind, recognize_format
from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from kluis.evidence import Claims, Tee, TrustAnchors, Verified, collateral_of
from kluis.evidence import verify as verify_evidence
from kluis.evidence.registry import unwrap_if_wrapped
from kluis.formats.encoding.armor import hex_of_groups, open_armor
from kluis.formats.ietf import cmw
from kluis.formats.kluis import evidence_file
from kluis.formats.kluis.evidence_file import EvidenceFile

if TYPE_CHECKING:
    from kluis.appraisal import Policy
    from kluis.evidence.eventlog.judgement import LogClaims
    from kluis.evidence.registry import Kind

MAX_FILE: Final = 16 << 20
MIN_YEAR, MAX_YEAR = 1970, 9998
STDIN: Final = Path("-")
_EMULATED: Final = "of an emulated platform, kluis platform collateral"
# After comments, "version=": Azure Attestation's policy language.
_AZURES: Final = re.compile(rb"(?:\s++|//[^\n]*+\n|/\*.*?\*/)*+version\s*+=\s*+[\d.\s]++;", re.DOTALL)
_RENEWED: Final = "kluis platform collateral -o"
_OTHER_ROOT: Final = (
    "the evidence is of another platform than this root's; kluis inspect EVIDENCE shows the names in its"
    " chain, kluis platform root prints the root of a platform on its own machine"
)
_RUN_OUT: Final = frozenset({"tcb_info_expired", "qe_identity_expired", "crl_expired"})


def read(path: Path) -> bytes:
    """Read a file, or stdin for ``-``.

    Raises:
        UsageError: it cannot be read, or stdin is empty, as when it is named a second time.
        FormatError: more than 16 MiB.
    """
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MAX_FILE + 1)
            if not data:
                raise UsageError("-: want something on standard input, got nothing; it can be read once")
        else:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except OSError as error:
        several = "name its files one by one; kluis collateral bundle combines a vendor's documents"
        hint = several if isinstance(error, IsADirectoryError) else None
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint=hint) from None
    if len(data) > MAX_FILE:
        image = "an image is no evidence: kluis attest FILE -o QUOTE --nonce HEX makes some of one"
        hint = image if path.suffix == ".kluis" else None
        raise FormatError(f"{path}: is more than {MAX_FILE} bytes", hint=hint, code="too_large")
    return data


def read_filled(path: Path) -> bytes:
    """Read a file that must not be empty.

    Raises:
        FormatError: it is empty, or too large.
        UsageError: it cannot be read.
    """
    data = read(path)
    if not data:
        raise FormatError(
            f"{path}: is empty", hint="transfer it again, and compare its size", code="truncated"
        )
    return data


def evidence(path: Path | None, parts: Sequence[str]) -> bytes:
    """The evidence: a file, a folder of configfs-tsm, stdin, or a collection of ``NAME=FILE`` parts.

    Raises:
        UsageError: neither, both, or a part that is not ``NAME=FILE``.
        UnsupportedError: a token that contains no evidence.
    """
    if (path is None) == (not parts):
        both = "both" if parts else "neither"
        raise UsageError(
            f"evidence: want a file, - for stdin, or --part NAME=FILE, and not both, got {both}",
            hint=None if parts else "name its file; kluis attest IMAGE -o FILE --nonce HEX makes some",
        )
    if path is not None and _is_folder(path):
        from kluis.cli.evidence import tsm_folder  # most evidence is a file

        return tsm_folder.read(path, read)
    if path is not None:
        content = read_filled(path)
        if _is_result(content.strip()):
            raise UnsupportedError(
                f"{path}: is a JSON web token: what a service found, and no evidence",
                hint=f"kluis token verify {path} --keys FILE --issuer URL",
                code="bad_magic",
            )
        return decode_armor(content, str(path))
    parts_by_name: dict[str, cmw.Part] = {}
    for part in parts:
        name, equals, file = part.partition("=")
        if not equals or name in parts_by_name:
            raise UsageError(
                f"--part: want NAME=FILE, each name once, got {part[:64]!a}",
                hint="as --part tpm_quote=FILE --part tpm_signature=FILE --part pcrs=FILE",
            )
        data = read_filled(Path(file))
        # A chain of certificates is a part, unchanged.
        part_data = data if data.startswith(b"-----BEGIN ") else decode_armor(data, file)
        parts_by_name[name] = cmw.Part(cmw.OCTETS, part_data)
    return cmw.Collection(parts_by_name).encode()


def _is_result(token: bytes) -> bool:
    """Whether bytes are a signed JSON token without evidence."""
    if token.count(b".") != 2:
        return False
    from kluis.formats.wrappers import eat  # most evidence is no token

    return eat.matches_jwt(token) and not eat.carries(token)


def digests(data: bytes, parts: Sequence[str]) -> dict[str, str]:
    """SHA-256 of evidence, in hex, without its armor; of each part by its name, if it has parts."""
    own = cmw.Collection.parse(data).parts if parts else {}
    return {name: sha256(part.value).hexdigest() for name, part in own.items()} or {
        "evidence": sha256(data).hexdigest()
    }


def decode_armor(data: bytes, what: str) -> bytes:
    """The bytes decoded from hex, base64 or PEM; else unchanged."""
    return open_armor(data, what).data


def with_event_log(data: bytes, log: bytes) -> bytes:
    """A collection of a TPM's parts with its event log; other evidence unchanged.

    Raises:
        UsageError: the collection has a log.
    """
    if not cmw.matches(data) or b'"tpm_quote":[' not in data:
        return data
    collection = cmw.Collection.parse(data)
    if "event_log" in collection.parts:
        raise UsageError("--event-log: the evidence holds one")
    return cmw.Collection(
        {**collection.parts, "event_log": cmw.Part(cmw.OCTETS, log)}, collection.type
    ).encode()


def hold_log(claims: Claims, log: bytes) -> LogClaims | None:
    """Check an event log against the registers that evidence proves: those of a TPM or of a TDX domain.

    A quote in a wrapper may have its own log, which was judged with it; the given one is checked, too.

    Raises:
        AuthenticityError: the log does not match the registers that firmware closes.
        FormatError: it is malformed, or has no digests of a bank that was quoted.
        UsageError: the evidence has no such registers.
    """
    from kluis.evidence.azure.claims import AzureClaims  # most evidence comes without a log
    from kluis.evidence.eventlog.judgement import judge
    from kluis.evidence.eventlog.replay import Registers
    from kluis.evidence.tpm.claims import TpmClaims
    from kluis.evidence.tpm.tpm import check_log
    from kluis.formats.eventlog import log as event_log
    from kluis.formats.tpm.algorithm import LABELS, HashId

    quoted = claims.vendor.tpm if isinstance(claims.vendor, AzureClaims) else claims
    if quoted is not None and isinstance(quoted.vendor, TpmClaims):
        return check_log(log, {LABELS[label]: values for label, values in quoted.vendor.pcrs.items()})
    if claims.tee is not Tee.TDX:
        raise UsageError(f"--event-log: evidence of {claims.kind} has no registers that a log explains")
    proven = {int(name[-1]): digest.value for name, digest in claims.registers.items()}
    judgement = judge(event_log.parse(log), HashId.SHA384, Registers.RTMR, proven)
    if not judgement.explained:
        wrong = sorted(judgement.contradicted | judgement.unexplained)
        raise AuthenticityError(
            f"event log: want one that explains {', '.join(f'rtmr{each}' for each in wrong)}, got another",
            hint="give the log (CCEL) of this very start of the domain",
            code="event_log",
        )
    return judgement


def verify_with_collateral(
    data: bytes, trusted: TrustAnchors, files: Sequence[Path], beside: Path | None, now: datetime
) -> Verified[Claims]:
    """Verify evidence with the collateral that is given, that is in its file, or in its folder.

    Raises:
        UnavailableError: its kind needs collateral; none is given, and none is in its folder.
    """
    packed = parse_packed(data)
    inside = packed.collateral if packed is not None and not files else None
    neighbour = beside_of(beside, "collateral") if beside is not None and not files and not inside else None
    paths = [neighbour] if neighbour else list(files)
    outer = unwrap_if_wrapped(data)
    kind = known_kind(outer.inner if outer else data)
    collateral = None
    if packed is not None and inside:
        collateral = collateral_of(packed)
    elif paths:
        from kluis.collateral.endorsing import of_files  # loads every vendor's documents

        collateral = of_files(kind, [(str(path), read_filled(path)) for path in paths])
    try:
        return verify_evidence(data, anchors=trusted, collateral=collateral, now=now)
    except UnavailableError as error:
        fetch = _fetching(kind, beside)
        if collateral is None and error.code == "collateral_missing" and fetch is not None:
            where = ", and no file next to it" if beside is not None else ""
            raise UnavailableError(
                f"{beside or 'evidence'}: no collateral given{where}",
                hint=f"{fetch}; {_address(error.hint) or _EMULATED}",
                code="collateral_missing",
            ) from None
        raise
    except FreshnessError as error:
        fetch = _fetching(kind, beside)
        if error.code in _RUN_OUT and fetch is not None:
            if all(anchor.emulated for anchor in trusted):
                fetch = f"{_RENEWED} {paths[0] if paths else 'FILE'}, on the machine of the platform"
            error.hint = f"{fetch}; evidence of long ago is judged as of its time with --now"
        raise
    except AuthenticityError as error:
        if error.code == "root_untrusted" and trusted != TrustAnchors.shipped():
            error.hint = _OTHER_ROOT
        raise


def _fetching(kind: Kind, beside: Path | None) -> str | None:
    """The command that fetches the collateral of this evidence; None if its vendor has no service."""
    from kluis.collateral.endorsing import is_fetched

    if not is_fetched(kind) or beside == STDIN:
        return None
    if beside is None:
        return "kluis collateral fetch -o FILE, with the same --part options, and --collateral FILE here"
    name = shlex.quote(str(beside))
    return f"kluis collateral fetch {name} -o {name}.collateral.json"


def _address(hint: str | None) -> str | None:
    """The vendor's URL of a missing document, so that the user can fetch it on another machine."""
    match = re.search(r"https://\S+", hint or "")
    return f"its certificate is {match[0]}" if match else None


def policy(path: Path) -> Policy:
    """The policy, from a file that a person wrote.

    Raises:
        FormatError: it cannot be read as a policy, or is of another kind, such as evidence.
        UsageError: it does not exist, or contradicts itself.
    """
    if not _is_there(path):
        raise UsageError(
            f"{path}: cannot be read: No such file or directory",
            hint=f"kluis policy init EVIDENCE -o {shlex.quote(str(path))} drafts one",
        )
    return policy_of(path, read_filled(path))


def policy_of(path: Path, data: bytes) -> Policy:
    """The policy of a text, like :func:`policy`.

    Raises:
        FormatError: it cannot be read as a policy, or is of another kind.
        UsageError: it contradicts itself.
    """
    from kluis.appraisal import loads  # which kluis verify does not need

    try:
        return loads(data)
    except FormatError as error:
        if error.code == "bad_encoding" and _AZURES.match(data):
            raise FormatError(
                f"{path}: want a policy of Kluis (TOML), got a policy of Azure Attestation",
                hint=f"the attestation service applies it, and kluis policy lint {path} checks it;"
                " kluis policy init EVIDENCE drafts one for kluis appraise",
                code="bad_encoding",
            ) from None
        if error.code == "bad_encoding" and (name := recognize_format(data)) is not None:
            raise FormatError(
                f"{path}: want a policy (TOML), got {name}",
                hint=("pass only evidence here, its collateral in --collateral, the policy in --policy"),
                code="bad_encoding",
            ) from None
        raise


def beside_of(path: Path, name: str) -> Path | None:
    """The document of this name in a file's folder, if it exists."""
    if path == STDIN or not path.name:  # a folder may be named by dots
        return None
    neighbour = path.with_name(f"{path.name}.{name}.json")
    return neighbour if _is_file(neighbour) else None


def _is_there(path: Path) -> bool:
    try:
        return path == STDIN or path.exists()
    except OSError:  # the name is too long for the file system, or access is denied: reading it reports that
        return True


def _is_folder(path: Path) -> bool:
    try:
        return path != STDIN and path.is_dir()
    except OSError:  # reading it reports why
        return False


def _is_file(path: Path) -> bool:
    """Whether a file exists; False if the file system cannot hold its name."""
    try:
        return path.is_file()
    except OSError:
        return False


def optional(named: Path | None, packed: EvidenceFile | None, beside: Path | None, name: str) -> bytes | None:
    """A document that is given, in the evidence file, or in the evidence's folder; None if there is none."""
    if named is None and packed is not None:
        return packed.runtime_data if name == "runtime" else packed.launch_configuration
    path = named or (beside_of(beside, name) if beside is not None else None)
    return read(path) if path else None


def parse_packed(data: bytes) -> EvidenceFile | None:
    """The parts of an evidence file; None for other evidence.

    Raises:
        KluisError: as for :meth:`EvidenceFile.parse`.
    """
    return EvidenceFile.parse(data) if evidence_file.matches(data) else None


def from_hex(value: str, name: str) -> bytes:
    """An option's bytes; colons between them are allowed.

    Raises:
        UsageError: not hex.
    """
    try:
        return bytes.fromhex(value)
    except ValueError:
        grouped = hex_of_groups(value.encode(errors="replace"))
    if grouped is None:
        if len(value) % 2 and set(value) <= set(string.hexdigits):
            what = f"{name}: want two hex digits a byte, got {len(value)} digits: {value[:32]!a}"
            raise UsageError(what, hint=f"a digit is missing, or the first byte's zero: {name} 0{value[:32]}")
        raise UsageError(f"{name}: want hex, got {value[:32]!a}")
    return grouped


def time(value: str | None) -> datetime:
    """``--now``, or the current time.

    Raises:
        UsageError: not a time with a zone.
    """
    if value is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        when = None
    # Within a day of either end of the calendar, conversion to another zone, or adding a minute, fails.
    if when is None or when.tzinfo is None or not MIN_YEAR <= when.year <= MAX_YEAR:
        raise UsageError(f"--now: want a time like 2026-01-31T00:00:00Z, got {value[:32]!a}")
    return when.astimezone(UTC)
