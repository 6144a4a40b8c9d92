"""``kluis policy check``, and the cases of ``kluis policy test``, for a policy of ``kluis appraise``.

Cases are TOML: each ``[[case]]`` names an evidence file and the verdict that the policy must give it.

    [[case]]
    name = "release 4.2"                # required
    evidence = "hello.evidence"         # required; paths are relative to the file of the cases
    verdict = "affirming"               # or warning, contraindicated, refused; required
    failed = ["measurement"]            # the rules that must fail, and no other
    code = "root_untrusted"             # of the error, if it must be refused
    nonce = "9f02aa77"                  # hex, as is report_data
    now = "2026-06-01T12:00:00Z"        # judged as of then
    roots = ["root.pem"]                # instead of the vendors' and the trust store's
    root_level = "vtpm"
    collateral = ["collateral.json"]
    event_log = "log.bin"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from kluis.appraisal import ByTable, Policy, ReportDataBinding, Verdict
from kluis.appraisal.policy.guests import NEEDED, open_keys
from kluis.appraisal.policy.wants import Any as AnyValue
from kluis.appraisal.rules.appraise import CODE_KEYS
from kluis.cli import render
from kluis.cli.evidence import files, roots, verify
from kluis.cli.parameters import argument
from kluis.errors import FormatError, KluisError, PolicyError, UsageError, unknown
from kluis.evidence import ProtectionLevel, TcbStatus
from kluis.evidence.levels import MEANINGS
from kluis.formats.encoding import toml

REFUSED: Final = "refused"
_VERDICTS: Final = (*(str(each) for each in Verdict), REFUSED)
_KINDS: Final[Mapping[str, type]] = {
    "name": str, "evidence": str, "verdict": str, "failed": list, "code": str, "nonce": str,
    "report_data": str, "now": str, "roots": list, "root_level": str, "collateral": list, "event_log": str,
}  # fmt: skip
_REQUIRED: Final = ("name", "evidence", "verdict")
_WORDS: Final = {str: "text", dict: "a table", bool: "true or false", int: "an integer", list: "a list"}
MOST_CASES: Final = 1000


def check(policy: Annotated[Path, argument("The policy (TOML), or - for stdin.")]) -> None:
    """Check that a policy of kluis appraise loads.

    Prints what it accepts that a reader should know.

    For example: kluis policy check policy.toml
    """
    read = files.policy(policy)
    for name in read.emulated_roots:
        roots.read(policy.parent / name)
    notes = list(_notes(read))
    shown = {
        "accepts": ", ".join(sorted(read.protection)),
        "of": ", ".join(sorted(read.tees)),
        "roots": ", ".join(read.emulated_roots) or "the vendors' and those of the trust store",
    }
    lines = [render.table(list(shown.items())), *(f"note  {note}" for note in notes)]
    render.out(
        {
            "protection": sorted(read.protection),
            "tees": sorted(read.tees),
            "emulated_roots": list(read.emulated_roots),
            "notes": notes,
        },
        render.fold("\n".join([*lines, f"{policy}: loads"])),
    )


def _notes(policy: Policy) -> Iterator[str]:
    """What a policy accepts that weakens it."""
    if policy.debug:
        yield "debug = true: the host of the enclave reads its memory"
    for level in sorted(policy.protection):
        if not level.hardware and level is not ProtectionLevel.NONE:
            yield f"protection: {level} is accepted, with keys made by {MEANINGS[level].keys}"
    if not policy.denylists:
        yield "no denylists: platforms that are known to be broken are accepted"
    stale = sorted(policy.tcb_statuses - {TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED})
    if stale:
        yield f"statuses: platforms of {', '.join(stale)} are accepted"
    if isinstance(policy.max_collateral_age, AnyValue):
        yield "max_collateral_age_days: collateral of any age is accepted, so a revocation may be missed"
    binding = policy.binding
    if isinstance(binding, ReportDataBinding):
        if isinstance(binding.report_data, AnyValue) and not binding.nonce:
            yield "binding: neither a nonce nor report data is required: old evidence is accepted"
    elif not binding.nonce:
        yield "freshness.nonce = false: old evidence is accepted"
    if isinstance(policy.identity, ByTable):
        for tee, wants in sorted(policy.identity.tables.items()):
            code = [want for key, want in wants.items() if key in CODE_KEYS]
            if code and all(isinstance(want, AnyValue) for want in code):
                yield f"[{tee}]: any code is accepted"
            elif tee in NEEDED and tee in policy.identity.whole:
                for each in open_keys(policy.identity.tables, tee):
                    named = ", ".join(each.lacks) or "any"
                    yield f"[{each.tee}] {each.key}: {named}: the machine's operator can choose the guest"
    if policy.machine is not None and policy.machine.any_guest:
        yield "machine.any_guest = true: the operator of the machine chooses its kernel, which reads all"


def run(policy: Path, data: bytes, cases: Path, now: str | None) -> int:
    """Judge the evidence of each case under a policy of kluis appraise, and compare the verdicts.

    Args:
        policy: its path, for its roots and for messages.
        data: its text.
        cases: a file of cases, or a folder of such files.
        now: the time of cases that state none; None is the current time.

    Returns:
        The exit code: 0 if each verdict is the expected one.
    """
    wanted = files.policy_of(policy, data)
    return report(
        (case["name"], _judge_case(policy, wanted, file.parent, case, now))
        for file, case in tables(cases, _KINDS, _REQUIRED)
    )


def report(judged: Iterable[tuple[str, str]]) -> int:
    """Print the names of cases, each with what is wrong with it or an empty text; return the exit code."""
    results = [{"name": name, "ok": not why, "why": why} for name, why in judged]
    wrong = sum(not each["ok"] for each in results)
    lines = [
        f"FAIL  {each['name']}: {each['why']}" if each["why"] else f"ok    {each['name']}" for each in results
    ]
    lines.append(f"{len(results) - wrong} of {len(results)} as they should be")
    render.out({"cases": results, "wrong": wrong}, render.fold("\n".join(lines)))
    return PolicyError.exit_code if wrong else 0


def _judge_case(path: Path, policy: Policy, folder: Path, case: dict[str, Any], now: str | None) -> str:
    """What is wrong with a case; empty if nothing is."""
    name, want = case["name"], case["verdict"]
    if want not in _VERDICTS:
        raise unknown(f"case {name!a:.80}: verdict", want, _VERDICTS)
    if ("failed" in case and want == REFUSED) or ("code" in case and want != REFUSED):
        raise UsageError(f"case {name!a:.80}: want failed for a verdict, and code if it must be refused")
    try:
        when = files.time(case.get("now", now))
        emulated = [path.parent / each for each in policy.emulated_roots]
        trusted = roots.anchors(_paths(case, "roots", folder), case.get("root_level"), emulated)
        nonce, report_data = (
            files.from_hex(case[key], key) if key in case else None for key in ("nonce", "report_data")
        )
        log = folder / case["event_log"] if "event_log" in case else None
        evidence = folder / case["evidence"]
        checked = verify.verify_evidence(evidence, (), log, trusted, _paths(case, "collateral", folder), when)
        result = verify.judge_evidence(
            checked, policy, evidence, nonce=nonce, report_data=report_data, when=when
        )
    except UsageError as error:
        raise UsageError(f"case {name!a:.80}: {error.message}", hint=error.hint) from None
    except KluisError as error:
        if want == REFUSED and case.get("code", error.code) == error.code:
            return ""
        wanted = f"{want} with code {case['code']}" if "code" in case else want
        return f"want {wanted}, got {error.code}: {error.message}"
    got, failed = str(result.verdict), sorted({rule.name for rule in result.failed})
    if got != want:
        return f"want {want}, got {got}" + (f" ({', '.join(failed)})" if failed else "")
    if "failed" in case and failed != sorted(set(map(str, case["failed"]))):
        return (
            f"want failed {', '.join(map(str, case['failed'])) or 'none'}, got {', '.join(failed) or 'none'}"
        )
    return ""


def _paths(case: dict[str, Any], key: str, folder: Path) -> list[Path]:
    named = case.get(key, [])
    if not all(isinstance(each, str) for each in named):
        raise UsageError(f"{key}: want a list of files")
    return [folder / each for each in named]


def tables(
    path: Path, kinds: Mapping[str, type], required: tuple[str, ...]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each ``[[case]]`` of a file, or of every ``.toml`` file of a folder, with its file.

    Args:
        path: of the file or the folder; ``-`` is standard input.
        kinds: the type of each key.
        required: the keys that a case must have.

    Raises:
        FormatError: there is no case, more than 1000, or a key is missing, unknown or of another type.
    """
    named = sorted(path.glob("*.toml")) if path != files.STDIN and path.is_dir() else [path]
    if not named:
        raise FormatError(f"{path}: want a folder with files of cases (.toml), got none", code="policy_cases")
    count = 0
    for file in named:
        cases = toml.loads(files.read(file), str(file)).get("case")
        if not isinstance(cases, list) or not cases:
            raise FormatError(f"{file}: want at least one [[case]]", code="policy_cases")
        count += len(cases)
        if count > MOST_CASES:
            raise FormatError(f"{path}: want at most {MOST_CASES} cases, got more", code="policy_cases")
        for index, case in enumerate(cases, 1):
            _check_case(case, f"{file}: case {index}", kinds, required)
            yield file, case


def _check_case(case: Any, what: str, kinds: Mapping[str, type], required: tuple[str, ...]) -> None:
    if not isinstance(case, dict):
        raise FormatError(f"{what}: want a table", code="policy_cases")
    for key in required:
        if key not in case:
            raise FormatError(f"{what}: {key} is not stated", code="policy_cases")
    for key, value in case.items():
        kind = kinds.get(key)
        if kind is None:
            raise FormatError(f"{what}: {key!a:.80} is not a key of a case", code="policy_cases")
        if not isinstance(value, kind):
            problem = f"{key}: want {_WORDS[kind]}, got {_WORDS.get(type(value), 'another value')}"
            raise FormatError(f"{what}: {problem}", code="policy_cases")
