"""One JavaScript engine behind six methods: bind, add, evaluate, call, limits, free.

    engine = Engine()
    engine.bind("lookup", lambda key: table[key])
    engine.evaluate("vote", source)
    engine.call("vote", "vote", proposal, proposer)
    engine.free()

Scripts are ES modules. They import only what was evaluated before, and see no clock, no entropy and no time
zone: the same input gives the same result. The engine is QuickJS-ng, an interpreter; see decision 0032.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from jsbox import JavaScriptError, JsTimeoutError

from kluis.errors import InternalError, KluisError, UsageError
from kluis.ledger.js.limits import Limits, ending_the_process
from kluis.ledger.js.threads import Handle
from kluis.ledger.js.values import HostFault, ScriptLimit, ScriptThrew, Value, engine_fault
from kluis.ledger.js.weight import HEAP_EACH, weight

_PRELUDE: Final = importlib.resources.files(__package__).joinpath("prelude.js").read_text()
_FAULT: Final = "\0fault"
# Bound functions give [value], or [_FAULT, name, message], which becomes an error in the script.
_BIND: Final = """{
  const native = globalThis[NAME];
  delete globalThis[NAME];
  const kinds = {TypeError, RangeError};
  globalThis[NAME] = (...values) => {
    const [first, name, message] = native(...values);
    if (first === "\\0fault" && name !== undefined) throw new (kinds[name] ?? Error)(message);
    return first;
  };
}
void 0;"""
# As a literal of a BigInt, also within a string or a comment.
_LARGE: Final = re.compile(r"(?<![\w$])\d[\da-fA-FxXoObB_]*+n(?![\w$])", re.ASCII)
_EXHAUSTED: Final = ("out of memory", "Maximum call stack size exceeded")


class Engine:
    """A JavaScript runtime. It belongs to the thread that made it; another one gets a :class:`UsageError`.

    Args:
        limits: of each call, and of the engine.
        seed: what ``Math.random`` starts from; any bytes.
        now: what ``Date`` reads, milliseconds since 1970.
        plain: refuse code from text (``eval``, ``Function``) and large integers: for scripts of one person.
    """

    __slots__ = ("_arguments", "_handle", "_limits", "_names", "_plain", "_weight")

    def __init__(
        self, limits: Limits | None = None, *, seed: bytes = b"", now: int = 0, plain: bool = False
    ) -> None:
        self._limits = limits or Limits()
        self._plain = plain
        self._names: set[str] = set()
        self._weight = 0  # of all modules
        self._arguments: list[Value] = []
        self._handle = Handle(heap=self._limits.heap, stack=self._limits.stack)
        words = hashlib.sha256(seed).digest()
        start: list[Value] = [int.from_bytes(words[at : at + 4], "big") for at in range(0, 16, 4)]
        arguments, extra = (
            self._arguments,
            [*start, now, plain],
        )  # and not self: the runtime holds the function
        self._handle.runtime().bind_function("__host", lambda which: extra if which else list(arguments))
        with self._running():
            self._eval(_PRELUDE)

    def limits(self, *, seconds: float) -> None:
        """Change the time of each further call; memory and stack are those that the engine was made with."""
        current = self._limits
        self._limits = Limits(seconds=seconds, heap=current.heap, stack=current.stack, last=current.last)

    def bind(self, name: str, function: Callable[..., Any]) -> None:
        """Give scripts a global function.

        Args:
            name: an identifier.
            function: takes and gives values. The script can catch a :class:`HostFault` that it raises. Any
                other exception ends the script and reaches the engine's caller. It must not hold the engine.
        """
        if not name.isidentifier() or not name.isascii():
            raise UsageError(f"script engine: want an identifier as a name, got {name!a:.80}")

        def call_function(*values: Value) -> list[Value]:
            try:
                return [function(*values)]
            except HostFault as fault:
                return [_FAULT, fault.name, fault.message]
            except (TypeError, ValueError) as error:  # and not one of a conversion, which is the script's
                raise InternalError(f"script engine: the function {name} failed") from error

        with self._running():
            self._handle.runtime().bind_function(name, call_function)
            self._eval(_BIND.replace("NAME", f'"{name}"'))

    def evaluate(self, name: str, source: str) -> tuple[str, ...]:
        """Add a module, and evaluate it.

        Returns:
            the names that it exports, in order.

        Raises:
            ScriptThrew: as :meth:`add`; or it imports what is not there, or throws.
            ScriptLimit: as :meth:`add`; or it ran past a limit.
        """
        self.add(name, source)
        with self._running():
            names = self._eval(f"__exports({_quote(name)})")
        return tuple(names)

    def add(self, name: str, source: str) -> None:
        """Add a module, which the first import or call of it evaluates.

        Add what others wrote last, and call it: what is compiled after their script may find no memory.

        Args:
            name: that :meth:`call`, and ``import`` of further modules, use for it; once an engine.
            source: an ES module.

        Raises:
            ScriptThrew: it is not JavaScript.
            ScriptLimit: its source, with that of the modules before, is heavier than the heap permits. A
                compiler with too little memory may read what is not its own, and end the process.
        """
        if name in self._names:
            raise UsageError(f"script engine: a module {name!a:.80} is there already")
        most, size = self._limits.heap // HEAP_EACH - self._weight, len(source.encode("utf-8", "replace"))
        if size > most:
            raise ScriptLimit(f"script: want at most {most} bytes of source, got {size}")
        if (heavy := weight(source)) > most:
            raise ScriptLimit(
                f"script: want source that compiles in {most * HEAP_EACH} bytes of memory, got one that may"
                f" need {heavy * HEAP_EACH}: use fewer functions, names, or \\p in regular expressions"
            )
        self._weight += heavy
        self._names.add(name)
        with self._running():
            if self._plain and (integer := _large_integer(source)):
                raise ScriptThrew("SyntaxError", f"large integers are refused here: {integer}", "")
            # An import would hide what is wrong with the syntax, and after it there may be no memory.
            self._handle.runtime().check_syntax(source, module=True)
            self._handle.runtime().add_static_module(name, source)

    def call(self, module: str, function: str, *arguments: Value) -> Value:
        """Call an exported function of a module, and evaluate the module before, unless that was done.

        Raises:
            ScriptThrew: it throws, is no function, or gives what is no value.
            ScriptLimit: it ran past a limit.
        """
        if module not in self._names:
            raise UsageError(f"script engine: no module {module!a:.80} was added")
        self._arguments[:] = arguments
        with self._running():
            result: Value = self._eval(f"__call({_quote(module)}, {_quote(function)})")
        return result

    def free(self) -> None:
        """Free the engine's memory; a second time does nothing."""
        self._arguments.clear()
        self._handle.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def _eval(self, source: str) -> Any:
        # No frame has the runtime in a variable: an error keeps its frames, and may end in another thread.
        return self._handle.runtime().eval(source, timeout=self._limits.seconds)

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            with ending_the_process(self._limits):
                yield
        except JsTimeoutError:
            self.free()
            raise ScriptLimit(f"script: took longer than {self._limits.seconds} s") from None
        except JavaScriptError as error:
            raise self._script_error(error) from None
        except (TypeError, ValueError) as error:  # of conversions
            raise ScriptThrew("TypeError", str(error), "") from None
        except (KluisError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            self.free()
            raise engine_fault(str(error)) from None

    def _script_error(self, error: JavaScriptError) -> ScriptThrew | ScriptLimit:
        name, reason, trace = (_text(getattr(error, key, None)) for key in ("name", "message", "stack"))
        if (
            name in ("InternalError", "RangeError") and reason.startswith(_EXHAUSTED)
        ) or reason == "null" == str(error):
            # An engine without memory throws null, for it has none for an error.
            self.free()
            return ScriptLimit(f"script: ran out of its {'stack' if 'stack' in reason else 'memory'}")
        return ScriptThrew(name, reason, trace)


def _quote(name: str) -> str:
    return json.dumps(name)


def _large_integer(source: str) -> str | None:
    match = _LARGE.search(source)
    return None if match is None else match[0][:40]


def _text(value: object) -> str:
    return value[:2000] if isinstance(value, str) else ""
