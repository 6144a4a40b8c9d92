"""Write the generated pages of the reference: commands, errors, public names.

python scripts/reference.py          write them
python scripts/reference.py --check  print which differ, and exit with 1 if any does
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
from kluis.appraisal.policy import structured, wants
from kluis.appraisal.policy.tees import TABLES
from kluis.cli import codes
from kluis.cli import main as cli
from kluis.errors import KluisError

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"

TRIED = Path(__file__).resolve().parents[1] / "tests" / "packages"

PACKAGES_HEAD = """# Packages inside an enclave

Each package was tested inside an enclave with a small computation (`tests/packages/apps/`), pip's default
wheels for CPython 3.11, and `heap = "2GiB"`. `make test-slow` checks every row.

{runs} of {all} run.

| package | version | state | test |
|---|---|---|---|
"""

PACKAGES_TAIL = """
- *runs with scratch*: set `scratch` in `kluis.toml`. Temporary files are then
  [encrypted](../concepts/image.md#scratch).
- *runs with insecure_jit*: set `grants = ["insecure_jit"]`. The package generates machine code, so the grant
  lets written memory be executed. The measurement covers the grant, and every report states it. Generated
  code is not secret.
- Callbacks from C into Python (`ctypes`, `cffi`) need no grant: up to 16,384 at a time.
- `kluis build` leaves out a `.pth` file of a wheel, because the interpreter inside never reads it. It also
  leaves out files that pip would install outside the packages. It reports both.
- A wheel that was built on one machine (its name ends in `linux_x86_64`) may need a newer C++ library than
  the base layer has. The base layer is Debian 12's for CPython 3.11, and Debian 13's for 3.13. `kluis build`
  then fails, and its error names what is missing.
"""

CLI_HEAD = """# The command line

Data goes to stdout, everything else to stderr. Every command takes `--json`. This page is the output of
`--help`: `python scripts/reference.py` writes it, and `tests/meta/test_docs.py` compares it.

| exit code | meaning |
|---|---|
| 0 | yes |
| 2 | wrong usage |
| 3 | wrong format |
| 4 | not authentic |
| 5 | not fresh: expired, not yet valid, replayed, or of another nonce |
| 6 | rejected by the policy |
| 7 | unavailable |
| 70 | a bug in Kluis |
| 130 | stopped by Ctrl-C |
| 141 | the reader of the output closed it |
"""

ERRORS_HEAD = """# Errors

The error classes form a tree, by the cause of the error. A command prints `kluis: error: ...` with the code
at the end, and `kluis: hint: ...` if there is a fix. With `--json` it prints an object of `error`, `code`,
`hint` and `exit_code`. Codes are stable; the text of an error may change. `kluis explain CODE` prints the
tables below.

| class | code | exit code | HTTP status | meaning |
|---|---|---|---|---|
"""


def help_pages() -> dict[str, str]:
    """The output of ``--help``, for the program and each command and subcommand, by its words."""
    pages = {"kluis": _help(["--help"])}
    for name in cli.COMMANDS:
        command = cli.load(name)
        pages[f"kluis {name}"] = _help([name, "--help"])
        for words in cli.below(command):
            pages[f"kluis {name} {words}"] = _help([name, *words.split(), "--help"])
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
    """Every error class of the package, each before its subclasses."""
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
        parts.append(f"\n## {heading}\n\n| code | cause | fix |\n|---|---|---|\n{said}")
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
    "kluis.enclave.models",
    "kluis.enclave.store",
    "kluis.client",
    "kluis.images",
    "kluis.host",
    "kluis.host.attested",
    "kluis.host.machines",
    "kluis.host.release",
    "kluis.host.models",
    "kluis.host.vaults",
    "kluis.evidence",
    "kluis.appraisal",
    "kluis.appraisal.tokens",
    "kluis.collateral",
    "kluis.cleanroom",
    "kluis.testing.plugin",
    "kluis.testing.services",
)


def python() -> str:
    """The page of public names, each with the first sentence of its docstring."""
    parts = [PYTHON_HEAD]
    for name in PUBLIC:
        module = importlib.import_module(name)
        opening = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        rows = "".join(f"| `{public}` | {_sentence(module, public)} |\n" for public in sorted(module.__all__))
        parts.append(f"## `{name}`\n\n{opening}\n\n| name | meaning |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _sentence(module: Any, name: str) -> str:
    value = getattr(module, name)
    if isinstance(value, GenericAlias):
        return f"A name for `{value}`."
    said = value.__doc__ or ""
    return str(said).strip().split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


POLICY_HEAD = """# Policies

A policy is a TOML file of version 2. Every key is required, and a policy without one does not load. If you
accept any value, write `"any"`. `kluis policy init` drafts a policy from evidence. Each key is a rule in the
output of `kluis appraise`. For an enclave, by image or signer, `kluis policy init` writes version 1, which
supports only SGX and has the table `[identity]` instead of the TEE's table.

Each rule belongs to one aspect of the attester. In a signed result, an aspect is affirmed if one of its rules
is met and none of its rules fails. An aspect without a rule is not claimed. `runtime-opaque` follows from the
protection level. Encrypted memory affirms it. Isolation by software is a warning. A TPM's evidence does not
describe memory. The status of a result is never better than its worst aspect.

Tables are alternatives: evidence is judged by the table of its TEE. Evidence of an Azure VM is judged by two
tables, its own and that of the hardware inside. A policy with `[azure]` does not accept that hardware's
report without the VM's evidence, because the report does not describe the operating system.

| table | keys |
|---|---|
| `[accept]` | `protection`: levels; `debug`; `denylists`: reject what a dated list names; `emulated_roots` |
| `[freshness]` | `nonce`; `max_collateral_age_days`, or any; `max_evidence_age_seconds` |
| `[tcb]` | `statuses`; `advisories`, `min_evaluation`, `min_tcb_date`, or any |
| `[binding]` | `report_data`: hex, `"given"`, `"nonce"` or any; or `purpose`, for a Kluis enclave |
| `[launch]` | with a purpose: `missing`, `counters`, `insecure` |
| the TEE's table | see below; at least one |
| `[machine]`, `[machine.TEE]` | see below; for an enclave in a machine whose TEE endorses it; optional |
| `[[releases.TEE]]` | `name`, and `measurements`, `registers` of one release; optional |

Reference values of several releases (`kluis appraise --reference`) are not mixed: evidence must match one
release completely (rule `release`). A policy with these values has a table `[[releases.TEE]]` for each
release. A policy without releases keeps its id, and the names of releases do not change an id.
"""
MACHINE = """## `[machine]`

For an enclave in a machine, whose TEE endorses the root of the platform inside. A policy of either version
may have this table. A policy with it accepts no enclave outside of a machine, and a policy without it accepts
none inside. `[machine.TEE]` has the keys of the TEE's table above, for the machine's evidence: one or more of
`[machine.snp]`, `[machine.tdx]`, `[machine.azure]`, `[machine.nitro]` and `[machine.tpm]`. In the output of
`kluis appraise` its rules begin with `machine_`, such as `machine_measurement`. `[accept]` judges the level
of the machine, and debug of both. `[tcb]` judges the enclave, and also the machine if its vendor publishes a
judgement.

| key | form | rule | aspect | meaning |
|---|---|---|---|---|
| `any_guest` | true or false | none | none | whether the machine's operator may choose its guest |
| `only` | list of hex | `machine_only` | configuration | image ids of machines that run one image |
| `guest_releases` | list of names | `machine_guest_release` | executables | as the guest states its release |
| `levels` | list of levels | `machine_level` | configuration | of the platform inside |
| `missing` | list of names | `machine_missing` | configuration | protections that may be missing |
| `max_collateral_age_days` | maximum | `machine_collateral_age` | hardware | of the machine's collateral |

The guest is the kernel of the machine and everything that runs in it next to the enclave. It can read the
enclave's memory. A guest extends some registers itself, to the values of any other guest. So a policy must
have these keys:

| table | what identifies the guest |
|---|---|
| `[machine.snp]` | `measurements`, if the firmware checks the kernel's hash |
| `[machine.nitro]` | `measurements` |
| `[machine.tdx]` | `measurements`, for the firmware, and `registers` with `rtmr0`, `rtmr1` and `rtmr2` |
| `[machine.azure]` | `registers` as for a TPM, and for the paravisor `measurements` of the hardware's table |
| `[machine.tpm]` | `registers` with `pcr4`, `pcr9` and `pcr12` |

Otherwise the policy must state `any_guest = true`, and each result has a warning. Under Azure, `signers` or
`author_keys` of SNP may identify the paravisor in place of its measurement.

A launch digest of SNP contains the kernel only if the firmware checks its hash, and no report states that.
So a draft from hardware's evidence has `any_guest = true` next to the digest. Set it to false if
`kluis vm guest measure --boot direct --firmware FILE` prints this digest. The emulated processor's digest
always contains the kernel.
"""
FORMS: dict[type[wants.Stated], str] = {
    wants.OneOf: "list of hex",
    wants.Exactly: "number",
    wants.AtMost: "maximum, in seconds",
    wants.Allowed: "true accepts it",
    wants.Required: "true requires it",
    structured.Masked: "`{ mask, value }` in hex",
    structured.Registers: "registers, each a list of hex",
    structured.Components: "by product, minimum versions of its parts",
}


def _form(form: wants.Form) -> str:
    """How a policy states a requirement, in words."""
    if form.want is wants.Named:
        return "list of names" if form.most is None else "list of numbers"
    if form.want is wants.AtLeast:
        return "minimum version, as text" if form.parts else "minimum"
    return FORMS[form.want]


def policy() -> str:
    """The page of policies: every key of every TEE's table."""
    parts = [POLICY_HEAD]
    for tee, fields in TABLES.items():
        rows = "".join(
            f"| `{each.key}` | {_form(each.form)} | `{each.rule}` | {each.aspect} | {each.about} |\n"
            for each in fields
        )
        parts.append(
            f"## `[{tee}]`\n\n| key | form | rule | aspect | meaning |\n|---|---|---|---|---|\n{rows}"
        )
    parts.append(MACHINE)
    return "\n".join(parts)


class Package(msgspec.Struct, forbid_unknown_fields=True):
    """One row: what the package needs, and what its test computes."""

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
    """The packages that were tested inside, in the order of the list."""
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
    """The pages that differ from the generated ones."""
    return [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text() != page()
    ]


if __name__ == "__main__":
    if "--check" in sys.argv:
        stale = differing()
        sys.exit(f"docs/reference: want the program's output, got stale {', '.join(stale)}" if stale else 0)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
        print(f"docs/reference/{name}")
