"""The front door: exit codes by the kind of error, words on stderr, data on stdout."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import typer.core

from kluis import errors, installing
from kluis.cli import codes, main, render
from tests.cli.quotes import FORGE


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`kluis --help` prints every command's name and line on stdout and exits with 0."""
    assert main.run(["--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for name, entry in main.COMMANDS.items():
        assert f"  {name} " in said.out
        assert entry.help in said.out


def test_no_words_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`kluis` without arguments prints the help on stderr and exits with 2."""
    assert main.run([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: kluis ")


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is not one is named, with where to look."""
    assert main.run(["frobnicate"]) == 2
    assert capsys.readouterr().err == (
        "kluis: error: kluis: no such command 'frobnicate'\nkluis: hint: kluis --help\n"
        "kluis: code: usage (kluis explain usage)\n"
    )


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option is named, with the help of the command."""
    assert main.run(["doctor", "--frobnicate"]) == 2
    assert capsys.readouterr().err == (
        "kluis: error: kluis doctor: no such option: --frobnicate\nkluis: hint: kluis doctor --help\n"
        "kluis: code: usage (kluis explain usage)\n"
    )


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints it, as JSON on request, in either order."""
    assert main.run(["--json", "--version"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": main.kluis.__version__}


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["bulid"], "kluis build --help"),
        (["serve", "atestation"], "did you mean attestation?"),
        (["serve", "all", "--store-key", "signr"], "did you mean signer?"),
        (["room", "init", "room", "--as", "a", "--role", "ownr"], "did you mean owner?"),
        (["measure", "--snp", "--vmm", "qemuu"], "did you mean qemu?"),
        (["measure", "--snp", "--vmm", "nothing"], "kluis measure --help"),
        (["up", "ledgr"], "did you mean ledger?"),
        (["up", "nothing"], "kluis up, without a service, starts all"),
    ],
)
def test_the_nearest_choice_is_named(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a command, an argument or an option's value is misspelt, the hint names the nearest one."""
    assert main.run(words) == 2
    assert f"\nkluis: hint: {meant}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "a.kluis", "--tee", "vn"], "--tee: want one of process, vm, got 'vn'"),
        (["measure", "--snp", "--vmm", "qemuu"], "--vmm: want one of qemu, ec2, gce, got 'qemuu'"),
        (
            ["up", "nothing"],
            "service: want one of attestation, keyvault, ledger, provisioning, got 'nothing'",
        ),
    ],
)
def test_a_value_that_is_no_choice_is_stated_in_one_form(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether Typer or our own code checks the value, its error names the choices and the value."""
    assert main.run(words) == 2
    assert capsys.readouterr().err.startswith(f"kluis: error: {said}\n")


def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is one object on stderr, and stdout stays empty."""
    assert main.run(["--json", "frobnicate"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err) == {
        "error": "kluis: no such command 'frobnicate'",
        "code": "usage",
        "hint": "kluis --help",
        "exit_code": 2,
    }


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.FormatError("x"), 3),
        (errors.AuthenticityError("x"), 4),
        (errors.FreshnessError("x"), 5),
        (errors.PolicyError("x"), 6),
        (errors.UnavailableError("x"), 7),
        (errors.CallTimeout("x"), 7),
        (errors.InternalError("x"), 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_is_the_kinds(fault: errors.KluisError, code: int) -> None:
    """Each kind of error has the exit code that the reference gives it."""
    render.reset()
    assert render.error(fault) == code


# Runs command lines where no package of an extra can be imported; prints how each line and each help ended.
WITHOUT_EXTRAS = """
import importlib.abc, json, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in json.loads(sys.argv[1]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from kluis.cli import main
codes = {}
for name in main.COMMANDS:
    group = getattr(main.load(name), "commands", {})
    for words in ([name], *([name, each] for each in group)):
        codes[" ".join(words)] = [main.run([*words, "--help"]), main.run([*words, "--json", "--help"])]
for words in json.loads(sys.argv[2]):
    codes[" ".join(words)] = main.run(words)
print(json.dumps(codes), file=sys.stderr)
"""


def _without_extras(*lines: list[str]) -> tuple[dict[str, object], str]:
    """How every command's help ended, and some lines; and what those lines said."""
    extras = metadata.requires("kluis") or []
    names = {re.split(r"[^\w-]", each)[0].lower().replace("-", "_") for each in extras if "extra ==" in each}
    modules = sorted(
        (names | {"openssl", "OpenSSL", "psycopg", "h11", "httpcore", "anyio"}) - {"kluis", "typer"}
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(modules), json.dumps(lines)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *said, codes = done.stderr.splitlines()
    return json.loads(codes), "\n".join(said)


def test_help_wants_no_extra(tmp_path: Path) -> None:
    """Every command and each of a group explains itself without any extra; what is done wants it, by name."""
    codes, said = _without_extras(
        ["room", "propose", str(tmp_path), "--as", "a", "--plan", "b", "--image", "c"]
    )
    line = codes.pop(f"room propose {tmp_path} --as a --plan b --image c")
    assert {name: ended for name, ended in codes.items() if ended != [0, 0]} == {}
    assert {"room init", "vault meet", "serve", "demo"} < set(codes)
    assert line == 7
    assert "kluis: error: room: want the package sqlglot, got none\n" in said
    assert f"kluis: hint: {installing.command_for('rooms')}\n" in said


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["serve-app", "x.kluis", "--otlp", "http://127.0.0.1:1"], "opentelemetry.sdk", "otel"),
        (["serve-app", "x.kluis", "--metrics", "127.0.0.1:0"], "prometheus_client", "services"),
        (["serve", "all", "--otlp", "http://127.0.0.1:1"], "opentelemetry", "otel"),
        (["serve", "all"], "starlette", "services"),
    ],
)
def test_a_package_of_an_option(words: list[str], module: str, extra: str) -> None:
    """The hint installs the extra that the option needs, which may be another than its command's."""
    found = main.lacking(words, ModuleNotFoundError(name=module))
    assert found is not None
    assert found.message == f"{words[0]}: want the package {module.partition('.')[0]}, got none"
    assert found.hint == installing.command_for(extra)


@pytest.mark.parametrize("group", ["room", "vault", "policy", "platform", "collateral", "token"])
def test_a_group_takes_json(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` may come before a command's name within its group, too."""
    assert main.run([group, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"] == f"kluis {group}: missing command"


# Every command's help, each in a separate process whose output nobody reads: prints how each ended.
EVERY_HELP = """
import functools, os, sys
from kluis.cli import main
main.load = functools.cache(main.load)
closed, unread = os.pipe()
os.close(closed)
for name in main.COMMANDS:
    main.load(name)  # once, and not in each process
for name in ("", *main.COMMANDS):
    child = os.fork()
    if not child:
        os.dup2(unread, 1)
        os._exit(main.run([each for each in (name, "--help") if each]))
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)
"""
KLUIS = [sys.executable, "-c", "from kluis.cli.main import main; main()"]


def _unread(*words: str, faults: bool = False) -> tuple[int, str]:
    """The exit code and standard error of a command whose output nobody reads; nor its ``faults``."""
    closed, unread = os.pipe()
    os.close(closed)
    try:
        error = unread if faults else subprocess.PIPE
        done = subprocess.run([*KLUIS, *words], stdout=unread, stderr=error, text=True, check=False)
    finally:
        os.close(unread)
    return done.returncode, done.stderr or ""


def test_a_reader_that_goes_away_of_every_command() -> None:
    """Help cut short ends as grep's does, 128 and SIGPIPE's number, and prints nothing."""
    # It forks while threads of libraries run, which newer Pythons warn of.
    words = [sys.executable, "-W", "ignore:This process", "-c", EVERY_HELP]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [f"{name} 141" for name in ("", *main.COMMANDS)]


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """A result, a shell's completion and a fault that nobody reads are no success and no bug."""
    (tmp_path / "certificate.pem").write_bytes(FORGE.authority.root_pem())
    for words in (
        ("inspect", str(tmp_path / "certificate.pem")),
        ("explain",),
        ("--show-completion", "bash"),
    ):
        assert _unread(*words) == (141, "")
        assert _unread(*words, faults=True) == (141, "")
    for words, code in ((("frobnicate",), 2), ((), 2)):
        assert _unread(*words)[0] == code
        assert _unread(*words, faults=True) == (141, "")


def test_another_pipe_that_breaks_is_our_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write to any other closed pipe is reported, and is not mistaken for a closed output."""

    def broken() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    command = typer.core.TyperCommand("doctor", callback=broken, rich_markup_mode=None)
    monkeypatch.setattr(main, "load", {"doctor": command}.__getitem__)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # Typer wraps both
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert main.run(["doctor"]) == 70
    assert "this is a bug in Kluis" in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stream_that_is_closed(tmp_path: Path, number: int) -> None:
    """A command that is started without a standard stream does its work, and spoils no file that it opens."""
    policy = tmp_path / "policy.toml"
    words = ["policy", "init", "--image-id", "ab" * 32, "-o", str(policy)]
    command = f"{shlex.join([*KLUIS, *words])} {number}>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if number == 1 else f"written: {policy}\n")
    assert tomllib.loads(policy.read_text(encoding="utf-8"))["version"] == 1


def test_a_table_lines_its_columns_up() -> None:
    """Columns are as wide as their widest cell, and no line ends in spaces."""
    assert render.table([("a", "bb"), ("ccc", "d")], ("x", "y")) == "x    y\na    bb\nccc  d"


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "df -h"), (errno.EROFS, "that can be written"), (errno.EACCES, "that you may use")],
)
def test_what_the_machine_refuses_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, hint: str
) -> None:
    """A full disk, anywhere, is reported as that, with the file and the fix."""

    def full(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number), "there")

    monkeypatch.setattr(typer.core.TyperGroup, "main", full)
    assert main.run(["doctor"]) == 7
    said = capsys.readouterr().err
    assert said.startswith(f"kluis: error: there: {os.strerror(number)}\nkluis: hint: ")
    assert hint in said


def test_any_other_error_of_the_system_is_our_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A descriptor that is not one has nothing to do with the machine's state."""

    def broken(*arguments: object, **options: object) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(typer.core.TyperGroup, "main", broken)
    assert main.run(["doctor"]) == 70
    assert "this is a bug in Kluis" in capsys.readouterr().err


def test_a_name_that_is_nearly_a_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the keyboard is answered with the command that was meant."""
    assert main.run(["verfy"]) == 2
    assert "kluis: hint: kluis verify --help\n" in capsys.readouterr().err


def test_ctrl_c_says_that_it_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during a command exits with 130, and prints a note."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    command = typer.core.TyperCommand("doctor", callback=interrupted, rich_markup_mode=None)
    monkeypatch.setattr(main, "load", {"doctor": command}.__getitem__)
    assert main.run(["doctor"]) == 130
    assert capsys.readouterr().err == "kluis: stopped\n"


def test_an_error_without_a_hint_has_its_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """The fix of a specific code is printed with the error; a class's default code has none."""
    render.error(errors.AuthenticityError("x", code="cert_revoked"))
    fix = codes.find("cert_revoked").fix
    assert capsys.readouterr().err.splitlines()[1] == f"kluis: hint: {fix}"
    render.error(errors.AuthenticityError("x", hint="its own", code="cert_revoked"))
    assert capsys.readouterr().err.splitlines()[1] == "kluis: hint: its own"
    render.error(errors.UnavailableError("x"))
    assert "hint" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("kluis pla", {"platform"}),
        ("kluis platform re", {"recover", "reseal", "revoke"}),
        ("kluis appraise --nonc", {"--nonce"}),
    ],
)
def test_a_shell_completes(words: str, found: set[str]) -> None:
    """Shell completion offers commands, those of a room, and options."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_KLUIS_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", "from kluis.cli.main import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == found


def test_no_type_of_python_is_for_people() -> None:
    """--help shows what a command takes, and no type of Python's."""
    from scripts import reference

    assert not re.search(r"<(str|int|float|bool|path|list|Path)\b", reference.command_line())


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_groups_help_has_one_line_for_each_command(name: str) -> None:
    """Each command of a group is one line of 80 columns in the group's help, with a whole sentence."""
    groups = {name: main.load(name)}
    groups |= {words: each for words, each in main.below(groups[name]).items() if hasattr(each, "commands")}
    for words, group in groups.items():
        commands = getattr(group, "commands", {})
        width = max(map(len, commands), default=0)
        for command, each in commands.items():
            assert each.short_help.endswith("."), (words, command)
            assert len(f"  {command.ljust(width)}  {each.short_help}") <= 80, (
                words,
                command,
                each.short_help,
            )
