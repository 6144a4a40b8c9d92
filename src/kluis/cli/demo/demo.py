"""``kluis demo``: the main job on real patients, then attacks by everyone who tries to get at them."""

from __future__ import annotations

from typing import Annotated

from kluis.cli.parameters import flag


def demo(
    brief: Annotated[bool, flag("Run only the computation, without the attackers.", "--brief")] = False,
    vm: Annotated[
        bool, flag("Run one image outside and in a machine, and attack the machine instead.", "--vm")
    ] = False,
) -> None:
    """Run a clean room on real patients, then attack it."""
    if vm:
        from kluis.cli.demo import machines

        machines.play()
        return
    from kluis.cli.demo import play  # which wants the extra, and the help does not

    play.play(brief)
