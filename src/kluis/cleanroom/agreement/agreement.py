"""The agreement of a room, which all parties sign before anything runs.

It names everything that a run depends on, and nothing else is allowed. A missing rule means deny, the most
restrictive party wins, and any owner may stop it. Its SHA-256 is the room's name. Times, sizes and persons
are whole numbers, so that its canonical form has no rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from kluis.cleanroom.agreement import shown
from kluis.cleanroom.agreement.documents import Document, decode, encode, hash_of
from kluis.cleanroom.agreement.keys import (
    SEALING_SIZE,
    SIGNATURE_SIZE,
    SIGNING_SIZE,
    SigningKey,
    check_public,
    check_signature,
)
from kluis.cleanroom.agreement.lookalikes import odd_word, skeleton
from kluis.cleanroom.agreement.terms import ColumnName, Hex32, Identifier, Terms, Time
from kluis.errors import AuthenticityError, PolicyError

Role = Literal["analyst", "auditor", "operator", "owner", "recipient"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Sql = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
SIGNED_AS = "agreement/1"


class Party(Document, frozen=True):
    """One party: its name, its roles, and its two public keys."""

    id: Identifier
    name: Text
    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    signing_key: Annotated[bytes, msgspec.Meta(min_length=SIGNING_SIZE, max_length=SIGNING_SIZE)]
    sealing_key: Annotated[bytes, msgspec.Meta(min_length=SEALING_SIZE, max_length=SEALING_SIZE)]


MAX_MACHINE = 32_768
MAX_FRESH_DAYS = 3650


class Measurement(Document, frozen=True):
    """The measurement of the agreed code in one kind of TEE."""

    tee: Literal["process"]
    mrenclave: Hex32
    mrsigner: Hex32


class Code(Document, frozen=True, omit_defaults=True):
    """The only code that may open the data, and the requirements on its platform.

    Attributes:
        image_id: SHA-256 of the code. The ``mrenclave`` of a process TEE is this hash; otherwise the
            agreement is not signed.
        protection: accepted levels, by name.
        roots: PEM root certificates; evidence under any other root is refused.
        ``lacks``: protections the machine may do without, by the launcher's names; normally empty.
        counter: required witness of the platform's counters.
        fresh_seconds: the oldest collateral accepted.
        machine: the machine that the code must run in, a policy's table ``[machine]`` in TOML; evidence in
            any other is refused. Empty: evidence in a machine is refused.
    """

    image_id: Hex32
    measurements: Annotated[tuple[Measurement, ...], msgspec.Meta(min_length=1)]
    product_id: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    svn_min: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    debug: Literal[False]
    protection: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    roots: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    lacks: tuple[str, ...]
    counter: tuple[Literal["unwitnessed", "witnessed"], ...]
    fresh_seconds: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRESH_DAYS * 86_400)]
    machine: Annotated[str, msgspec.Meta(max_length=MAX_MACHINE)] = ""


class Part(Document, frozen=True):
    """One sealed file of a data set."""

    sha256: Hex32
    size_bytes: Annotated[int, msgspec.Meta(ge=1)]


class Dataset(Document, frozen=True):
    """One version of one owner's data set: its terms, and the exact sealed files."""

    id: ColumnName
    version: Annotated[int, msgspec.Meta(ge=1)]
    owner: Identifier
    terms: Terms
    parts: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1, max_length=4096)]


class SqlAnalysis(Document, frozen=True, tag="sql", tag_field="kind"):
    """A query in which every output row is based on at least k persons."""

    id: Identifier
    question: Text
    inputs: Annotated[tuple[ColumnName, ...], msgspec.Meta(min_length=1)]
    recipients: Annotated[tuple[Identifier, ...], msgspec.Meta(min_length=1)]
    query: Sql
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Arm(Document, frozen=True):
    """One set of predictors whose model is scored."""

    name: Text
    predictors: Annotated[tuple[ColumnName, ...], msgspec.Meta(min_length=1, max_length=200)]


class ModelAnalysis(Document, frozen=True, tag="logistic", tag_field="kind"):
    """A logistic model scored by cross-validation, for each arm on the same persons and folds.

    ``table`` produces one row for each person; it stays inside. Only each arm's AUC, the differences of the
    pairs in ``compare``, and two counts leave, with noise that no party chooses or knows.
    """

    id: Identifier
    question: Text
    inputs: Annotated[tuple[ColumnName, ...], msgspec.Meta(min_length=1)]
    recipients: Annotated[tuple[Identifier, ...], msgspec.Meta(min_length=1)]
    table: Sql
    person: ColumnName
    outcome: ColumnName
    arms: Annotated[tuple[Arm, ...], msgspec.Meta(min_length=1, max_length=8)]
    compare: tuple[tuple[Text, Text], ...]
    folds: Annotated[int, msgspec.Meta(ge=2, le=20)]


Analysis = SqlAnalysis | ModelAnalysis
_Named = TypeVar("_Named", Party, Dataset)


class Agreement(Document, frozen=True):
    """What every party signs.

    Attributes:
        room: 32 random bytes in hex from the room's creation; every data set is sealed under it.
        parent: the hash of the agreement this one amends, or "".
        k_min: the fewest persons a published number may be based on; a data set's terms may require more.
        max_runs: how often the analyses may run; each owner's client counts its own releases.
    """

    kind: Literal["kluis-agreement/1"]
    room: Hex32
    parent: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
    title: Text
    purpose: Text
    created: Time
    expires: Time
    parties: Annotated[tuple[Party, ...], msgspec.Meta(min_length=1, max_length=100)]
    code: Code
    datasets: Annotated[tuple[Dataset, ...], msgspec.Meta(min_length=1, max_length=100)]
    analyses: Annotated[tuple[Analysis, ...], msgspec.Meta(min_length=1, max_length=100)]
    k_min: Annotated[int, msgspec.Meta(ge=3)]
    max_runs: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    any_owner_may_stop: Literal[True]

    @property
    def hash(self) -> str:
        """The room's name: SHA-256 of the canonical agreement, 64 hex digits."""
        return hash_of(self)

    def party(self, name: str) -> Party:
        """Find a party.

        Raises:
            PolicyError: the agreement does not name it.
        """
        return _one(self.parties, name, "party")

    def dataset(self, name: str) -> Dataset:
        """Find a data set.

        Raises:
            PolicyError: the agreement does not name it.
        """
        return _one(self.datasets, name, "data set")

    def owned_by(self, party: str) -> tuple[Dataset, ...]:
        """The data sets of one owner, in the agreement's order."""
        return tuple(each for each in self.datasets if each.owner == party)

    @property
    def owners(self) -> tuple[str, ...]:
        """The parties whose data is used, in the agreement's order."""
        return tuple(each.id for each in self.parties if self.owned_by(each.id))

    def check(self) -> None:
        """Refuse an agreement that contradicts itself, or that cannot be shown to a person unchanged.

        1. Every text in it can be shown.
        2. Parties, data sets and analyses appear once, and no two parties look alike or share a key; no word
           of a name mixes alphabets, or has a rare one. Only a party can sign with its key, and results can
           be sealed to it.
        3. The measurements are those of the named code.
        4. It ends after it begins, and everything it refers to exists, with the required role.

        Raises:
            PolicyError: with the first step that fails.
            FormatError: step 2, a party's key.
        """
        shown.check(self, "agreement")  # 1
        _want_once("party", [each.id for each in self.parties])  # 2
        _want_unlike("short names", [(each.id,) for each in self.parties])
        _want_unlike("names", [(each.id, each.name) for each in self.parties])
        for each in self.parties:
            if word := odd_word(each.name):
                raise PolicyError(
                    f"agreement: want a party's name in one common alphabet a word, got {word!a}",
                    code="agreement",
                )
        _want_once("data set", [each.id.lower() for each in self.datasets])
        _want_once("analysis", [each.id for each in self.analyses])
        for keys in (
            [each.signing_key for each in self.parties],
            [each.sealing_key for each in self.parties],
        ):
            if len(set(keys)) != len(keys):
                raise PolicyError(
                    "agreement: want separate keys for each party, got one key for two", code="agreement"
                )
        for each in self.parties:
            check_public(each.signing_key, each.sealing_key, f"party {each.id}")
        for measured in self.code.measurements:  # 3
            if measured.mrenclave != self.code.image_id:
                raise PolicyError(
                    f"agreement: want the measurement of image {self.code.image_id[:16]}.., "
                    f"got {measured.mrenclave[:16]}..",
                    code="image",
                )
        if self.expires <= self.created:  # 4
            raise PolicyError(
                f"agreement: want expires after {self.created}, got {self.expires}", code="agreement"
            )
        for dataset in self.datasets:
            _want_role(self.party(dataset.owner), "owner", f"data set {dataset.id}")
            dataset.terms.check(f"data set {dataset.id}")
        for analysis in self.analyses:
            for name in analysis.inputs:
                self.dataset(name)
            for name in analysis.recipients:
                _want_role(self.party(name), "recipient", f"analysis {analysis.id}")


class Signature(Document, frozen=True):
    """One party's signature on an agreement."""

    party: Identifier
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class SignedAgreement(Document, frozen=True):
    """An agreement's canonical bytes with their signatures."""

    agreement: bytes
    signatures: tuple[Signature, ...]


def sign(agreement: Agreement, party: str, key: SigningKey) -> Signature:
    """Sign an agreement as one of its parties.

    Raises:
        PolicyError: it contradicts itself, or does not name this party with this key.
    """
    agreement.check()
    if agreement.party(party).signing_key != key.public:
        raise PolicyError(f"agreement: names another signing key for {party}", code="agreement")
    return Signature(party=party, signature=key.sign(SIGNED_AS, encode(agreement)))


def check_signed(signed: SignedAgreement) -> Agreement:
    """Read an agreement that every party signed.

    1. The bytes are a canonical agreement that does not contradict itself.
    2. Every party signed, once, and nobody else did.
    3. Each signature is by the key the agreement gives that party.

    Raises:
        FormatError: step 1, the form.
        PolicyError: step 1, if it contradicts itself; step 2.
        AuthenticityError: step 3.
    """
    agreement = decode(signed.agreement, Agreement, "agreement")  # 1
    agreement.check()
    signers = [each.party for each in signed.signatures]
    missing = [each.id for each in agreement.parties if each.id not in signers]
    if missing:
        raise PolicyError(
            f"agreement {agreement.hash[:16]}: want a signature of every party, missing {missing}",
            hint="each of them runs: kluis room approve ROOM --as PARTY",
            code="agreement_unsigned",
        )  # 2
    if len(signers) != len(agreement.parties):
        raise AuthenticityError(f"agreement: want one signature a party, got {signers}", code="signature")
    for each in signed.signatures:
        key = agreement.party(each.party).signing_key
        check_signature(key, each.signature, SIGNED_AS, signed.agreement, f"agreement, {each.party}")  # 3
    return agreement


def signers(agreement: Agreement, signatures: Iterable[Signature]) -> frozenset[str]:
    """The parties that signed an agreement: whose signature is by the key that the agreement gives them.

    Args:
        agreement: that they are to sign.
        signatures: from the room's folder, where anyone who can write it can put anything.
    """
    keys, raw = {each.id: each.signing_key for each in agreement.parties}, encode(agreement)
    valid = set()
    for each in signatures:
        with contextlib.suppress(AuthenticityError):
            if each.party in keys:
                check_signature(keys[each.party], each.signature, SIGNED_AS, raw, f"agreement, {each.party}")
                valid.add(each.party)
    return frozenset(valid)


def _want_once(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise PolicyError(f"agreement: want each {what} once, got {sorted(names)}", code="agreement")


def _want_unlike(what: str, parties: Sequence[tuple[str, ...]]) -> None:
    """Refuse two parties with names that look alike; a party's own may."""
    seen: dict[str, str] = {}
    for names in parties:
        for each in names:
            if (other := seen.get(skeleton(each))) is not None:
                raise PolicyError(
                    f"agreement: want parties with {what} that do not look alike, got {other!a} and {each!a}",
                    code="agreement",
                )
        seen |= {skeleton(each): each for each in names}


def _one(among: tuple[_Named, ...], name: str, what: str) -> _Named:
    for each in among:
        if each.id == name:
            return each
    raise PolicyError(f"agreement: names no {what} {name!r}", code="agreement")


def _want_role(party: Party, role: Role, what: str) -> None:
    if role not in party.roles:
        raise PolicyError(
            f"{what}: want {party.id} to have role {role}, got {sorted(party.roles)}", code="agreement"
        )
