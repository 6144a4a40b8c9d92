"""Convert words of a command line to an ecall's arguments, and its result to text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kluis.enclave import Table
from kluis.enclave.boundary.interface import Signature
from kluis.enclave.boundary.schema import is_table
from kluis.errors import UsageError
from kluis.formats.encoding.unreadable import UNREADABLE


def parse(signature: Signature, words: list[str]) -> list[Any]:
    """Read one word for each parameter; defaults may be left off at the end.

    JSON of the parameter's type; ``@FILE`` for bytes; the path of a Parquet file for a Table; for a string
    also the plain word.

    Raises:
        UsageError: names the parameter, want and got.
    """
    wanted = [one for one in signature.parameters if one.default is msgspec.UNSET]
    if not len(wanted) <= len(words) <= len(signature.parameters):
        raise UsageError(
            f"{signature.name}: want {_range(len(wanted), len(signature.parameters))}, got {len(words)}",
            hint=signature_line(signature),
        )
    return [
        _argument(f"{signature.name}.{one.name}", one.hint, word)
        for one, word in zip(signature.parameters, words, strict=False)
    ]


def signature_line(signature: Signature) -> str:
    """A signature for people: ``mean_age(sealed: bytes, cohort: str = "2019") -> float``."""
    parameters = []
    for one in signature.parameters:
        text = f"{one.name}: {_format_type(one.hint)}"
        if one.default is not msgspec.UNSET:
            text += f" = {msgspec.json.encode(one.default).decode()}"
        parameters.append(text)
    returns = (
        f"Iterator[{_format_type(signature.returns)}]"
        if signature.stream
        else _format_type(signature.returns)
    )
    return f"{signature.name}({', '.join(parameters)}) -> {returns}"


def present_result(result: Any, out: Path | None) -> tuple[Any, str]:
    """A result for JSON and for people; bytes and tables are written to ``out`` if it is given.

    Raises:
        UsageError: ``out`` cannot be written.
    """
    if out is not None:
        data = result if isinstance(result, bytes) else None
        try:
            if isinstance(result, Table):
                import pyarrow.parquet as pq

                pq.write_table(result.arrow, out)
            else:
                out.write_bytes(msgspec.json.encode(result) if data is None else data)
        except OSError as error:
            raise UsageError(f"{out}: cannot be written: {error.strerror}") from None
        return {"written": str(out)}, f"written: {out}"
    if isinstance(result, Table):
        return result.to_dict(), _columns(result)
    if isinstance(result, str):
        return result, result
    return result, msgspec.json.encode(result).decode()


def _argument(where: str, hint: Any, word: str) -> Any:
    if is_table(hint):
        return _read(where, Path(word.removeprefix("@")), Table.read_parquet)
    if hint is bytes and word.startswith("@"):
        return _read(where, Path(word[1:]), Path.read_bytes)
    try:
        data = word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: want UTF-8, got {word[:60]!a}") from None
    try:
        return msgspec.json.decode(data, type=hint)
    except msgspec.ValidationError as error:
        if hint is str:
            return word
        raise UsageError(_explain(where, str(error))) from None
    except UNREADABLE:
        if hint is str:
            return word
        hints = f"write @{word} for the bytes of a file" if hint is bytes else "arguments are JSON"
        raise UsageError(f"{where}: want {_format_type(hint)} as JSON, got {word[:60]}", hint=hints) from None


def _read(where: str, path: Path, read: Any) -> Any:
    try:
        path.open("rb").close()  # Arrow does not say why it cannot open one
        return read(path)
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    except ValueError:  # Arrow's own errors are ValueErrors
        raise UsageError(f"{where}: {path}: want a Parquet file, got another") from None


def _columns(table: Table) -> str:
    shown = table.arrow.slice(0, MOST_ROWS).to_pylist()
    lines = ["\t".join(table.column_names)]
    lines += ["\t".join("" if value is None else str(value) for value in row.values()) for row in shown]
    if table.num_rows > MOST_ROWS:
        lines.append(f"... {table.num_rows - MOST_ROWS} more rows: -o FILE writes them all as Parquet")
    return "\n".join(lines)


def _format_type(hint: Any) -> str:
    if hint in {None, type(None)}:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)


def _range(least: int, most: int) -> str:
    if least == most == 1:
        return "1 argument"
    return f"{least} arguments" if least == most else f"{least} to {most} arguments"


def _explain(where: str, problem: str) -> str:
    text, _, path = problem.replace("`", "").partition(" - at $")
    expected, _, got = text.removeprefix("Expected ").partition(", got ")
    said = f"want {expected}, got {got}" if got else f"{text[:1].lower()}{text[1:]}"
    return f"{where}{path}: {said}"


MOST_ROWS = 20
