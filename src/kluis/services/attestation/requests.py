"""Bodies of requests and responses, in the form of Azure Attestation's clients.

Unknown members are ignored. One is ours: ``x-kluis-collateral``, base64url of a bundle of Intel's documents,
for a service that has none, or older ones.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.services.attestation.evidence.bound_data import Data
from kluis.services.attestation.faults import InvalidParameter


class _Request(msgspec.Struct, kw_only=True):
    """The common members of requests with evidence.

    Attributes:
        runtimeData: data whose hash is the evidence's report data.
        initTimeData: data whose hash is the enclave's configuration.
        draftPolicyForAttestation: a policy's text, evaluated in place of the configured one.
        nonce: of the client; returned in the token.
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
    """A request with an Azure guest's whole statement, base64url of JSON."""

    attestationInfo: str | None = None  # noqa: N815 - names of the wire
    client: str | None = msgspec.field(default=None, name="AttestationInfo")
    draftPolicyForAttestation: str | None = None  # noqa: N815


_HELD: Final = frozenset({"runtimeData", "initTimeData"})


def respell(members: dict[str, msgspec.Raw], kind: type[msgspec.Struct]) -> bytes:
    """A request's body whose members' names, and those of data within it, are in the letters of ``kind``.

    Azure's client for C++ writes ``inittimeData``. If it were ignored, the data would not be compared with
    the evidence, without any error.

    Args:
        members: of the body, by their names.
        kind: what it is to be read as.

    Raises:
        FormatError: data within it are no JSON object.
        InvalidParameter: a member occurs in two spellings.
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
            raise InvalidParameter(f"{what}: member {name[:64]!a} appears twice, in other letters")
        made[right] = value
    return made


class Token(msgspec.Struct):
    """A response with a token, or with a challenge or envelope in its place."""

    token: str


class TpmMessage(msgspec.Struct):
    """A message of the TPM protocol, in either direction: base64url of JSON."""

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
    """The response of ``/certs``."""

    keys: list[JwksKey]


class Baselines(msgspec.Struct):
    """The response of ``/tcbbaselines``."""

    tcbBaselines: list[dict[str, Any]]  # noqa: N815 - names of the wire
