"""``python -m kluis.tee.inside``: the agent, on the ports of this machine, or on a socket."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import NamedTuple

from kluis.errors import KluisError, UnavailableError
from kluis.streams import PATIENCE_SECONDS
from kluis.tee.inside import ports
from kluis.tee.inside.agent import Agent
from kluis.tee.platform.client import Platform
from kluis.tee.process import linux
from kluis.tee.vm import words
from kluis.tee.vm.words import COMMAND_LINE, ONLY


class Options(NamedTuple):
    """The arguments of the command; a guest gives none."""

    unix: Path | None = None
    device: list[Path] | None = None
    vsock: int | None = None
    only: str | None = None
    patience: float | None = None


def main(arguments: list[str]) -> int:
    """Serve until ended."""
    options = _parse(arguments) if arguments else Options()
    try:
        only = options.only if options.only is not None else words.find(ONLY, COMMAND_LINE.read_text())
        agent = Agent(
            Platform.connect(start=False),
            only=None if only is None else parse_only(only),
            patience_seconds=(
                PATIENCE_SECONDS * linux.slowness() if options.patience is None else options.patience
            ),
        )
        if options.unix is not None or options.vsock is not None:
            ports.listen(ports.listener_of(options.unix, options.vsock), agent.serve)
            return 0
        devices = options.device or ports.find()
        if not devices:
            raise UnavailableError(
                f"machine: want ports called {ports.PREFIX}0 and so on in {ports.NAMES}, got none",
                hint="start the machine with virtserialport devices of these names",
            )
        arrivals = ports.Arrivals()
        threads = [
            threading.Thread(target=ports.serve_port, args=(each, agent.serve, arrivals)) for each in devices
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KluisError as error:
        sys.stderr.write(f"{error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


def _parse(arguments: list[str]) -> Options:
    import argparse  # a guest does without

    parser = argparse.ArgumentParser(prog="python -m kluis.tee.inside", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--unix", type=Path, help="listen on this path instead of the machine's ports")
    where.add_argument(
        "--device", type=Path, action="append", help="a character device in place of the ports"
    )
    where.add_argument("--vsock", type=int, help="listen on this port of AF_VSOCK instead")
    parser.add_argument(
        "--only",
        help=f"the image id that may be launched, hex; by default {ONLY}ID on the kernel's command line",
    )
    parser.add_argument("--patience", type=float, help="seconds for each step of a host")
    return Options(**vars(parser.parse_args(arguments)))


def parse_only(text: str) -> bytes:
    """Parse an image id.

    Raises:
        UnavailableError: not 64 hex digits; the machine must then launch nothing.
    """
    try:
        image_id = bytes.fromhex(text)
    except ValueError:
        image_id = b""
    if len(image_id) != 32 or image_id.hex() != text:
        raise UnavailableError(
            f"machine: the only image: want an image id of 64 hex digits, got {text[:80]!r}"
        )
    return image_id


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
