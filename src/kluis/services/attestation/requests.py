"""Bodies of requests and answers, as Azure Attestation's clients write and read them.

Members that are not named here are passed over. One is ours: ``x-kluis-collateral``, base64url of a bundle
of Intel's documents, for a service that has none, or older ones.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.services.attestation.evidence.bound_data import Data
from kluis.services.attestation.faults import InvalidParameter


class _Request(msgspec.Struct, kw_only=True):
    """What requests with evidence have in common.

    Attributes:
        runtimeData: data that the evidence's report data are the hash of.
        initTimeData: data that the enclave's configuration is the hash of.
        draftPolicyForAttestation: a policy's text, evaluated in place of the one that is set.
        nonce: of the client; comes back in the token.
        collateral: Intel's documents.
    """

    runtimeData: Data | None = None  # noqa: N815 - names of the wire
    initTimeData: Data | None = None  # noqa: N815
    draftPolicyForAttestation: str | None = None  # noqa: N815
    nonce: str | int | None = None
    collateral: str | None = msgspec.field(default=None, name="x-kluis-collateral")


class AttestSgx(_Request, kw_only=True):
    """A request with an SGX quote, base64url."""

    quote: str


class AttestOpenEnclave(_Request, kw_only=True):
    """A request with an Open Enclave report, base64url."""

    report: str


class AttestReport(_Request, kw_only=True):
    """A request with an SNP report and its certificates, base64url of JSON."""

    report: str


class AttestTdx(_Request, kw_only=True):
    """A request with a TDX quote, base64url."""

    quote: str


class AttestGuest(msgspec.Struct, kw_only=True):
    """A request with everything that an Azure guest has to say, base64url of JSON."""

    attestationInfo: str | None = None  # noqa: N815 - names of the wire
    client: str | None = msgspec.field(default=None, name="AttestationInfo")
    draftPolicyForAttestation: str | None = None  # noqa: N815


_HELD: Final = frozenset({"runtimeData", "initTimeData"})


def respell(members: dict[str, msgspec.Raw], kind: type[msgspec.Struct]) -> bytes:
    """A request's body whose members' names, and those of data within it, are in the letters of ``kind``.

    Azure's client for C++ writes ``inittimeData``: passed over, data would not be held to the evidence, and
    nobody would be told.

    Args:
        members: of the body, by their names.
        kind: what it is to be read as.

    Raises:
        FormatError: data within it are no JSON object.
        InvalidParameter: a member stands in two spellings.
    """
    made = _respell_members(members, kind, "body")
    for name in _HELD & made.keys():
        inner = bytes(made[name]).lstrip()
        if inner[:1] == b"{":
            made[name] = msgspec.Raw(msgspec.json.encode(_respell_members(_members(inner, name), Data, name)))
    return msgspec.json.encode(made)


def _members(data: bytes, what: str) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except UNREADABLE as error:
        raise FormatError(f"{what}: want a JSON object: {error}") from None


def _respell_members(
    members: dict[str, msgspec.Raw], kind: type[msgspec.Struct], what: str
) -> dict[str, msgspec.Raw]:
    names = {each.encode_name.lower(): each.encode_name for each in msgspec.structs.fields(kind)}
    made: dict[str, msgspec.Raw] = {}
    for name, value in members.items():
        right = names.get(name.lower(), name)
        if right in made:
            raise InvalidParameter(f"{what}: member {name[:64]!a} stands twice, in other letters")
        made[right] = value
    return made


class Token(msgspec.Struct):
    """An answer with a token, or with what stands for one."""

    token: str


class TpmMessage(msgspec.Struct):
    """A message of the TPM's protocol, either way: base64url of JSON."""

    data: str


class JwksKey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One key of ``/certs``."""

    kid: str
    kty: str
    x5c: list[str]
    alg: str
    use: str
    n: str
    e: str


class Jwks(msgspec.Struct):
    """The answer of ``/certs``."""

    keys: list[JwksKey]


class Baselines(msgspec.Struct):
    """The answer of ``/tcbbaselines``."""

    tcbBaselines: list[dict[str, Any]]  # noqa: N815 - names of the wire
