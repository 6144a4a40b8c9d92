"""The commands that speak with a ledger's node: init, up, status, ack, propose, vote, rekey."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kluis.cli import completion, render
from kluis.cli.evidence import roots
from kluis.cli.image import protections
from kluis.cli.ledger import numbers
from kluis.cli.parameters import argument, flag, option
from kluis.cli.service.serve_options import Name
from kluis.errors import UsageError

if TYPE_CHECKING:
    from kluis.serve.ledger.governing import Governor

Url = Annotated[str, option("A node, https://host:port.", "URL", "--url", show_default=False)]
Service = Annotated[
    Path, option("The service's certificate, which you pin.", "PEM", "--service-cert", show_default=False)
]
As = Annotated[
    Path,
    option(
        "Your member's files, as kluis ledger init made them: bank1/bank1.",
        "PREFIX",
        "--as",
        show_default=False,
    ),
]
_NEW_ONLY = "Counts for a new ledger only."


def init(
    name: Annotated[str, argument("Of the member.", "NAME")],
    out: Annotated[Path | None, option("Where its files go; else a folder NAME.", "DIR")] = None,
) -> None:
    """Generate a member's keys and certificate.

    NAME_cert.pem and NAME_enc_pubk.pem are for the others.
    """
    from kluis.serve.ledger.governing import member_id
    from kluis.serve.ledger.hosting import Member

    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise UsageError(f"name: want letters, digits, - and _, at most 64, got {name[:80]!a}")
    folder = out or Path(name)
    if (folder / f"{name}_privk.pem").exists():
        raise UsageError(
            f"{folder}: has keys of {name} already",
            hint=f"--as {folder}/{name} uses them; --out DIR puts other keys into another folder",
        )
    member = Member.load_or_create(folder, datetime.now(UTC), name)
    shown = {"member": member_id(member.certificate), "folder": str(folder)}
    render.out(shown, f"member {shown['member']}\nfiles  {folder}/{name}_*.pem; keep those called privk")


def up(
    state: Annotated[Path, option("Where keys, the image and the log are kept.", "DIR")],
    member: Annotated[
        list[Path] | None,
        option(
            "A founding member's certificate, NAME_cert.pem; NAME_enc_pubk.pem next to it gives "
            f"it a recovery share. May be repeated. {_NEW_ONLY}",
            "PEM",
        ),
    ] = None,
    application: Annotated[
        Path | None, option("A folder with service.py, whose endpoints are served, too.", "DIR")
    ] = None,
    user: Annotated[
        list[str] | None,
        option(
            f"A certificate's role in Azure's API, such as Administrator; may be repeated. {_NEW_ONLY}",
            "PEM=ROLE",
        ),
    ] = None,
    threshold: Annotated[int, option(f"Recovery shares that open the ledger's secret. {_NEW_ONLY}", "N")] = 1,
    constitution: Annotated[
        Path | None, option(f"Another constitution than that of Kluis. {_NEW_ONLY}", "JS")
    ] = None,
    witness_every: Annotated[
        str,
        option("How often the platform's counter hears of the log, as 1s; 0: before each answer.", "TIME"),
    ] = "0",
    cose_only: Annotated[
        bool,
        flag(
            f"No node signs, only the service: Azure's clients then verify no receipt. {_NEW_ONLY}",
            "--cose-only",
        ),
    ] = False,
    public: Annotated[
        bool, flag(f"Anyone who has the files reads the entries. {_NEW_ONLY}", "--public")
    ] = False,
    store_key: Annotated[
        str,
        option(
            "Which images may reopen the ledger's keys: measurement (this exact image) or signer "
            "(any image signed with author.pem, so upgrades work).",
            "WHO",
            complete=completion.words(("measurement", "signer")),
        ),
    ] = "measurement",
    port: Annotated[int, option("Of the ledger; 0 takes a free one.", "N")] = 0,
    name: Name = None,
    missing: Annotated[
        list[str] | None, completion.allow_missing("Protections that this machine may do without.")
    ] = None,
) -> None:
    """Run a ledger of one node on loopback until stopped.

    A new ledger is founded by its members.

    Without --member it has one, made here, who opens it. Stop it with Ctrl-C; SIGHUP replaces the node.
    """
    from kluis.cli.service import serve_run
    from kluis.serve.plan import Plan

    settings: dict[str, Any] = {
        "recovery_threshold": threshold,
        "witness_seconds": numbers.seconds(witness_every),
        "cose_only": cose_only,
        "public": public,
    }
    if constitution is not None:
        settings["constitution"] = _text(constitution)
    founders = [_founder(path) for path in member or ()]
    if not any(state.glob("ledger/ledger_*")):
        _check_threshold(threshold, founders)
        if cose_only:
            render.note("kluis: only the service signs: receipts are COSE, and Azure's clients verify none")
    if founders:
        settings["members"] = founders
    if user:
        settings["principals"] = [_principal(one) for one in user]
    plan = Plan(
        services=("ledger",),
        state=state.absolute(),
        port=numbers.first_port(port),
        store_key=store_key,
        names=tuple(name or ()),
        insecure_allow_missing=protections.parse_protections(missing),
        given={"ledger": settings},
        ledger_application=application,
    )
    serve_run.run(plan)


def status(
    url: Url,
    service_cert: Annotated[Path | None, option("The service's certificate, which you pin.", "PEM")] = None,
    policy: Annotated[
        Path | None,
        option(
            "Believe the certificate that the enclave states over attested TLS, under this policy.", "FILE"
        ),
    ] = None,
    root: roots.Only = None,
    save: Annotated[Path | None, option("Write the service's certificate here.", "PEM")] = None,
) -> None:
    """Print a ledger's service, last commit, members and open proposals.

    A node is believed by its service's certificate, or by its enclave's evidence under a policy.
    """
    from kluis.serve.ledger.governing import Governor

    if (service_cert is None) == (policy is None):
        raise UsageError("status: want --service-cert or --policy, one of the two")
    if policy is not None:
        from kluis.host.attested import transport

        by = transport(policy, root=None if root is None else roots.one(root))
        governor = Governor(url, transport=by)
    else:
        governor = Governor(url, _pinned(service_cert) if service_cert else "")
    try:
        info, commit = governor.get("/gov/service/info"), governor.get("/app/commit")
        members = governor.get("/gov/service/members")["value"]
        proposals = governor.get("/gov/members/proposals")["value"]
    finally:
        governor.close()
    if save is not None:
        render.save(save, info["certificate"].encode())
    open_ones = [one for one in proposals if one["proposalState"] == "Open"]
    shown = {
        "status": info["status"],
        "committed": commit["transaction_id"],
        "members": members,
        "openProposals": open_ones,
    }
    lines = [f"service   {info['status']}", f"committed {commit['transaction_id']}"]
    lines += [f"member    {one['memberId']} {one['status']}" for one in members]
    lines += [f"proposal  {one['proposalId']} Open, by {one['proposerId']}" for one in open_ones]
    render.out({**shown, "certificate": info["certificate"]}, render.fold("\n".join(lines)))


def ack(url: Url, service_cert: Service, member: As) -> None:
    """Acknowledge a ledger's state, which makes you an active member."""
    with connect(url, service_cert, member) as governor:
        governor.acknowledge()
        text = render.fold(f"member {governor.member} is active")
        render.out({"member": governor.member, "status": "Active"}, text)


def propose(
    document: Annotated[str, argument('Actions, JSON: {"actions": [...]}; or the word open.', "FILE")],
    url: Url,
    service_cert: Service,
    member: As,
) -> None:
    """Submit a proposal.

    The word open proposes that the service opens for its users.
    """
    from kluis.formats.encoding import jcs

    with connect(url, service_cert, member) as governor:
        if document == "open":
            action: dict[str, jcs.Writable] = {
                "name": "transition_service_to_open",
                "args": {"next_service_identity": _pinned(service_cert)},
            }
            body = jcs.dumps({"actions": [action]})
        else:
            body = _text(Path(document)).encode()
        _show(governor.propose(body))


def vote(
    proposal: Annotated[str, argument("Of the proposal.", "ID")],
    url: Url,
    service_cert: Service,
    member: As,
    ballot: Annotated[Path | None, option("A script that votes; else in favour.", "JS")] = None,
    against: Annotated[bool, flag("Vote against it.", "--against")] = False,
) -> None:
    """Vote for a proposal, against it, or by a script of yours."""
    from kluis.serve.ledger.governing import IN_FAVOUR

    if re.fullmatch("[0-9a-f]{64}", proposal) is None:
        raise UsageError(
            f"ID: want 64 hexadecimal digits, got {proposal[:80]!a}",
            hint="kluis ledger status prints the open proposals",
        )
    if ballot is not None and against:
        raise UsageError("vote: want --ballot or --against, got both")
    script = IN_FAVOUR.replace("true", "false") if against else IN_FAVOUR
    with connect(url, service_cert, member) as governor:
        _show(governor.vote(proposal, script if ballot is None else _text(ballot)))


def rekey(url: Url, service_cert: Service, member: As) -> None:
    """Propose another ledger secret, and vote for it.

    Later entries are encrypted with it.
    """
    from kluis.serve.ledger.governing import IN_FAVOUR

    with connect(url, service_cert, member) as governor:
        proposed = governor.propose(b'{"actions":[{"name":"trigger_ledger_rekey","args":null}]}')
        if proposed["proposalState"] == "Open":
            proposed = governor.vote(proposed["proposalId"], IN_FAVOUR)
        _show(proposed)


COMMANDS = (init, up, status, ack, propose, vote, rekey)


def connect(url: str, service_cert: Path, member: Path, *, present: bool = False) -> Governor:
    """Connect to a ledger as a member.

    Args:
        url: ``https://host:port``.
        service_cert: the service's certificate, the only trusted one.
        member: prefix of the member's files.
        present: whether the connection presents the member's certificate, as a user's.

    Raises:
        UsageError: a file that is not there, or another kind of address.
    """
    from kluis.serve.ledger.governing import Governor
    from kluis.serve.ledger.hosting import Member

    _check_prefix(member)
    governor = Member.load(member.parent, member.name)
    files = tuple(member.with_name(f"{member.name}_{end}.pem") for end in ("cert", "privk"))
    presents = (files[0], files[1]) if present else None
    return Governor(url, _pinned(service_cert), governor.key, governor.certificate, presents=presents)


def _check_prefix(member: Path) -> None:
    """Refuse what is no prefix of a member's files, with the prefix that was probably meant.

    Raises:
        UsageError: there is no such private key.
    """
    if member.with_name(f"{member.name}_privk.pem").exists():
        return
    meant = [member.with_name(member.name.removesuffix(f"_{end}.pem")) for end in ("cert", "privk")]
    meant.append(member / member.name)
    for one in meant:
        if one != member and one.with_name(f"{one.name}_privk.pem").exists():
            hint = f"--as {one}"
            break
    else:
        hint = "kluis ledger init NAME makes a member's files in a folder NAME; then --as NAME/NAME"
    raise UsageError(f"--as: want files {member}_privk.pem and {member}_cert.pem, got none", hint=hint)


def _show(proposal: Any) -> None:
    ident, state = str(proposal["proposalId"]), str(proposal["proposalState"])
    render.out({"proposal": ident, "state": state}, render.fold(f"proposal {ident}\nstate    {state}"))


def _founder(path: Path) -> dict[str, str]:
    key = path.with_name(path.name.removesuffix("_cert.pem") + "_enc_pubk.pem")
    founder = {"certificate": _text(path)}
    if path.name.endswith("_cert.pem") and key.exists():
        founder["encryption_key"] = _text(key)
    return founder


def _check_threshold(threshold: int, founders: list[dict[str, str]]) -> None:
    """Refuse a new ledger whose secret its members could not open, before its image is built.

    Raises:
        UsageError: fewer members than the threshold have an encryption key.
    """
    able = sum("encryption_key" in one for one in founders) if founders else 1  # the one that is made here
    if 1 <= threshold <= able:
        return
    if not able:
        problem = f"--threshold {threshold}: no member has an encryption key, for a recovery share"
    else:
        members = "1 member has" if able == 1 else f"{able} members have"
        want = "1" if able == 1 else f"1 to {able}"
        problem = f"--threshold: want {want}, since {members} an encryption key, got {threshold}"
    raise UsageError(
        problem,
        hint="a key is NAME_enc_pubk.pem next to --member NAME_cert.pem: kluis ledger init makes both",
    )


def _principal(text: str) -> dict[str, Any]:
    from kluis.serve.ledger.governing import member_id

    path, _, role = text.rpartition("=")
    if not path or role not in ("Reader", "Contributor", "Administrator"):
        raise UsageError(f"--user: want PEM=Reader, PEM=Contributor or PEM=Administrator, got {text[:200]!a}")
    return {"id": member_id(_text(Path(path))), "roles": [role]}


def _pinned(path: Path) -> str:
    from kluis.cli.evidence.files import STDIN
    from kluis.serve.ledger.governing import PINNED

    if path != STDIN and not path.exists():
        raise UsageError(f"--service-cert: {path}: want the service's certificate, got no file", hint=PINNED)
    return _text(path)


def _text(path: Path) -> str:
    from kluis.cli.evidence import files

    try:
        return files.read_filled(path).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: want text, got other bytes") from None
