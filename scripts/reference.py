"""Writes the pages of the reference that the program itself knows: commands, errors, public names.

python scripts/reference.py          write them
python scripts/reference.py --check  say which differ, and exit with 1 if any does
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import pkgutil
import sys
import tomllib
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec

import kluis
from kluis.appraisal.policy import forms
from kluis.appraisal.policy.tees import TABLES
from kluis.cli import codes
from kluis.cli import main as cli
from kluis.errors import KluisError

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"

TRIED = Path(__file__).resolve().parents[1] / "tests" / "packages"

PACKAGES_HEAD = """# Packages inside an enclave

Popular packages, each tried inside by a small computation (`tests/packages/apps/`) with pip's default wheels
for CPython 3.11 and `heap = "2GiB"`. `make test-slow` holds every row to the list behind this page.

{runs} of {all} run.

| package | version | state | what was computed |
|---|---|---|---|
"""

PACKAGES_TAIL = """
- *runs with scratch*: set `scratch` in `kluis.toml`. Temporary files are then
  [encrypted](../concepts/image.md#scratch).
- *runs with insecure_jit*: set `grants = ["insecure_jit"]`. The package generates machine code: memory that
  was written may be run. The grant is measured, and every report states it. Generated code is not secret.
- Callbacks from C into Python (`ctypes`, `cffi`) need no grant: up to 16,384 at once.
- A `.pth` file of a wheel is left out, because the interpreter inside never reads one. So are files that
  pip would install outside the packages. `kluis build` reports both.
- A wheel that was built on one machine (its name ends in `linux_x86_64`) may need a newer C++ library than
  the base layer has: Debian 12's for CPython 3.11, Debian 13's for 3.13. `kluis build` then fails, and its
  error names what is missing.
"""

CLI_HEAD = """# The command line

Data goes to stdout, everything else to stderr; `--json` works everywhere. Exit codes: 0 yes, 2 usage,
3 format, 4 not authentic, 5 stale, 6 policy says no, 7 unavailable, 70 our bug, 130 stopped by Ctrl-C,
141 nobody reads the output any more. This page is what `--help`
prints (`python scripts/reference.py` writes it, `tests/meta/test_docs.py` compares it).
"""

ERRORS_HEAD = """# Errors

One tree, by whose fault it is. A command prints `kluis: error: ...` and, where something mends it,
`kluis: hint: ...`, and ends with the code; with `--json` it prints an object of `error`, `code`, `hint` and
`exit_code`. The code is stable; the sentence is not. `kluis explain CODE` says what is in the tables below.

| class | code | exit code | HTTP status | what it means |
|---|---|---|---|---|
"""


def help_pages() -> dict[str, str]:
    """What ``--help`` prints, for the program and each command and subcommand, by its words."""
    pages = {"kluis": _help(["--help"])}
    for name in cli.COMMANDS:
        command = cli.load(name)
        pages[f"kluis {name}"] = _help([name, "--help"])
        for sub in getattr(command, "commands", {}):
            pages[f"kluis {name} {sub}"] = _help([name, sub, "--help"])
    return pages


def _help(argv: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        cli.run(argv)
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


def command_line() -> str:
    """The page of commands."""
    parts = [CLI_HEAD]
    for words, said in help_pages().items():
        parts.append(f"## `{words}`\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


def error_classes() -> list[type[KluisError]]:
    """Every error class of the package, a kind before its finer ones."""
    for module in pkgutil.walk_packages(kluis.__path__, "kluis."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("kluis"):
                raise
    return _below(KluisError)


def _below(kind: type[KluisError]) -> list[type[KluisError]]:
    found = [kind]
    for one in sorted(kind.__subclasses__(), key=lambda each: (each.exit_code, each.__name__)):
        found += _below(one)
    return found


def errors() -> str:
    """The page of errors."""
    rows = []
    for one in error_classes():
        meaning = (one.__doc__ or "").strip().splitlines()[0]
        rows.append(
            f"| `{one.__name__}` | `{one.code}` | {one.exit_code} | {one.http_status} | {meaning} |\n"
        )
    parts = [ERRORS_HEAD + "".join(rows)]
    for group, meaning in codes.GROUPS.items():
        entries = [entry for entry in codes.entries().values() if entry.group == group]
        said = "".join(f"| `{e.code}` | {e.cause} | {e.fix} |\n" for e in entries)
        heading = f"{meaning[:1].upper()}{meaning[1:]}"
        parts.append(f"\n## {heading}\n\n| code | cause | what mends it |\n|---|---|---|\n{said}")
    return "".join(parts)


PYTHON_HEAD = """# Python

The public modules and their names. Everything else may change in any version. Every error is a
`kluis.errors.KluisError`. `kluis.evidence` and `kluis.appraisal` load only the standard library and
`cryptography`.
"""
PUBLIC = (
    "kluis.errors",
    "kluis.enclave",
    "kluis.enclave.asgi",
    "kluis.enclave.store",
    "kluis.images",
    "kluis.host",
    "kluis.host.attested",
    "kluis.host.vaults",
    "kluis.evidence",
    "kluis.appraisal",
    "kluis.appraisal.tokens",
    "kluis.collateral",
    "kluis.cleanroom",
    "kluis.testing.plugin",
)


def python() -> str:
    """The page of public names, each with the first sentence of its docstring."""
    parts = [PYTHON_HEAD]
    for name in PUBLIC:
        module = importlib.import_module(name)
        opening = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        rows = "".join(f"| `{public}` | {_sentence(module, public)} |\n" for public in sorted(module.__all__))
        parts.append(f"## `{name}`\n\n{opening}\n\n| name | what it is |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _sentence(module: Any, name: str) -> str:
    value = getattr(module, name)
    if isinstance(value, GenericAlias):
        return f"A name for `{value}`."
    said = value.__doc__ or ""
    return str(said).strip().split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


POLICY_HEAD = """# Policies

A policy is a TOML file of version 2. Every key must stand there: what is not stated is not assumed, and a
policy that leaves one out does not load. Where anything is accepted, it says `"any"`. `kluis policy init`
drafts one from evidence; each key is a rule that `kluis appraise` tells. For an enclave, by image or signer,
it writes version 1, which is of SGX alone and has `[identity]` for a table of the TEE's.

A rule speaks of one aspect of the attester. In a signed result, an aspect is affirmed if a rule that wants
something of it is met and none fails; what no rule asks about is not claimed. `runtime-opaque` follows from
the protection level: encrypted memory affirms it, isolation by software is a warning, and nothing is known of
memory from a TPM. The status of a result is never better than the worst aspect.

Tables are alternatives: evidence is judged by the table of its own TEE. An Azure VM's is judged by two, its
own and that of the hardware within; hardware that `[azure]` names is not accepted bare, since its report
says nothing of the operating system.

| table | keys |
|---|---|
| `[accept]` | `protection`: levels; `debug`; `denylists`: refuse what a dated list names; `emulated_roots` |
| `[freshness]` | `nonce`; `max_collateral_age_days`, or any; `max_evidence_age_seconds` |
| `[tcb]` | `statuses`; `advisories`, `min_evaluation`, `min_tcb_date`, or any |
| `[binding]` | `report_data`: hex, `"given"`, `"nonce"` or any; or `purpose`, for a Kluis enclave |
| `[launch]` | with a purpose: `missing`, `counters`, `insecure` |
| a TEE's own | below; at least one |
| `[[releases.TEE]]` | `name`, and `measurements`, `registers` as one release has them; may be left out |

Reference values of several releases (`kluis appraise --reference`) are good together: evidence must fit one
release whole (rule `release`). A policy that is written with them says so in `[[releases.TEE]]`, a table a
release. They change no id of a policy that has none, and their names change no id.
"""
FORMS = {
    forms.Hexes: "list of hex",
    forms.Names: "list of names",
    forms.Numbers: "list of numbers",
    forms.Number: "number",
    forms.Least: "least number",
    forms.Most: "most, in seconds",
    forms.LeastVersion: "least version, as text",
    forms.Allow: "true accepts it",
    forms.Require: "true wants it",
    forms.Bits: "`{ mask, value }` in hex",
    forms.RegisterValues: "registers, each a list of hex",
    forms.LeastComponents: "by product, least versions of its parts",
}


def policy() -> str:
    """The page of policies: every key of every TEE's table."""
    parts = [POLICY_HEAD]
    for tee, fields in TABLES.items():
        rows = "".join(
            f"| `{each.key}` | {FORMS[type(each.form)]} | `{each.rule}` | {each.aspect} | {each.about} |\n"
            for each in fields
        )
        parts.append(
            f"## `[{tee}]`\n\n| key | form | rule | aspect | what it is |\n|---|---|---|---|---|\n{rows}"
        )
    return "\n".join(parts)


class Package(msgspec.Struct, forbid_unknown_fields=True):
    """One row: what is required beside the package itself, and what it then gives."""

    version: str
    also: list[str] = []
    grants: list[str] = []
    scratch: str = ""
    gives: str = ""
    fails: str = ""
    why: str = ""

    @property
    def state(self) -> str:
        """The state in words."""
        if self.fails:
            return f"does not run: {self.why}"
        needs = [*(["scratch"] if self.scratch else []), *self.grants]
        state = f"runs with {' and '.join(needs)}" if needs else "runs"
        return f"{state}: {self.why}" if self.why else state


def tried_packages() -> dict[str, Package]:
    """The packages that were tried inside, in the order of the list."""
    return msgspec.convert(tomllib.loads((TRIED / "packages.toml").read_text()), dict[str, Package])


def packages() -> str:
    """The page of packages that run inside."""
    tried = tried_packages()
    text = PACKAGES_HEAD.format(runs=sum(not one.fails for one in tried.values()), all=len(tried))
    for name, one in sorted(tried.items()):
        what = ast.get_docstring(ast.parse((TRIED / "apps" / f"{name}.py").read_text()))
        text += f"| {name} | {one.version} | {one.state} | {what} |\n"
    return text + PACKAGES_TAIL


PAGES: dict[str, Any] = {
    "cli.md": command_line,
    "errors.md": errors,
    "python.md": python,
    "policy.md": policy,
    "packages.md": packages,
}


def differing() -> list[str]:
    """The pages that are not what the program says."""
    return [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text() != page()
    ]


if __name__ == "__main__":
    if "--check" in sys.argv:
        stale = differing()
        sys.exit(f"docs/reference: want what the program says, got stale {', '.join(stale)}" if stale else 0)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
        print(f"docs/reference/{name}")
