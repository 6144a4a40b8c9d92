"""The command line's entry point: lists every command, and loads only the one that runs.

Help comes from the table below without importing a command's module; ``tests/meta`` checks that the two are
equal. Exit codes: 0 yes, 2 usage, 3 format, 4 not authentic, 5 stale, 6 rejected by policy, 7 unavailable, 70
our bug, 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import copy
import difflib
import errno
import functools
import importlib
import os
import re
import select
import sys
import traceback
from typing import Annotated, Any, NamedTuple

import typer
import typer.core
import typer.main

import kluis
from kluis.cli import conversion, render
from kluis.errors import InternalError, KluisError, UnavailableError, UsageError

# Depending on its version, Typer contains its parser or depends on it; the exceptions are found through a
# public one.
_parser_errors: Any = importlib.import_module(typer.BadParameter.__module__)


class Entry(NamedTuple):
    """One command: its module, the extra that the module needs, and its line in the help.

    The module has ``COMMANDS`` if it is a group, else a function of the command's name.
    """

    module: str
    extra: str | None
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Start": {
        "doctor": Entry("machine.doctor", None, "Test what this machine protects, and show how to fix gaps."),
        "demo": Entry("demo.demo", "demo", "Run a clean room on real patients, then attack it."),
        "new": Entry("project.new", None, "Write a new project from a template."),
        "explain": Entry("explain", None, "Explain an error code or a word of a verdict."),
    },
    "Write an enclave, and run it": {
        "dev": Entry(
            "project.dev", "enclave", "Run a project as a rehearsal, and restart it on each change."
        ),
        "build": Entry("image.images", "enclave", "Build a folder into a signed image."),
        "run": Entry("image.run", "enclave", "Start an image and make one call."),
        "attest": Entry("image.run", "enclave", "Start an image and save its evidence."),
        "stubs": Entry("project.stubs", None, "Write an image's ecalls as Python types."),
        "serve-app": Entry("project.serve_app", "enclave", "Serve an image's ASGI application."),
        "model": Entry("model.model", "enclave", "Seal a model's weights; unlock them inside an enclave."),
    },
    "Compare and sign images": {
        "measure": Entry("image.images", "enclave", "Print the measurement of an image."),
        "rebuild": Entry("image.images", "enclave", "Rebuild an image from source, and compare the ids."),
        "diff": Entry("image.images", "enclave", "List the differences between two images."),
        "sign": Entry("image.images", "enclave", "Sign an image."),
    },
    "Verify what others run": {
        "inspect": Entry(
            "evidence.inspect", None, "Print the contents of evidence or related files, unverified."
        ),
        "verify": Entry("evidence.verify", None, "Check that evidence is authentic."),
        "appraise": Entry("evidence.verify", None, "Check that evidence is authentic and meets a policy."),
        "policy": Entry("evidence.policy", None, "Write, check and test policies."),
        "trust": Entry("trust", None, "Add and remove roots that you trust in addition to the vendors'."),
        "collateral": Entry("evidence.collateral", None, "Fetch, bundle and show the vendors' collateral."),
        "token": Entry("evidence.token", None, "Verify an attestation service's token, offline."),
        "connect": Entry("connect.connect", "enclave", "Forward local HTTP to a verified enclave."),
    },
    "Compute and keep records with others": {
        "room": Entry("room.room", "rooms", "Compute on the data of several owners in a clean room."),
        "ledger": Entry(
            "ledger.ledger", "services", "Run a confidential ledger, govern it, and check its entries."
        ),
    },
    "Run a local cloud, for development": {
        "up": Entry("cloud.up", "services", "Start a local cloud: the services in enclaves of this machine."),
        "wait": Entry("cloud.watch", None, "Wait until every service of the local cloud serves."),
        "status": Entry("cloud.watch", None, "List the services of the local cloud."),
        "logs": Entry("cloud.watch", None, "Print the log of the local cloud."),
        "down": Entry("cloud.watch", None, "Stop the local cloud."),
        "env": Entry("cloud.environment", None, "Print the environment variables for the local cloud."),
        "az": Entry("cloud.az", None, "Run Azure's command line against the local cloud."),
    },
    "Run this machine and the services": {
        "platform": Entry(
            "machine.platform", "enclave", "Manage this machine's platform, the local root of trust."
        ),
        "vm": Entry("vm.app", "enclave", "Run confidential virtual machines, and build their guest."),
        "console": Entry("console", "console", "Show this machine, evidence and rooms in a browser."),
        "serve": Entry("service.serve", "services", "Run the services, each in an enclave."),
        "vault": Entry("service.vault", "enclave", "Identify a vault; approve a change of what it trusts."),
        "units": Entry("machine.units", None, "Write units of systemd for the platform and the services."),
    },
}
"""The commands in the order of the help, by what a user wants to do."""

COMMANDS: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

# Of commands whose arguments may begin like options.
CONTEXTS: dict[str, dict[str, Any]] = {
    "run": {"ignore_unknown_options": True},
    "dev": {"ignore_unknown_options": True},
    "az": {"ignore_unknown_options": True, "allow_interspersed_args": False},
}
# Packages that single options need, and the extras that have them.
OPTIONS_EXTRAS = {"opentelemetry": "otel", "prometheus_client": "services"}
# Exit code after Ctrl-C, as in shells: 128 plus the signal's number.
_NO_CHOICE = re.compile(
    r"Invalid value for '(?P<option>[\w-]+)': (?:Value error, )?(?P<got>'[^'\n]{0,64}') is not one of"
    r" (?P<choices>'[\w-]+'(?:, '[\w-]+')*)"
)

STOPPED = 130
# Likewise for SIGPIPE, if the reader closed the pipe (``| head``), like cat and grep. Not 0: that means yes,
# and `set -o pipefail` must not count unread output as a yes. The signal itself is not used: with its default
# action it would kill us at a write to any closed socket or enclave channel, without cleanup.
UNREAD = 141
# Errors that any write may meet, wherever it is: caused by the machine, not by a bug.
MACHINES = {
    errno.ENOSPC: "free some space, or name a folder on another disk: df -h shows which is full",
    errno.EDQUOT: "free some space, or name a folder on another disk: quota shows your limit",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a file or folder that you may use, or run as the user who may",
    errno.ENAMETOOLONG: "name a file or folder by a shorter name",
    errno.EMFILE: "ulimit -n 4096",
    errno.EIO: "dmesg shows the disk's error",
}


def load(name: str) -> Any:
    """Import the module of a command, and return the command; needs no package of an extra."""
    from kluis.cli.parameters import group  # the program's own help does without

    entry, function = COMMANDS[name], name.replace("-", "_")
    module = importlib.import_module(f"kluis.cli.{entry.module}")
    room = typer.Typer(rich_markup_mode=None, add_completion=False)
    if hasattr(module, "COMMANDS"):
        room.add_typer(group(name, entry.help, module.COMMANDS))
    else:  # with an underscore, it does not hide a module of that name
        work = getattr(module, f"{function}_", None) or getattr(module, function)
        room.command(name, context_settings=CONTEXTS.get(name))(work)
    command = typer.main.get_group(room).commands[name]
    option = next(each for each in _program().params if each.name == "json")
    for each in (command, *below(command).values()):
        each.params.append(copy.copy(option))
        each.params[-1].expose_value = False
    for each in below(command).values():  # in their group's help, a whole sentence
        each.short_help = " ".join((each.help or "").split("\n\n")[0].split())
    for each in (command, *below(command).values()):
        for parameter in each.params:  # Typer adds the Python type to each argument's name
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None
        conversion.spare_pydantic(each)
    return command


def below(command: Any) -> dict[str, Any]:
    """Every command of a group and of the groups in it, by its words after the group's."""
    commands: dict[str, Any] = {}
    for name, each in getattr(command, "commands", {}).items():
        commands[name] = each
        commands |= {f"{name} {words}": inner for words, inner in below(each).items()}
    return commands


class _Rooms(typer.core.TyperGroup):
    """Lists every command from the table; imports one only to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One section for each thing that a user wants to do; one line for each command."""
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return typer.core.TyperCommand(cmd_name, help=COMMANDS[cmd_name].help, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stub, rest = super().resolve_command(ctx, args)
        return (name, load(name) if name in COMMANDS else stub, rest)


app = typer.Typer(
    cls=_Rooms, name="kluis", rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
)


@functools.cache
def _program() -> Any:
    """The program's own command, which is built once in a process that runs several command lines."""
    command = typer.main.get_command(app)
    conversion.spare_pydantic(command)
    return command


def _version(value: bool) -> None:
    if value:
        render.out({"version": kluis.__version__}, f"kluis {kluis.__version__}")
        raise typer.Exit


@app.callback()
def _kluis(
    json: render.Json = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Confidential computing in Python, from the enclave to the clean room."""


def run(argv: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code.
    """
    render.reset()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Both point nowhere from here, so that the interpreter's last flush is quiet.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return UNREAD
    return code


def _run(argv: list[str]) -> int:
    """Run one command line, and report its error.

    Raises:
        BrokenPipeError: the reader of our output or error output is gone.
    """
    try:
        try:
            result = _program().main(args=argv, prog_name="kluis", standalone_mode=False)
        except SystemExit as ended:  # Typer's answer to any broken pipe is to exit with 1
            if isinstance(ended.__context__, BrokenPipeError):
                raise ended.__context__ from None
            raise
        if result == STOPPED:  # Typer turns Ctrl-C into an exit code, and prints nothing
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except KluisError as fault:
        return render.error(fault)
    except _parser_errors.NoArgsIsHelpError as help_error:
        render.note(help_error.ctx.get_help())
        return 2
    except _parser_errors.ClickException as fault:
        where = getattr(getattr(fault, "ctx", None), "command_path", "kluis")
        message = fault.format_message().rstrip(".")
        hint = _suggest(message) or f"{where} --help"
        return render.error(UsageError(_say(where, message), hint=hint))
    except typer.Exit as end:
        return int(end.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        shown = "\n" if sys.stderr.isatty() else ""  # a terminal shows ^C where its line stood
        render.note(f"{shown}kluis: stopped")
        return STOPPED
    except Exception as bug:  # the last line of defence: any other exception is our bug
        if isinstance(bug, BrokenPipeError) and _unread():
            raise
        if os.environ.get("KLUIS_TRACEBACK"):
            traceback.print_exc()
        if lack := lacking(argv, bug):
            return render.error(lack)
        if isinstance(bug, OSError) and bug.errno in MACHINES:
            where = f"{bug.filename}: " if bug.filename else ""
            return render.error(UnavailableError(f"{where}{bug.strerror}", hint=MACHINES[bug.errno]))
        return render.error(
            InternalError(
                f"{type(bug).__name__}: {bug}",
                hint="this is a bug in Kluis; run again with KLUIS_TRACEBACK=1 and report what it prints",
            )
        )


def lacking(argv: list[str], bug: BaseException) -> UnavailableError | None:
    """The extra that a command needs if a package of it is missing."""
    name = next((word for word in argv if word in COMMANDS), "")
    extra = COMMANDS[name].extra if name else None
    if extra is None or not isinstance(bug, ModuleNotFoundError):
        return None
    if not bug.name or bug.name.startswith("kluis."):
        return None
    from kluis import installing  # which no help needs

    package = bug.name.partition(".")[0]
    hint = installing.command_for(OPTIONS_EXTRAS.get(package, extra))
    return UnavailableError(f"{name}: want the package {package}, got none", hint=hint)


def _unread() -> bool:
    """Whether the closed pipe is our own output, and not a socket or an enclave's channel."""
    if not hasattr(select, "poll"):  # Windows: there are no enclaves there
        return True
    streams = select.poll()
    for number in (1, 2):
        streams.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in streams.poll(0))


def _say(where: str, message: str) -> str:
    """The parser's message; a value that is not among its option's choices is stated as our own checks do."""
    if (found := _NO_CHOICE.fullmatch(message[:4096])) is None:
        return f"{where}: {message[:1].lower()}{message[1:]}"
    return f"{found['option']}: want one of {found['choices'].replace(chr(39), '')}, got {found['got']}"


def _suggest(message: str) -> str | None:
    """The command, or the choice of an option, that is nearest to an unknown one."""
    if command := re.fullmatch(r"No such command '(\w{1,32})'", message):
        near = difflib.get_close_matches(command[1], COMMANDS, n=1)
        return f"kluis {near[0]} --help" if near else None
    if choice := re.search(r"'([\w-]{1,32})' is not one of ('[\w-]+'(?:, '[\w-]+')*)", message[:4096]):
        near = difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), n=1)
        return f"did you mean {near[0]}?" if near else None
    return None


def _open() -> None:
    """Open a closed standard stream on nothing; a file opened later would otherwise get its number and our
    output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def main() -> None:
    """Run the command line of this process, and exit."""
    _open()
    sys.exit(run(sys.argv[1:]))
