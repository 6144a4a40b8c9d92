"""The page that judges evidence: an uploaded file, its verdict, and each check with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from kluis import appraisal, trust
from kluis.appraisal import AttestationResult, Session
from kluis.collateral.endorsing import of_files
from kluis.console.state import Console, platform
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.evidence import Claims, TrustAnchors, denylist, verify
from kluis.evidence.levels import MEANINGS
from kluis.evidence.registry import kind_of
from kluis.evidence.wrappers.unwrap import unwrap
from kluis.formats.encoding.armor import open_armor
from kluis.formats.kluis import evidence_file
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.frozen import frozen
from kluis.views import report_html, values

MAX_FILE: Final = 16 << 20
EVIDENCE: Final = "evidence"
FILES: Final = (EVIDENCE, "collateral", "runtime", "launch", "policy", "root")
TEXTS: Final = ("nonce", "report_data")
HERE: Final = "here"


@frozen
class Judged:
    """The outcome for one piece of evidence.

    Attributes:
        claims: what verification proved.
        result: of the appraisal; None if no policy was given.
        sha256: of the evidence, hex.
    """

    claims: Claims
    result: AttestationResult | None
    sha256: str


async def form(console: Console, request: Request) -> Response:
    """The form."""
    return console.pages.page(request, "evidence.html", local=platform() is not None)


async def judge(console: Console, request: Request, form: FormData) -> Response:
    """Verify an uploaded file, and appraise it if there is a policy."""
    files = {name: await _read(form.get(name), name) for name in FILES}
    present = {name: data for name, data in files.items() if data is not None}
    if EVIDENCE not in present:
        raise UsageError("evidence: want a file, got none", hint="choose a file, or drop one on the field")
    for name in TEXTS:
        if isinstance(text := form.get(name), str) and text.strip():
            present[name] = _hex(text.strip(), name)
    now = console.now()
    judged = await run_in_threadpool(judged_of, present, form.get(HERE) == "yes", now)
    claims, report = judged.claims, None
    if judged.result is not None:
        # The module escapes every text itself.
        report = Markup(report_html.body(judged.result, sha256={EVIDENCE: judged.sha256}))  # noqa: S704
    return console.pages.page(
        request,
        "verdict.html",
        claims=claims,
        fields=_fields(values.claims(claims)),
        meaning=MEANINGS[claims.level],
        not_kept_out=denylist.not_kept_out(claims),
        report=report,
        sha256=judged.sha256,
        now=now,
    )


def judged_of(uploads: Mapping[str, bytes], here: bool, now: datetime) -> Judged:
    """Verify evidence as ``kluis verify`` does, and appraise it as ``kluis appraise`` does.

    Args:
        uploads: bytes by name, of :data:`FILES` and :data:`TEXTS`; without ``policy``, nothing is appraised.
        here: whether to trust the root of this machine's platform, and to use its collateral.
        now: aware.

    Raises:
        KluisError: it is not authentic, one of the files is something else, or something would not be judged.
    """
    data = open_armor(uploads[EVIDENCE], EVIDENCE).data
    file = EvidenceFile.parse(data) if evidence_file.matches(data) else None
    parts = {**_parts(file), **uploads} if file else uploads
    anchors = TrustAnchors.from_pem(uploads["root"]) if "root" in uploads else trust.anchors(trust.folder())
    unwrapped = unwrap(data)
    kind = kind_of(unwrapped.inner if unwrapped else data)
    documents = [("collateral", parts["collateral"])] if "collateral" in parts else []
    if here:
        own = platform()
        if own is None:
            raise UnavailableError("platform: not running", code="no_platform", hint="kluis platform start")
        anchors |= TrustAnchors.from_pem(own.root_pem())
        documents = documents or [("collateral", own.collateral())]
    collateral = of_files(kind, documents)
    proven = verify(data, anchors=anchors, collateral=collateral, now=now)
    digest = sha256(data).hexdigest()
    if "policy" not in uploads:
        _refuse_idle([name for name in TEXTS if name in uploads])
        return Judged(proven.value, None, digest)
    policy = appraisal.loads(uploads["policy"])
    if policy.emulated_roots and not (here or "root" in uploads):
        raise UsageError(
            f"policy: trusts the root in the file {policy.emulated_roots[0][:80]!a}, which was not uploaded",
            hint="add the root, or choose to trust this machine's platform",
        )
    used = {"nonce": policy.uses_nonce, "report_data": policy.session is Session.GIVEN}
    _refuse_idle([name for name in TEXTS if name in uploads and not used[name]])
    result = appraisal.appraise(
        proven,
        policy,
        nonce=uploads.get("nonce"),
        report_data=uploads.get("report_data"),
        runtime_data=parts.get("runtime"),
        launch_configuration=parts.get("launch"),
        now=now,
    )
    return Judged(proven.value, result, digest)


def _parts(file: EvidenceFile) -> dict[str, bytes]:
    """The documents in an evidence file, by the names of :data:`FILES`."""
    parts = {"collateral": file.collateral, "runtime": file.runtime_data, "launch": file.launch_configuration}
    return {name: data for name, data in parts.items() if data is not None}


def _refuse_idle(names: list[str]) -> None:
    """Refuse what no rule uses: the user would think that it is judged."""
    if names:
        raise UsageError(
            f"{names[0]}: want a policy with a rule for it, got none: it would not be judged",
            hint="leave the field empty, or add a policy that uses it",
        )


def _hex(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{name}: want hex digits, got {text[:32]!a}") from None


async def _read(value: object, name: str) -> bytes | None:
    """The content of an uploaded file; None if its field is empty.

    Raises:
        FormatError: it is empty, or too large.
    """
    if not isinstance(value, UploadFile) or not value.filename:
        return None
    data = await value.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise FormatError(f"{name}: want at most {MAX_FILE} bytes, got more", code="too_large")
    if not data:
        raise FormatError(f"{name}: is empty", code="truncated")
    return data


def _fields(claims: Mapping[str, object]) -> list[tuple[str, str]]:
    """The claims as rows: names of nested members are joined by a period."""
    rows: list[tuple[str, str]] = []
    for name, value in claims.items():
        match value:
            case None | [] | {}:
                continue
            case dict():
                rows += [(f"{name}.{inner}", text) for inner, text in _fields(value)]
            case list():
                rows.append((name, ", ".join(map(str, value))))
            case bool():
                rows.append((name, "yes" if value else "no"))
            case _:
                rows.append((name, str(value)))
    return rows
