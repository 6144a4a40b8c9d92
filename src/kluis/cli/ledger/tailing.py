"""``kluis ledger tail``: a ledger's last entries, and new ones: of its folder, or of a node that runs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from kluis.cli import render
from kluis.cli.parameters import argument, flag, option
from kluis.errors import UsageError, foreign

if TYPE_CHECKING:
    from kluis.serve.ledger.following import Row
    from kluis.serve.ledger.remote import Entry

T = TypeVar("T")

_PAUSE: Final = 0.2
_PAUSE_OF_NODE: Final = 1.0
_MOST: Final = 10_000
_SHOWN: Final = 200


def tail(
    folder: Annotated[Path | None, argument("The ledger's folder; or --url.", "[DIR]")] = None,
    follow: Annotated[
        bool, flag("Print new entries as they come; Ctrl-C ends it.", "--follow", "-f")
    ] = False,
    lines: Annotated[int, option("How many entries to begin with.", "N", "--lines", "-n")] = 10,
    url: Annotated[str | None, option("A node that runs, https://host:port.", "URL")] = None,
    service_cert: Annotated[Path | None, option("The service's certificate, which you pin.", "PEM")] = None,
    member: Annotated[
        Path | None,
        option("Your files, as kluis ledger init made them; with a role that reads.", "PREFIX", "--as"),
    ] = None,
    collection: Annotated[str | None, option("Of the entries; else the default one.", "ID")] = None,
) -> None:
    """Print a ledger's last entries.

    From files: id, size in bytes and public tables. With --url: id and contents.

    An entry of a folder is printed once a signature follows it in the files. Nothing is verified there.
    With --url, --service-cert and --as, entries come from a node that runs, decrypted by it.
    """
    if not 0 <= lines <= _MOST:
        raise UsageError(f"--lines: want 0 to {_MOST}, got {lines}")
    if (folder is None) == (url is None):
        raise UsageError("tail: want a ledger's folder or --url, one of the two")
    try:
        if folder is not None:
            from kluis.serve.ledger.following import Follower

            if service_cert is not None or member is not None or collection is not None:
                raise UsageError("--service-cert, --as, --collection: want --url, the node to read from")
            rows = Follower(folder, lines).rows
            _print_head(f"{'entry':<12}  {'bytes':>9}  public tables")
            _tail(rows, _print, lines, _PAUSE if follow else None)
        else:
            _tail_node(str(url), service_cert, member, collection, lines, follow=follow)
    except KeyboardInterrupt:
        return


def _tail_node(
    url: str,
    service_cert: Path | None,
    member: Path | None,
    collection: str | None,
    lines: int,
    *,
    follow: bool,
) -> None:
    from kluis.cli.ledger.online import connect
    from kluis.serve.ledger.remote import RemoteFollower

    if service_cert is None or member is None:
        raise UsageError("--url: want --service-cert and --as, which the node knows you by")
    with connect(url, service_cert, member, present=True) as node:
        follower = RemoteFollower(node, collection, lines)
        _print_head(f"{'entry':<12}  contents")
        _tail(follower.rows, _print_entry, lines, _PAUSE_OF_NODE if follow else None)


def _tail(
    rows: Callable[[], Iterable[T]], show: Callable[[T], None], lines: int, pause: float | None
) -> None:
    for row in deque(rows(), maxlen=lines):
        show(row)
    while pause is not None:
        for row in rows():
            show(row)
        time.sleep(pause)


def _print_head(line: str) -> None:
    """Print the headings of the columns, on a terminal only: a program reads rows."""
    if sys.stdout.isatty() and not render.wants_json():
        render.note(line)


def _print_entry(entry: Entry) -> None:
    contents = entry.contents
    shown = contents if len(contents) <= _SHOWN else f"{contents[:_SHOWN]}.. ({len(contents)} characters)"
    value = {"entry": str(entry.txid), "contents": contents}
    render.out_row(value, render.fold(f"{entry.txid!s:<12}  {foreign(shown, len(shown))}"))


def _print(row: Row) -> None:
    names = ", ".join(name.removeprefix("public:") for name in row.tables) or "-"
    if len(names) > _SHOWN:
        names = f"{names[:_SHOWN]}.. ({len(row.tables)} tables)"
    value = {"entry": str(row.txid), "bytes": row.size, "tables": names}
    text = f"{row.txid!s:<12}  {row.size:>9}  {names.replace(chr(10), ' ')}"
    render.out_row(value, render.fold(text))
