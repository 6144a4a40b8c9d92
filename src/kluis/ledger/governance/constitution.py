"""The constitution: one JavaScript module that validates proposals, resolves their ballots, and applies them.

    validate(proposal) -> {valid, description}
    resolve(proposal, proposerId, votes, proposalId) -> state
    apply(proposal, proposalId)

Each call has its own engine. A script sees no clock and no entropy, so an auditor gets the same from the same
tables. Ballots are modules that export ``vote(proposal, proposerId, proposalId)``.

Spec: CCF, "Governance", "Constitution".
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any, Final

from kluis.errors import KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.values import read_json
from kluis.frozen import frozen
from kluis.ledger.governance.doubts import depends_on_limits
from kluis.ledger.governance.faults import ConstitutionFailed
from kluis.ledger.governance.scripts.access import Phase
from kluis.ledger.governance.scripts.bindings import Bindings
from kluis.ledger.governance.scripts.effects import Effects
from kluis.ledger.js import Engine, HostFault, Limits, ScriptError, ScriptLimit, ScriptThrew, Value
from kluis.ledger.store import Transaction

OF_CONSTITUTION: Final = Limits(seconds=5.0, heap=64 << 20)
OF_BALLOT: Final = Limits(seconds=0.5, heap=16 << 20, stack=512 << 10)
EXPORTS: Final = ("validate", "resolve", "apply")
_TOO_LONG: Final = "Operation took too long to complete."
_STOPPED: Final = "linked"
# The keyword, or the word in a text or a comment; a keyword has no escapes.
_CLASS: Final = re.compile(r"(?<![\w$])class(?![\w$])", re.ASCII)
_ESCAPED: Final = re.compile(
    r"\\(?:\r\n|[\n\r\u2028\u2029]|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]+)\})?"
)
_NO_EXPORT: Final = "Could not find export "
_HERE: Final = importlib.resources.files(__package__)
_GLOBALS: Final = _HERE.joinpath("scripts", "globals.js").read_text(encoding="utf-8")


def ours() -> str:
    """The constitution that a service has unless it is founded with another one."""
    return _HERE.joinpath("constitution.js").read_text(encoding="utf-8")


@frozen
class Failure:
    """Why a script did not answer: the reason, and where, in the script's own words."""

    reason: str
    trace: str | None

    def value(self) -> dict[str, Any]:
        """As the ledger has it."""
        return {"reason": self.reason} if self.trace is None else {"reason": self.reason, "trace": self.trace}


@frozen(kw_only=True)
class Rules:
    """The limits of scripts, of which a node chooses, and what an auditor has found out about ballots.

    Attributes:
        constitution: of each call of the constitution.
        ballot: of each ballot.
        stated: by member: what its ballot comes to, without evaluating it.
        doubted: receives the members whose ballots depend on limits; None: nobody wants to know.
    """

    constitution: Limits = OF_CONSTITUTION
    ballot: Limits = OF_BALLOT
    stated: Mapping[str, bool | Failure] = dataclasses.field(default_factory=dict)
    doubted: set[str] | None = None


LAST: Final = 60.0
IN_A_NODE: Final = Rules(
    constitution=dataclasses.replace(OF_CONSTITUTION, last=LAST),
    ballot=dataclasses.replace(OF_BALLOT, last=LAST),
)
"""For a process that runs scripts in one thread: one that nothing interrupts ends the process."""


# What counts as true does so by the rules of the language, but a promise, which is always true, is no vote.
# It is compiled before the ballot runs, which could leave the compiler without memory.
_TRUTH: Final = """export const f = (...values) => import('ballot').then((ballot) => {
  if (!("vote" in ballot)) throw new SyntaxError("Could not find export 'vote' in module 'ballot'");
  const found = (0, ballot.vote)(...values);
  if (typeof found?.then === "function") throw new TypeError("vote() returned a promise");
  return !!found;
});"""


class Constitution:
    """The constitution that a transaction sees.

    Args:
        transaction: that its scripts read, and ``apply`` writes.
        rules: limits.
        source: of it; None: the one in the tables.
    """

    def __init__(self, transaction: Transaction, rules: Rules, source: str | None = None) -> None:
        self._transaction = transaction
        self._rules = rules
        if source is None and (source := _stored(transaction)) is None:
            raise ConstitutionFailed("constitution: there is none in the tables")
        self._source = source

    def validate(self, proposal: str) -> str | None:
        """Why a proposal is not one; None if it is.

        Raises:
            ConstitutionFailed: ``validate`` gave no answer of its form.
        """
        try:
            outcome = self._call(Phase.JUDGE, None, b"", "validate", proposal)
        except ScriptThrew as error:
            return error.reason or "the proposal cannot be read"
        except ScriptLimit:
            return _TOO_LONG
        if not isinstance(outcome, dict) or type(outcome.get("valid")) is not bool:
            raise ConstitutionFailed("constitution: validate() gave no object with valid and description")
        return None if outcome["valid"] else str(outcome.get("description", ""))

    def resolve(
        self, proposal: str, proposer: str, votes: list[tuple[str, bool]], proposal_id: str
    ) -> tuple[str, Failure | None]:
        """The state that votes give a proposal, and why it failed, if ``resolve`` did.

        Args:
            proposal: as it was submitted.
            proposer: the member's id.
            votes: member ids and their votes.
            proposal_id: of it.
        """
        votes_cast: list[Value] = [{"member_id": member, "vote": vote} for member, vote in votes]
        try:
            outcome = self._call(
                Phase.JUDGE,
                None,
                proposal_id.encode(),
                "resolve",
                proposal,
                proposer,
                votes_cast,
                proposal_id,
            )
        except ScriptError as error:
            return "Failed", _failure(error, "Failed to resolve(): ")
        if not isinstance(outcome, str):
            return "Failed", Failure("Failed to resolve(): the result is no text", None)
        return outcome, None

    def apply(self, proposal: str, proposal_id: str, effects: Effects) -> None:
        """Run an accepted proposal; the transaction is to be dropped if this raises.

        Raises:
            ConstitutionFailed: ``apply`` threw or did not end.
        """
        try:
            self._call(Phase.APPLY, effects, proposal_id.encode(), "apply", proposal, proposal_id)
        except ScriptError as error:
            failure = _failure(error, "Failed to apply(): ")
            raise ConstitutionFailed(f"proposal {proposal_id}: {failure.reason}") from None
        if (source := _stored(self._transaction)) is not None and source != self._source:
            try:
                evaluate(source, self._rules)
            except ScriptError as error:
                reason = _failure(error, "").reason
                raise ConstitutionFailed(
                    f"proposal {proposal_id}: the constitution is not valid: {reason}"
                ) from None

    def vote(
        self, ballot: str, proposal: str, proposer: str, proposal_id: str, member: str
    ) -> bool | Failure:
        """The vote of a member's ballot on a proposal.

        Whatever goes wrong is the ballot's failure: it is evaluated again with each ballot of the others, and
        an error would keep theirs from being counted.
        """
        if member in self._rules.stated:
            return self._rules.stated[member]
        evaluate = functools.partial(self._evaluate, ballot, proposal, proposer, proposal_id, member)
        vote, doubted = evaluate(self._rules.ballot), self._rules.doubted
        if doubted is not None and depends_on_limits(ballot, vote, evaluate, self._rules.ballot):
            doubted.add(member)
        return vote

    def _evaluate(
        self, ballot: str, proposal: str, proposer: str, proposal_id: str, member: str, limits: Limits
    ) -> bool | Failure:
        # A class or a prototype that finds no memory is never freed, and to free its engine ends the process.
        if _CLASS.search(ballot):
            return Failure("SyntaxError: a ballot has no classes, nor the word in any text", None)
        if "__proto__" in ballot or ("\\" in ballot and "__proto__" in _ESCAPED.sub(_plain, ballot)):
            return Failure("SyntaxError: a ballot has no __proto__, nor the word in any text", None)
        bindings = Bindings(self._transaction, Phase.JUDGE, None, self._refuse)
        seed = f"{proposal_id} {member}".encode()
        try:
            with Engine(limits, seed=seed, plain=True) as engine:
                engine.bind("__ccf", bindings)
                engine.evaluate("ccf", _GLOBALS)
                engine.evaluate("truth", _TRUTH)
                engine.add("ballot", ballot)
                return engine.call("truth", "f", proposal, proposer, proposal_id) is True
        except ScriptError as error:
            return _failure(error, "")
        except KluisError as error:  # of a function that the ballot called, or of the engine
            return Failure(error.message, None)

    def _call(
        self, phase: Phase, effects: Effects | None, seed: bytes, function: str, *arguments: Value
    ) -> Value:
        bindings = Bindings(self._transaction, phase, effects, lambda source: check(source, self._rules))
        with Engine(self._rules.constitution, seed=seed) as engine:
            engine.bind("__ccf", bindings)
            engine.evaluate("ccf", _GLOBALS)
            engine.add("constitution", self._source)
            return engine.call("constitution", function, *arguments)

    def _refuse(self, source: str) -> None:
        raise HostFault("a ballot cannot check a constitution", "TypeError")


def check(source: str, rules: Rules | None = None) -> None:
    """Check that a text is a constitution: a module that exports the three functions.

    Nobody accepted it yet, so it is compiled and linked, and nothing of it is evaluated: a module before it
    in the order of evaluation throws. It has the time and stack of a ballot, which is one person's too, but
    the memory of a constitution, which bounds the length of a source.

    Raises:
        HostFault: it is not.
    """
    limits, missing = rules or Rules(), []
    try:
        with Engine(dataclasses.replace(limits.ballot, heap=limits.constitution.heap)) as engine:
            engine.add("ccf", _GLOBALS)  # takes its part of the heap, as in a call
            engine.add("stop", f'throw new Error("{_STOPPED}");')
            for name in EXPORTS:
                engine.add(f"has-{name}", f'import "stop"; import {{ {name} }} from "constitution";')
            engine.add("constitution", source)
            for name in EXPORTS:
                try:
                    engine.call(f"has-{name}", "")
                except ScriptThrew as error:
                    if error.reason.startswith(_NO_EXPORT):
                        missing.append(name)
                    elif error.reason != _STOPPED:
                        raise
    except ScriptError as error:
        raise HostFault(f"the constitution is not valid: {_failure(error, '').reason}") from None
    except KluisError as error:
        raise HostFault(f"the constitution is not valid: {error.message}") from None
    if missing:
        raise HostFault(f"the constitution does not export {', '.join(missing)}")


def evaluate(source: str, rules: Rules) -> None:
    """Evaluate a constitution without tables, to see that it can be: one that cannot would end governance.

    Raises:
        ScriptError: it throws, or reaches a limit.
    """
    with Engine(rules.constitution) as engine:
        engine.add("ccf", _GLOBALS)  # takes its part of the heap, as in a call
        engine.evaluate("constitution", source)


def _plain(escape: re.Match[str]) -> str:
    """The character of an escape, as in a string or a name; others lose only their backslash."""
    digits = next((each for each in escape.groups() if each is not None), None)
    return "" if digits is None or int(digits, 16) > 0x10FFFF else chr(int(digits, 16))


def _stored(transaction: Transaction) -> str | None:
    data = transaction.get(tables.CONSTITUTION, tables.ONLY)
    source = None if data is None else read_json(data, tables.CONSTITUTION)
    return source if isinstance(source, str) else None


def _failure(error: ScriptError, prefix: str) -> Failure:
    if isinstance(error, ScriptThrew):
        return Failure(
            f"{prefix}{error.name}: {error.reason}" if error.name else prefix + error.reason,
            error.trace or None,
        )
    return Failure(prefix + (_TOO_LONG if "took longer" in error.message else error.message), None)
