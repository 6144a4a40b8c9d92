"""``kluis collateral``: fetch, bundle and show the documents that vendors publish about a platform."""

from __future__ import annotations

import contextlib
import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from kluis import installing
from kluis.cli import completion, render, tls
from kluis.cli.evidence import files
from kluis.cli.parameters import Now, Output, argument, flag, option
from kluis.collateral import Cache, Cached, Times, Vendors, bundle, contents, fetch_for, release
from kluis.collateral.contents import Line
from kluis.collateral.documents import UPDATES
from kluis.collateral.fetch import Fetched
from kluis.collateral.marks import format_times, is_older
from kluis.errors import FormatError, FreshnessError, KluisError, UnavailableError, UsageError
from kluis.evidence import TrustAnchors
from kluis.formats.encoding import jcs
from kluis.formats.encoding.brief import instant
from kluis.formats.sgx.quote import NO_HARDWARE, USER_DATA

_SUPERSEDED: Final = frozenset({"tcb_info", "qe_identity", "pck_crl", "root_ca_crl", "crl"})
_UNVERIFIED: Final = "nothing above is verified: kluis verify checks it, with the evidence"


def fetch(
    evidence: Annotated[
        Path | None, argument("The evidence, a folder of configfs-tsm, or - for stdin.")
    ] = None,
    part: Annotated[
        list[str] | None, option("Or the parts of evidence, each NAME=FILE; may be repeated.", "NAME=FILE")
    ] = None,
    output: Output = None,
    update: Annotated[
        str | None,
        option(
            "Intel's release: early (the default) or standard.",
            "early|standard",
            complete=completion.words(UPDATES),
        ),
    ] = None,
    evaluation: Annotated[int | None, option("Or one TCB evaluation data number.", "N")] = None,
    pccs: Annotated[str | None, option("Use this caching service instead of Intel's (https).", "URL")] = None,
    pccs_ca: Annotated[Path | None, option("The authority of its TLS certificate (PEM).", "PEM")] = None,
    kds: Annotated[str | None, option("Use this caching service instead of AMD's (https).", "URL")] = None,
    kds_ca: Annotated[Path | None, option("The authority of its TLS certificate (PEM).", "PEM")] = None,
    offline: Annotated[bool, flag("Use only cached documents; open no connection.", "--offline")] = False,
    cache: Annotated[
        Path | None, option("Where documents are cached. [default: the user's cache]", "DIR")
    ] = None,
    root: Annotated[
        Path | None, option("Root certificate to trust instead of the shipped ones (PEM).", "PEM")
    ] = None,
    now: Now = None,
) -> None:
    """Fetch the collateral of a piece of evidence from its vendor.

    Checks that the vendor signed it.

    Documents are cached for a day (a VCEK while it is valid); --offline uses them at any age.
    """
    when = files.time(now)
    which = release(update or (None if evaluation is not None else "early"), evaluation)
    anchors = TrustAnchors.shipped() if root is None else TrustAnchors.from_pem(files.read(root))
    data = files.evidence(evidence, part or ())
    if (packed := files.parse_packed(data)) is not None:
        data = packed.evidence
    cached = Cache(cache or _folder())
    with contextlib.ExitStack() as open_services:
        behind = None if offline else _vendors(open_services, pccs, pccs_ca, kds, kds_ca)
        if data[USER_DATA].startswith(NO_HARDWARE) and pccs is None and not offline:
            raise UsageError(
                "collateral fetch: want evidence of hardware, got an emulated platform, which has no vendor",
                hint="kluis platform collateral -o FILE; of a provisioning service's: --pccs URL --root PEM",
            )
        fetched = fetch_for(data, Cached(cached, behind), release=which, anchors=anchors, now=when)
    _give(fetched, output, when)


def bundle_(
    parts: Annotated[
        list[str], argument("Files; if a file's role is not clear from its content, name it: ROLE=FILE.")
    ],
    output: Output = None,
    now: Now = None,
) -> None:
    """Bundle documents that you have, for kluis verify."""
    named: dict[str, bytes] = {}
    loose: list[bytes] = []
    for part in parts:
        role, equals, name = part.partition("=")
        if equals and role in (*bundle.INTEL, *bundle.AMD):
            if role in named:
                raise UsageError(f"parts: two are {role}")
            named[role] = files.read(Path(name))
        else:
            loose.append(_endorsing(part))
    joined = bundle.join({**bundle.recognise(loose), **named})
    if output is not None and output.exists():
        _refuse_older(output, contents.describe(joined))
    _give(joined, output, files.time(now))


def _endorsing(name: str) -> bytes:
    data = files.read(Path(name))
    try:
        bundle.roles_of(data)
    except FormatError as error:
        raise FormatError(
            f"{name}: want TCB info, an identity, a certificate or a CRL, got none ({error.message})",
            hint="leave it out, or say what it is: ROLE=FILE",
            code=error.code,
        ) from None
    return data


def show(file: Annotated[Path, argument("A bundle.")], now: Now = None) -> None:
    """Print the parts of a bundle, unverified.

    A line has the part's signer and its validity.
    """
    data = files.read(file)
    try:
        documents = bundle.parse(data)
    except FormatError as error:
        raise FormatError(
            f"{file}: is no bundle: {error.message}",
            hint=error.hint
            or f"kluis inspect {file} shows what it is; kluis collateral fetch writes a bundle",
            code=error.code,
        ) from None
    value, text = _describe_lines(contents.describe(documents), files.time(now))
    render.out(value, f"{text}\n\n{_UNVERIFIED}")


def _vendors(
    services: contextlib.ExitStack,
    pccs: str | None,
    pccs_ca: Path | None,
    kds: str | None,
    kds_ca: Path | None,
) -> Vendors:
    try:
        from kluis.collateral.amd import Kds
        from kluis.collateral.intel import Pcs
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            f"collateral fetch: want the package {missing.name}, got none",
            hint=installing.command_for("collateral"),
        ) from None
    for name, url, ca in (("pccs", pccs, pccs_ca), ("kds", kds, kds_ca)):
        if url is None and ca is not None:
            raise UsageError(f"--{name}-ca: is of no service", hint=f"name the service with --{name}")
    intel = Pcs() if pccs is None else Pcs(pccs, roots=None, trust=tls.trust(pccs_ca))
    amd = Kds() if kds is None else Kds(kds, trust=tls.trust(kds_ca))
    return Vendors(intel=services.enter_context(intel), amd=services.enter_context(amd))


def _refuse_older(path: Path, lines: tuple[Line, ...]) -> None:
    """Refuse to replace a bundle with one of older documents of the same vendors for the same platform."""
    try:
        before = {_subject(line): line for line in contents.describe(bundle.parse(files.read(path)))}
    except KluisError:  # another file: nothing older can take its place
        return
    for line in lines:
        earlier = before.get(_subject(line))
        if earlier is None or line.part not in _SUPERSEDED:
            continue
        seen, got = (Times(one.issued, one.until, one.evaluation) for one in (earlier, line))
        if is_older(got, seen):
            raise FreshnessError(
                f"{path}: {line.part}: want one issued {format_times(seen)} or later, as in the file "
                f"that would be replaced, got one issued {format_times(got)}",
                hint=f"to replace it all the same: rm {shlex.quote(str(path))}",
                code="collateral_replayed",
            )


def _subject(line: Line) -> tuple[str, str, str]:
    return line.part, line.issuer, "" if line.part.endswith("crl") else line.about


def _give(fetched: Fetched, output: Path | None, now: datetime) -> None:
    data = fetched.to_json()
    if output is None:
        render.out(jcs.loads(data, "bundle", max_size=files.MAX_FILE), data.decode())
        return
    render.save(output, data)
    value, text = _describe_lines(contents.describe(fetched), now)
    render.out({"written": str(output), **value}, f"{text}\n\nwritten: {output}")


def _describe_lines(lines: tuple[Line, ...], now: datetime) -> tuple[dict[str, object], str]:
    rows = [
        (
            line.part,
            line.issuer,
            instant(line.issued),
            instant(line.until),
            "" if line.evaluation is None else str(line.evaluation),
            _age(line, now),
            line.about,
        )
        for line in lines
    ]
    value: dict[str, object] = {
        "verified": False,
        "valid_until": instant(min(line.until for line in lines)) if lines else None,
        "parts": [
            {
                "part": line.part,
                "issuer": line.issuer,
                "issued": instant(line.issued),
                "valid_until": instant(line.until),
                "evaluation": line.evaluation,
                "age_seconds": int((now - line.issued).total_seconds()),
                "about": line.about,
            }
            for line in lines
        ],
    }
    return value, render.fit_table(
        rows, ("part", "issuer", "issued", "valid until", "number", "age", "about")
    )


def _age(line: Line, now: datetime) -> str:
    if now < line.issued:
        return "not yet valid"
    days = (now - line.issued).days
    age = f"{days} d" if days else f"{int((now - line.issued).total_seconds()) // 3600} h"
    return f"{age}, run out" if now > line.until else age


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kluis" / "collateral"


COMMANDS = (fetch, bundle_, show)
