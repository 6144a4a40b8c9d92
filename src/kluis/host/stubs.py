"""Write an image's interface as Python types: a module for type checkers and editors, which also runs.

``load(image, Cohort)``, with ``Cohort`` from that module, returns an enclave with typed ecalls;
``AsyncCohort.load(image)`` returns one whose ecalls are awaitable. The document
comes with the image, and anyone can write an image: names are valid identifiers, and every other text becomes
a literal, so nothing of it runs.
"""

from __future__ import annotations

import builtins
import keyword
import re
from typing import Any, Final

from kluis.enclave.boundary.schema import Node, read_value
from kluis.hashes import sha256
from kluis.host.asynchronous import AsyncEnclave
from kluis.host.interface import BOUNDS, Interface, shape

_NEEDED: Final = {  # a word of the text, and the line that makes it available
    "Annotated": "from typing import Annotated",
    "AsyncItems": "from kluis.host import AsyncItems",
    "ClassVar": "from typing import ClassVar",
    "Literal": "from typing import Literal",
    "NamedTuple": "from typing import NamedTuple",
    "Protocol": "from typing import Protocol",
    "Future": "from concurrent.futures import Future",
    "Items": "from kluis.host import Items",
    "Table": "from kluis.enclave import Table",
    "TypedAsyncEnclave": "from kluis.host import TypedAsyncEnclave",
    "TypedEnclave": "from kluis.host import TypedEnclave",
    "asyncio": "import asyncio",
    "datetime": "import datetime",
    "decimal": "import decimal",
    "enum": "import enum",
    "msgspec": "import msgspec",
    "uuid": "import uuid",
}
_SCALARS: Final = {
    "none": "None",
    "datetime": "datetime.datetime",
    "date": "datetime.date",
    "time": "datetime.time",
    "timedelta": "datetime.timedelta",
    "uuid": "uuid.UUID",
    "decimal": "decimal.Decimal",
    "table": "Table",
}
_TAKEN: Final = frozenset(dir(builtins)) | _NEEDED.keys()
_OWN: Final = frozenset(dir(AsyncEnclave))  # an ecall of such a name is only called without asyncio


def stubs_of(interface: Interface) -> tuple[str, str]:
    """Write the types of an interface.

    Returns:
        The name of the enclave's class, and the text of the module: valid as ``.py`` and as ``.pyi``.
    """
    return (written := _Module(interface)).class_name, written.text()


class _Module:
    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._document = interface.document
        self._names = _free(self._document["types"])
        own = "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", interface.name))
        own = own if own[:1].isalpha() else f"Enclave{own}"
        while {own, f"Async{own}"} & {*_TAKEN, *self._names.values()}:
            own += "Enclave"
        self.class_name = own
        calls = [one["name"] for one in self._document["ecalls"]]
        self._async_names = _name_awaited(calls)

    def text(self) -> str:
        types: dict[str, Node] = self._document["types"]
        parts = [self._class(name, node) for name, node in types.items()]
        parts += [write(one) for one in self._document["ecalls"] for write in (self._call, self._async_call)]
        body = "\n\n\n".join([*parts, self._enclave(), self._async_enclave()])
        words = set(re.findall(r"\w+", body))
        lines = sorted({line for word, line in _NEEDED.items() if word in words})
        own = [line for line in lines if "kluis" in line]
        third = [line for line in lines if line == "import msgspec"]
        standard = [line for line in lines if line not in own and line not in third]
        groups = [["from __future__ import annotations"], standard, third, own]
        imports = "\n\n".join("\n".join(group) for group in groups if group)
        head = repr(f"Types of the enclave {self._interface.name}; kluis stubs writes this file.")
        return f"{head}\n# ruff: noqa\n\n{imports}\n\n\n{body}\n"

    def _enclave(self) -> str:
        types = ", ".join(f"{name!r}: {own}" for name, own in self._names.items())
        lines = [
            f"class {self.class_name}(TypedEnclave):",
            f"    {f'The enclave {self._interface.name}; load(image, {self.class_name}) starts one.'!r}",
            "",
            f"    _interface: ClassVar[str] = {sha256(shape(self._document)).hex()!r}",
            f"    _types: ClassVar[dict[str, type]] = {{{types}}}",
        ]
        lines += [f"    {one['name']}: _{one['name']}" for one in self._document["ecalls"]]
        return "\n".join(lines)

    def _async_enclave(self) -> str:
        own = f"Async{self.class_name}"
        doc = f"The enclave {self._interface.name}, whose ecalls are awaited; {own}.load(image) starts one."
        lines = [
            f"class {own}(TypedAsyncEnclave[{self.class_name}]):",
            f"    {doc!r}",
            "",
            f"    _kind: ClassVar[type[TypedEnclave]] = {self.class_name}",
        ]
        names = [one["name"] for one in self._document["ecalls"] if one["name"] not in _OWN]
        lines += [f"    {name}: {self._async_names[name]}" for name in names]
        return "\n".join(lines)

    def _call(self, call: Node) -> str:
        """A call as a class, because an ecall has methods, too."""
        parameters = self._parameters(call["parameters"])
        item = self._hint(call["returns"])
        returns = f"Items[{item}]" if call.get("stream") else item
        lines = [f"class _{call['name']}(Protocol):"]
        lines += [f"    {call['doc']!r}", ""] if call.get("doc") else []
        lines += [f"    def __call__(__self{parameters}) -> {returns}: ..."]
        if not call.get("stream"):  # which has many results, and no future
            lines += [f"    def submit(__self{parameters}) -> Future[{returns}]: ..."]
        lines += [f"    def within(__self, seconds: float) -> _{call['name']}: ..."]
        return "\n".join(lines)

    def _async_call(self, call: Node) -> str:
        """A call as a class, whose name no type and no ecall shadows."""
        item = self._hint(call["returns"])
        returns = f"AsyncItems[{item}]" if call.get("stream") else f"asyncio.Future[{item}]"
        lines = [f"class {self._async_names[call['name']]}(Protocol):"]
        lines += [f"    {call['doc']!r}", ""] if call.get("doc") else []
        lines += [f"    def __call__(__self{self._parameters(call['parameters'])}) -> {returns}: ..."]
        return "\n".join(lines)

    def _parameters(self, nodes: list[Node]) -> str:
        texts: list[str] = []
        optional = False
        for node in nodes:
            text = f"{node['name']}: {self._hint(node['type'])}"
            if "default" in node:
                text += f" = {_value(node['default'])}"
            elif optional and "*" not in texts:
                texts.append("*")  # as in the function, whose keyword-only parameters these are
            optional = optional or "default" in node
            texts.append(text)
        return "".join(f", {text}" for text in texts)

    def _class(self, name: str, node: Node) -> str:
        own = self._names[name]
        if node["kind"] == "enum":
            members = [f"    {member} = {_value(value)}" for member, value in node["members"].items()]
            return "\n".join([f"class {own}(enum.Enum):", *(members or ["    pass"])])
        if node["kind"] == "namedtuple":
            base = "NamedTuple"
        else:
            options = ["msgspec.Struct", "kw_only=True"]
            options += [f"{key}={_value(node[key])}" for key in ("tag_field", "tag") if key in node]
            options += ["array_like=True"] if node.get("array_like") is True else []
            base = ", ".join(options)
        fields = [f"    {self._field(one)}" for one in node["fields"]]
        return "\n".join([f"class {own}({base}):", *(fields or ["    pass"])])

    def _field(self, node: Node) -> str:
        text = f"{node['name']}: {self._hint(node['type'], bounds=True)}"
        if "default" in node:
            return f"{text} = {_value(node['default'])}"
        return f"{text} | msgspec.UnsetType = msgspec.UNSET" if node.get("optional") else text

    def _hint(self, node: Node, *, bounds: bool = False) -> str:
        if "ref" in node:
            return self._names[node["ref"]]
        limits = {name: read_value(node[name]) for name in BOUNDS if name in node} if bounds else {}
        hint = self._bare(node, bounds)
        if not limits:
            return hint
        return f"Annotated[{hint}, msgspec.Meta({', '.join(f'{k}={v!r}' for k, v in limits.items())})]"

    def _bare(self, node: Node, bounds: bool) -> str:
        def inner(one: Node) -> str:
            return self._hint(one, bounds=bounds)

        kind = str(node["kind"])
        match kind:
            case "list" | "set" | "frozenset":
                return f"{kind}[{inner(node['items'])}]"
            case "vartuple":
                return f"tuple[{inner(node['items'])}, ...]"
            case "tuple":
                return f"tuple[{', '.join(map(inner, node['items'])) or '()'}]"
            case "dict":
                return f"dict[{inner(node['keys'])}, {inner(node['values'])}]"
            case "union":
                return " | ".join(map(inner, node["of"]))
            case "literal":
                return f"Literal[{', '.join(map(_value, node['values']))}]"
            case _:
                return _SCALARS.get(kind, kind)


def _free(types: dict[str, Node]) -> dict[str, str]:
    """A name for each class that is an identifier, and hides nothing that the module uses."""
    names: dict[str, str] = {}
    for name in types:
        own = name.replace(".", "_").lstrip("_")
        if not own.isidentifier():  # after the underscores, a digit or nothing
            own = f"Type{own}"
        while own in _TAKEN or own in names.values() or keyword.iskeyword(own):
            own += "_"
        names[name] = own
    return names


def _name_awaited(calls: list[str]) -> dict[str, str]:
    """A name for the awaited form of each call, which is no call's own."""
    names: dict[str, str] = {}
    for name in calls:
        own = f"_async_{name}"
        while own[1:] in calls or own in names.values():
            own += "_"
        names[name] = own
    return names


def _value(value: Any) -> str:
    """A literal: parsed interfaces have no other values than None, bool, int, float and str."""
    read = read_value(value)
    return f"float({str(read)!r})" if isinstance(read, float) and not -1e308 < read < 1e308 else repr(read)
