"""Ballots that an auditor cannot repeat: those whose answer depends on a limit of time, memory or stack.

How much fits into a limit is another number with another processor or allocator. A member can write a ballot
that counts it, and answers accordingly. So where such a ballot explains what an entry has, the auditor
accepts the service's vote, and names the ballot.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final, TypeVar

from kluis.ledger.js import Limits

T = TypeVar("T")
# Only with these words can a script go on after it ran out of memory or stack; a keyword has no escapes, and
# an escaped name counts as any of them. A class is refused here, and is not in a node of CCF.
_HIDES: Final = re.compile(r"catch|finally|async|await|Promise|globalThis|import|class|\\u")
_TIMES: Final = 100
"""What is left of an auditor's time: a tenth of a service's, since either may be the slower one."""


def depends_on_limits(ballot: str, found: T, evaluate: Callable[[Limits], T], limits: Limits) -> bool:
    """Whether a ballot could come to something else under another machine's limits.

    Args:
        ballot: its source.
        found: what it came to here.
        evaluate: evaluates it again, under other limits.
        limits: that it had, with an auditor's time.
    """
    if _HIDES.search(ballot):
        return True
    tight = dataclasses.replace(
        limits,
        seconds=limits.seconds / _TIMES,
        heap=limits.heap * 3 // 4,
        stack=limits.stack // 2,
    )
    wide = dataclasses.replace(limits, heap=limits.heap * 2, stack=limits.stack * 2)
    return any(evaluate(each) != found for each in (tight, wide))
