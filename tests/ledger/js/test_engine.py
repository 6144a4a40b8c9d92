"""One engine, six methods: what crosses, what ends a script, and that no thread meets another's runtime."""

# ruff: noqa: E501 # scripts are read more easily on one line

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import jsbox
import pytest

from kluis.errors import InternalError, UsageError
from kluis.ledger.js import Engine, HostFault, Limits, ScriptLimit, ScriptThrew
from kluis.ledger.js import engine as engine_module
from kluis.ledger.js.weight import HEAP_EACH, weight

QUICK = Limits(seconds=0.3, heap=16 << 20)


def run(source: str, *arguments: object, limits: Limits = QUICK, plain: bool = False) -> object:
    """The result of a module's function ``f``."""
    with Engine(limits, plain=plain) as engine:
        engine.evaluate("m", source)
        return engine.call("m", "f", *arguments)  # type: ignore[arg-type] # tests pass anything


def test_values_cross() -> None:
    """Arguments and results are values of both languages; bytes are Uint8Arrays."""
    values = [None, True, 1, 1.5, "ä\0", b"\x00\xff", [1, [2]], {"a": {"b": None}}]

    assert run("export const f = (...values) => values;", *values) == values
    assert run("export const f = (b) => [b instanceof Uint8Array, b.buffer];", b"\x01\x02") == [
        True,
        b"\x01\x02",
    ]
    assert run("export const f = () => undefined;") is None
    assert run("export async function f() { await null; return 7; }") == 7


def test_modules() -> None:
    """A module's exports are named, and a later one imports an earlier one only."""
    with Engine() as engine:
        assert engine.evaluate("one", "export const a = 1; export default function () {}") == ("a", "default")
        engine.evaluate("two", "import {a} from 'one'; export const f = () => a + 1;")
        assert engine.call("two", "f") == 2
        with pytest.raises(ScriptThrew, match="module not found: three"):
            engine.evaluate("four", "import {a} from 'three';")
        with pytest.raises(UsageError, match="a module 'one' is there already"):
            engine.evaluate("one", "")
        with pytest.raises(UsageError, match="no module 'five'"):
            engine.call("five", "f")


def test_bound_functions() -> None:
    """A script reads what a bound function gives, catches its faults, and no other exception."""

    def fail(kind: str) -> None:
        raise {"fault": HostFault("no", "TypeError"), "bug": ValueError("x"), "other": KeyError("k")}[kind]

    with Engine() as engine:
        engine.bind("twice", lambda data: data + data)
        engine.bind("fail", fail)
        engine.evaluate(
            "m",
            """export const f = (b) => twice(b);
            export const g = () => { try { fail('fault'); } catch (e) { return [e instanceof TypeError, e.message]; } };
            export const h = (kind) => { try { fail(kind); } catch (e) { return e.message; } };
            export const i = (kind) => fail(kind);""",
        )
        assert engine.call("m", "f", b"ab") == b"abab"
        assert engine.call("m", "g") == [True, "no"]
        assert "ValueError" not in str(engine.call("m", "h", "bug"))
        with pytest.raises(InternalError, match="the function fail failed"):
            engine.call("m", "i", "bug")
        with pytest.raises(KeyError):
            engine.call("m", "i", "other")
        with pytest.raises(UsageError, match="identifier"):
            engine.bind("a b", lambda: None)


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("export function f() { throw new RangeError('why'); }", "RangeError", "why"),
        ("export function f() { throw 'text'; }", "", "text"),
        ("export const f = 1;", "TypeError", "f is not an exported function"),
        ("export const f = () => Symbol('x');", "TypeError", "cannot convert JS Symbol to Python"),
        ("export const f = () => { const x = []; x.push(x); return x; };", "TypeError", "value nested too deeply (cycle?)"),
        ("export const f = () => '\\ud800';", "TypeError", None),
        ("export const f = () => new Promise(() => {});", "", "promise never settled (no pending jobs)"),
        ("export functio", "SyntaxError", "invalid export syntax"),
        ("throw new Error('early')", "Error", "early"),
    ],
)  # fmt: skip
def test_what_a_script_throws(source: str, name: str, reason: str | None) -> None:
    """The error has the script's name, reason and place."""
    with pytest.raises(ScriptThrew) as caught:
        run(source)

    assert caught.value.name == name
    assert reason is None or caught.value.reason == reason


ENDLESS = {
    "a loop": "while (true) {}",
    "a loop that catches": "while (true) { try { while (true) {} } catch (e) {} }",
    "a loop in finally": "try { while (true) {} } finally { while (true) {} }",
    "calls into Python": "while (true) { echo(1); }",
    "a regular expression": "/^(a+)+$/.test('a'.repeat(40) + 'b')",
    "promises": "return (async () => { while (true) await null; })()",
    "a getter of the result": "return { get a() { while (true) {} } }",
    "an array-like": "[].indexOf.call({ length: 2 ** 40 }, 1)",
    "copies of a string": "while (true) 'a'.repeat(4e6)",
    "splices": "const a = new Array(5e5).fill(1); while (true) a.splice(0, 0, 1)",
    "sorts": "const a = new Array(1e5).fill(1); while (true) a.sort()",
    "typed arrays": "while (true) new Uint8Array(8e6)",
    "JSON": "const a = new Array(1e5).fill('ab'); while (true) JSON.stringify(a)",
    "normal forms": "while (true) 'e\\u0301'.repeat(1e5).normalize()",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_time(what: str) -> None:
    """What does not end is ended, also within native operations, and the engine is gone."""
    engine = Engine(QUICK)
    engine.bind("echo", lambda value: value)
    engine.evaluate("m", f"export function f() {{ {ENDLESS[what]}; }}")

    with pytest.raises(ScriptLimit, match=r"took longer than 0\.3 s"):
        engine.call("m", "f")
    with pytest.raises(UsageError, match="is freed"):
        engine.call("m", "f")


@pytest.mark.parametrize(
    "body",
    [
        "const s = new Array(2e5).fill(1); while (true) [...s]",
        "const s = 'a'.repeat(2e5); while (true) [...s]",
    ],
)
def test_spreading(body: str) -> None:
    """A plain script's spreads end, too."""
    with pytest.raises(ScriptLimit, match="took longer"):
        run(f"export function f() {{ {body}; }}", plain=True)


def test_a_search_of_long_strings_is_refused() -> None:
    """It would take minutes, in one native operation."""
    with pytest.raises(ScriptThrew, match="the search takes too long"):
        run("export const f = () => 'a'.repeat(4e6).indexOf('a'.repeat(2e6) + 'b');")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("const a = []; while (true) a.push('x'.repeat(1e5) + a.length)", "memory"),
        ("new ArrayBuffer(1 << 30)", "memory"),
        ("let x = []; for (let i = 0; i < 1e7; i++) x = [x]; return x", "memory"),
        ("(function g() { return g() + 1; })()", "stack"),
    ],
)
def test_memory_and_stack(body: str, what: str) -> None:
    """Both end the script, and the next engine works."""
    with pytest.raises(ScriptLimit, match=f"ran out of its {what}"):
        run(f"export function f() {{ {body}; }}", limits=Limits(seconds=20, heap=16 << 20))
    assert run("export const f = () => 1;") == 1


FORMS = ("(class{#a=1});", "(class{static #a=1});", "a\n", "a?.b;", "QUFB\n", "a=>b=>c;", "$=>0;", "()=>{};")
HEAPS = (1 << 20, 6 << 20, 16 << 20)


@pytest.mark.parametrize("heap", HEAPS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [64 << 10, 256 << 10])
def test_source_that_the_heap_might_not_compile(form: str, heap: int, size: int) -> None:
    """It is refused before the compiler reads it: without enough memory it reads what is not its own."""
    most = heap // HEAP_EACH
    with Engine(Limits(seconds=20, heap=heap)) as engine, pytest.raises(ScriptLimit) as refused:
        engine.evaluate("m", _of_size(form, size))
    assert refused.value.message == f"script: want at most {most} bytes of source, got {size}"


@pytest.mark.parametrize("heap", HEAPS)
@pytest.mark.parametrize("form", FORMS)
def test_source_that_the_heap_compiles(form: str, heap: int) -> None:
    """The longest source is compiled, and no module after it has a byte."""
    with Engine(Limits(seconds=20, heap=heap)) as engine:
        with contextlib.suppress(ScriptThrew):  # it has no such names
            engine.evaluate("m", _of_weight(form, heap // HEAP_EACH))
        with pytest.raises(ScriptLimit, match="want at most 0 bytes of source, got 2"):
            engine.evaluate("n", "é")


def _of_weight(form: str, most: int) -> str:
    """The longest source of a form, with an end of no weight but its bytes."""
    size = most
    while (heavy := weight(_of_size(form, size))) > most:
        size -= -(-(heavy - most) // 2)
    return _of_size(form, size) + "\n" * (most - heavy)


def _of_size(form: str, size: int) -> str:
    return form * (size // len(form)) + "\n" * (size % len(form))


@pytest.mark.parametrize("opening", ["(", "[", "{a:", "-", "!", "x=>", "`${"])
def test_deep_source(opening: str) -> None:
    """Text that is nested too deeply for the compiler ends as an error, in the main thread and in another."""
    source = "export const f = " + opening * 10_000

    def evaluate() -> None:
        with pytest.raises((ScriptThrew, ScriptLimit)):
            run(source)

    evaluate()
    assert elsewhere(evaluate) is None


def test_scripts_are_repeatable() -> None:
    """No clock, no entropy but the seed, no garbage collector to watch."""
    source = """export const f = () => [Date.now(), new Date().toISOString(), Date(), Math.random(), Math.random(),
        ["performance", "Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry"].filter((n) => n in globalThis)];"""

    def once(seed: bytes, now: int) -> object:
        with Engine(seed=seed, now=now) as engine:
            engine.evaluate("m", source)
            return engine.call("m", "f")

    first = once(b"a", 86_400_000)
    assert first == once(b"a", 86_400_000)
    assert isinstance(first, list)
    assert first[:3] == [86_400_000, "1970-01-02T00:00:00.000Z", "Fri, 02 Jan 1970 00:00:00 GMT"]
    assert first[3] != first[4]
    assert first[5] == []
    assert first != once(b"b", 86_400_000)


def test_one_time_zone() -> None:
    """Local times are UTC on a machine of any time zone."""
    source = """export const f = () => [new Date(2020, 1, 3, 4).toISOString(), Date.parse("2020-07-01T00:00"),
        Date.parse("2020-07-01"), Date.parse("2020-07-01T00:00+02:00"), new Date(0).getHours(),
        new Date(0).getTimezoneOffset(), new Date(2020, 0, 1).toString()];"""
    program = f"""
        from kluis.ledger.js import Engine
        engine = Engine(); engine.evaluate("m", {source!r}); print(engine.call("m", "f"))"""
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"TZ": "America/New_York"}, capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip

    assert printed.strip() == str(run(source)) == str(
        ["2020-02-03T04:00:00.000Z", 1593561600000, 1593561600000, 1593554400000, 0, 0, "Wed, 01 Jan 2020 00:00:00 GMT"]
    )  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        "export const f = () => eval('1');",
        "export const f = () => (0, eval)('1');",
        "export const f = () => new Function('return 1')();",
        "export const f = () => (() => 1).constructor('return 1')();",
        "export const f = () => (async () => 1).constructor('return 1')();",
        "export const f = () => (function* () {}).constructor('yield 1')();",
        "export const f = () => 10n ** 20n;",
        "export const f = () => [...0xFFn];",
        "export const f = () => BigInt(3);",
        "export const f = () => new BigInt64Array(1)[0];",
        "export const f = () => new DataView(new ArrayBuffer(8)).getBigInt64(0);",
    ],
)
def test_a_plain_script(source: str) -> None:
    """Neither code from text nor large integers, which no time limit interrupts."""
    with pytest.raises(ScriptThrew):
        run(source, plain=True)


def test_a_bound_function() -> None:
    """It has the given object and first arguments, also as a class; what is no function is not bound."""
    assert run(
        """class Pair { constructor(a, b) { this.pair = [a, b]; } }
        export const f = () => {
          const sum = function (a, b) { return [this, a, b]; }, one = new (Pair.bind(null, 1))(2);
          let error = "";
          try { Function.prototype.bind.call(1); } catch (e) { error = e.name; }
          return [sum.bind("x")(1, 2), sum.bind("x", 1)(2), sum.bind("x", [1], 2)(3), one.pair, one instanceof Pair, error];
        };""",
        plain=True,
    ) == [["x", 1, 2], ["x", 1, 2], ["x", [1], 2], [1, 2], True, "TypeError"]  # fmt: skip


def test_the_guards_change_no_result() -> None:
    """Built-in functions do what they did, and their classes are what they were."""
    assert run(
        """class List extends Array {}
        export const f = () => { const u = new Uint8Array([1, 2, 3]); return [
            u instanceof Uint8Array, u.constructor === Uint8Array, u.slice(1).length, u.subarray(1) instanceof Uint8Array,
            new Uint8Array(u.buffer).length, "a,b".split(","), "aXbX".replace(/X/g, "y"), "aXbX".replaceAll("X", "z"),
            "a-b".replace("-", (m) => m + m), [3, 1].sort(), [[1], [2]].flat(), JSON.parse('{"a":[1]}'),
            JSON.stringify({a: [1]}), Object.entries({a: 1}), "x".padStart(3, "-"), [1, 2].includes(2),
            new List(1, 2).map((x) => x * 2) instanceof List, Array.from("ab"), (() => 1) instanceof Function,
            [..."ab", ...new Set([1]), ...new Map([[1, 2]])], "abc".indexOf("c"), "abc".split("")]; };""",
        plain=True,
    ) == [
        True, True, 2, True, 3, ["a", "b"], "ayby", "azbz", "a--b", [1, 3], [1, 2], {"a": [1]}, '{"a":[1]}', [["a", 1]],
        "--x", True, True, ["a", "b"], True, ["a", "b", 1, [1, 2]], 2, ["a", "b", "c"],
    ]  # fmt: skip


def elsewhere(act: Callable[[], object]) -> BaseException | None:
    """What ``act`` raises in another thread."""
    caught: list[BaseException] = []

    def target() -> None:
        try:
            act()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return caught[0] if caught else None


def test_another_thread(capfd: pytest.CaptureFixture[str]) -> None:
    """It gets an error of ours for each method, and drops an engine without a word on standard error."""
    engine = Engine()
    engine.evaluate("m", "export const f = () => 1;")
    for act in (
        lambda: engine.call("m", "f"),
        lambda: engine.evaluate("n", ""),
        lambda: engine.bind("b", lambda: None),
    ):
        error = elsewhere(act)
        assert isinstance(error, UsageError)
        assert error.code == "script_thread"

    assert elsewhere(engine.free) is None
    other = [Engine()]
    assert elsewhere(other.clear) is None
    Engine().free()
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_thread_that_ends_frees_its_engines(capfd: pytest.CaptureFixture[str]) -> None:
    """An engine outlives its thread as an object only."""
    left: list[Engine] = []
    assert elsewhere(lambda: left.append(Engine())) is None

    with pytest.raises(UsageError, match="belongs to the thread"):
        left[0].bind("b", lambda: None)
    left.clear()
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_panic_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the engine panic after all, callers see an Exception, and the engine is freed."""

    class PanicException(BaseException):
        pass

    class Broken:
        def check_syntax(self, source: str, *, module: bool) -> None:
            raise PanicException("left == right")

    engine = Engine()
    monkeypatch.setattr(engine_module.Handle, "runtime", lambda self: Broken())
    with pytest.raises(InternalError, match="left == right"):
        engine.evaluate("m", "")


def resident() -> int:
    """Pages of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.slow
def test_ten_thousand_runtimes() -> None:
    """None leaves anything, whether it is freed, dropped, or ended by a limit."""

    def many(count: int) -> None:
        for number in range(count):
            engine = Engine(Limits(seconds=60, heap=1 << 20))  # it is memory that ends some
            engine.bind("echo", lambda value: value)
            engine.evaluate(
                "m",
                "export function f(x) { return echo(x); } export function g() { return 'a'.repeat(1e7); }",
            )
            assert engine.call("m", "f", b"x" * 100) == b"x" * 100
            if number % 10 == 0:
                with pytest.raises(ScriptLimit):
                    engine.call("m", "g")
            if number % 2:
                engine.free()

    many(1000)
    before = resident()
    many(10_000)
    assert resident() - before < 2048  # of 4 KiB: an engine that stayed would have 300 KiB


def test_the_last_seconds_end_the_process() -> None:
    """Where nothing of Python runs, because an operation is native, the process ends."""
    program = """
        from kluis.ledger.js import Engine, Limits
        engine = Engine(Limits(seconds=0.1, last=1.0))
        engine.evaluate("m", "export function f() { const x = (1n << 400000n) - 1n; for (;;) x * x; }")
        engine.call("m", "f")"""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("Timeout (0:00:01)!")


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_the_last_seconds_need_no_stream(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    """A process whose standard error is replaced runs scripts as another does."""
    monkeypatch.setattr(sys, "stderr", stream)
    with Engine(Limits(seconds=60.0, last=3600.0)) as engine:
        engine.evaluate("m", "export const f = () => 7;")
        assert engine.call("m", "f") == 7


def test_without_writable_code() -> None:
    """In a process that may make no memory executable, as an enclave's, scripts run and end as elsewhere."""
    program = """
        import ctypes
        from kluis.ledger.js import Engine, Limits, ScriptLimit
        PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
        if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
            print("no MDWE")
        engine = Engine(Limits(seconds=0.3))
        engine.bind("twice", lambda data: data + data)
        engine.evaluate("m", "export const f = (b) => twice(b); export function g() { while (true) twice(''); }")
        print(engine.call("m", "f", b"ab"))
        try:
            engine.call("m", "g")
        except ScriptLimit as error:
            print(error.message)"""
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()

    if printed[0] == "no MDWE":
        pytest.skip("the kernel is older than 6.3")
    assert printed == ["b'abab'", "script: took longer than 0.3 s"]


def test_limits_are_bounded() -> None:
    """Nonsense is refused."""
    for wrong in ({"seconds": 0}, {"heap": 1}, {"stack": 5 << 20}, {"seconds": 2, "last": 1}):
        with pytest.raises(UsageError, match="script limits"):
            Limits(**wrong)  # type: ignore[arg-type] # one of each
    with Engine() as engine:
        engine.limits(seconds=0.2)
        engine.evaluate("m", "export function f() { while (true) {} }")
        with pytest.raises(ScriptLimit, match=r"0\.2 s"):
            engine.call("m", "f")


def test_an_error_keeps_no_runtime(capfd: pytest.CaptureFixture[str]) -> None:
    """What scripts threw, with the frames it came through, is dropped by another thread without a word."""
    errors: list[BaseException] = []
    for source in ("throw new Error('x')", "export functio", "export const f = () => { throw 1; }"):
        with pytest.raises(ScriptThrew) as caught:
            run(source)
        errors.append(caught.value)
    del caught

    assert elsewhere(errors.clear) is None
    gc.collect()
    assert capfd.readouterr().err == ""


VALUES = (
    "undefined", "null", "-0", "NaN", "1e21", "'\\0\\n\\b\\f\\r\\t\\x1f\\x7f\\u2028\\\"\\\\'", "'\\ud800x\\udc00\\ud83d\\ude00'", "[undefined, () => 1, Symbol()]",
    "({a: undefined, b: () => 1, 2: 1, 1: 2, '': [], ['__proto__']: {}})", "new Date(0)", "({a: {toJSON(k) { return k; }}, b: [{toJSON(k) { return typeof k; }}]})",
    "[new String('a'), new Number(NaN), new Boolean(false)]", "new Proxy([1, 2], {})", "new Proxy({a: 1}, {})", "Object.create({x: 1})", "Array(2)",
    "(() => { const a = {}; a.a = [a]; return a; })()", "(() => { const b = {}; return [b, {b}]; })()", "new Uint8Array(2)",
)  # fmt: skip
OPTIONS = (
    "", ", null, 2", ", null, 20", ", null, '--'", ", null, new Number(1.9)", ", ['a', 'b', 1, new String('2'), 'a', {}]", ", () => undefined",
    ", (k, v) => typeof v === 'number' ? v + 1 : v", ", function (k, v) { return Array.isArray(this) ? k : v; }, 1",
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_json_is_written_as_the_engine_writes_it(value: str) -> None:
    """Its own cannot run out of memory without harm, so the prelude has another."""
    for options in OPTIONS:
        script = f"(() => {{ try {{ return String(JSON.stringify({value}{options})); }} catch (e) {{ return String(e); }} }})()"
        assert run(f"export const f = () => {script};") == jsbox.Runtime().eval(script), options


def test_one_members_script_sets_no_prototype_and_no_part_of_errors() -> None:
    """The engine never frees a value where its memory ends within such a setter."""
    setters = [
        "'stackTraceLimit' in Error", "'prepareStackTrace' in Error", "'__proto__' in {}",
        "'setPrototypeOf' in Object", "'setPrototypeOf' in Reflect",
    ]  # fmt: skip
    script = f"export const f = () => [{', '.join(setters)}];"
    assert run(script) == [True] * len(setters)
    assert run(script, plain=True) == [False] * len(setters)


EXPRESSIONS = r"""export const f = () => [
  new RegExp("a+", "g").exec("baa")[0], RegExp(/x/i).flags, new RegExp(/x/i, "g").flags, new RegExp("").source,
  RegExp(/x/) === /x/, (RegExp(/x/)).constructor === RegExp, /x/ instanceof RegExp, RegExp.name, RegExp.length,
  "a1b22c".split(/\d+/), "a1b".split(/(\d)/), "a,b,c".split(/,/, 2), "a\u{1F600}b".split(/(?:)/u).length,
  [..."a1b2".matchAll(/[a-z](\d)/g)].map((each) => each[1]), [..."a1b1".matchAll("1")].map((each) => each.index),
  "a1b2".match(/\d/g), "abc".match("b").index, "x".match(null), "abc".search("c"), "null".search(null),
  new RegExp({ [Symbol.match]: true, source: "q", flags: "i" }).toString(), "abc".match({ [Symbol.match]: () => 7 }),
];"""


@pytest.mark.parametrize("plain", [True, False])
def test_expressions_from_text(plain: bool) -> None:
    """They are what they are in any engine, though ours looks first whether there is memory for them."""
    with Engine(plain=plain) as engine:
        engine.evaluate("m", EXPRESSIONS)
        assert engine.call("m", "f") == [
            "aa", "i", "g", "(?:)", False, True, True, "RegExp", 2,
            ["a", "b", "c"], ["a", "1", "b"], ["a", "b"], 3, ["1", "2"], [1, 3],
            ["1", "2"], 1, None, 2, 0, "/q/i", 7,
        ]  # fmt: skip
        engine.evaluate("wrong", 'export const f = () => "a".matchAll(/a/);')
        with pytest.raises(ScriptThrew, match="must have the 'g' flag"):
            engine.call("wrong", "f")
