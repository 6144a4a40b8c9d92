"""A member's side of governance: requests that it signs, and sends to a ledger.

Spec: CCF, "Governance API", ``2024-07-01``; "Signing Governance Requests".
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, Self

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError, foreign
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.formats.encoding.cbor import Key, Writable
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.governance.requests import CREATED_AT, PROPOSAL_ID, TYPE, Kind
from kluis.services.clock import Clock, SystemClock

VERSION: Final = "2024-07-01"
SECONDS: Final = 60.0
IN_FAVOUR: Final = "export function vote (proposal, proposerId) { return true }"
MOST_ANSWER: Final = 4 << 20
_LAST: Final = "kluis ledger status prints the last entry that is committed"
HINTS: Final = {
    "TransactionInvalid": _LAST,
    "TransactionPendingOrUnknown": _LAST,
    "ProposalNotFound": "kluis ledger status prints the open proposals",
}
"""By the code of a refusal."""
PINNED: Final = (
    "the operator has it as service_cert.pem in --state; kluis ledger status --policy FILE --save PEM gets it"
    " from the enclave"
)
NAMES: Final = (62, 64)
"""OpenSSL's ``X509_V_ERR_HOSTNAME_MISMATCH`` and ``X509_V_ERR_IP_ADDRESS_MISMATCH``."""


class Governor:
    """A member, and a connection to a ledger.

    Args:
        url: ``https://host:port``.
        service: the service's certificate, PEM, the only trusted one.
        key: the member's, P-384 or P-256; None for reading only.
        certificate: the member's, PEM; None likewise.
        clock: for the time that requests state; None: this machine's.
        presents: files of a certificate and its key, which the connection presents; None: it presents none.
        transport: that judges the other end itself, as attested TLS does; ``service`` is not looked at then.

    Raises:
        UsageError: another kind of address.
        FormatError: no certificate in PEM.
    """

    def __init__(
        self,
        url: str,
        service: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        certificate: str | None = None,
        clock: Clock | None = None,
        presents: tuple[Path, Path] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        scheme, _, rest = url.rpartition("://")
        if scheme != "https" or not rest:
            raise UsageError(f"{url[:200]!a}: want https://host:port", hint=f"--url https://{rest or url}")
        self.url = url
        self._key = key
        self._clock = clock or SystemClock()
        self.member = "" if certificate is None else member_id(certificate)
        if transport is None:
            try:
                context = ssl.create_default_context(cadata=service)
            except (ssl.SSLError, ValueError):
                raise FormatError(
                    "--service-cert: want the service's certificate in PEM, got something else", hint=PINNED
                ) from None
            if presents is not None:
                try:
                    context.load_cert_chain(*presents)
                except ssl.SSLError:
                    raise FormatError(
                        f"{presents[0]}: want a certificate in PEM, of the key in {presents[1]}"
                    ) from None
            self._client = httpx.Client(base_url=url, verify=context, timeout=SECONDS)
        else:
            self._client = httpx.Client(base_url=url, transport=transport, timeout=SECONDS)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str) -> Any:
        """Read something of the governance API, or of a node.

        Raises:
            UnavailableError: the ledger does not answer.
            PolicyError: it refuses; with its words.
        """
        return self._ask("GET", path, None)

    def receipt(self, txid: TxId, *, cose: bool = False) -> bytes:
        """Get the receipt of a committed entry, JSON or COSE, as the node sends it; it is not verified.

        Raises:
            UnavailableError: the ledger does not answer.
            PolicyError: it refuses, with its reason.
            FormatError: the answer is longer than 4 MiB.
        """
        path = f"/app/receipt{'/cose' if cose else ''}?transaction_id={txid}"
        return self._exchange("GET", path, None, {}).content

    def acknowledge(self) -> None:
        """Acknowledge the present state: the member is active from then on."""
        digests = f"/gov/members/state-digests/{self.member}"
        digest = self._sign("POST", f"{digests}:update", Kind.STATE_DIGEST, b"")
        body = jcs.dumps({"memberId": self.member, "stateDigest": str(digest["stateDigest"])})
        self._sign("POST", f"{digests}:ack", Kind.ACK, body)

    def propose(self, document: bytes) -> Any:
        """Submit a proposal, JSON; gives its id and state."""
        return self._sign("POST", "/gov/members/proposals:create", Kind.PROPOSAL, document)

    def vote(self, proposal: str, ballot: str) -> Any:
        """Submit a ballot, JavaScript; gives the proposal's state."""
        path = f"/gov/members/proposals/{proposal}/ballots/{self.member}:submit"
        return self._sign("POST", path, Kind.BALLOT, jcs.dumps({"ballot": ballot}), proposal)

    def withdraw(self, proposal: str) -> Any:
        """Withdraw a proposal of the member's."""
        return self._sign(
            "POST", f"/gov/members/proposals/{proposal}:withdraw", Kind.WITHDRAWAL, b"", proposal
        )

    def open_service(self) -> bool:
        """Open the service, if it is not, as its only member: acknowledge, propose, and vote.

        Returns:
            Whether it is open now.
        """
        info = self.get("/gov/service/info")
        if info["status"] == "Opening":
            if self.get(f"/gov/service/members/{self.member}")["status"] != "Active":
                self.acknowledge()
            action: dict[str, jcs.Writable] = {
                "name": "transition_service_to_open",
                "args": {"next_service_identity": info["certificate"]},
            }
            proposed = self.propose(jcs.dumps({"actions": [action]}))
            if proposed["proposalState"] == "Open":
                proposed = self.vote(proposed["proposalId"], IN_FAVOUR)
            return bool(proposed["proposalState"] == "Accepted")
        return bool(info["status"] == "Open")

    def register_issuer(self, url: str, keys: str) -> bool:
        """Register an issuer of tokens, if it is not, as the only member: propose, and vote.

        Args:
            url: as its tokens have it for their ``iss``.
            keys: its JWKS document, JSON.

        Returns:
            Whether it is registered now.
        """
        if url in self.get("/gov/service/jwk")["issuers"]:
            return True
        jwks = jcs.loads(keys.encode(), "issuer")
        arguments: dict[str, jcs.Writable] = {"issuer": url, "auto_refresh": False, "jwks": jwks}
        action: dict[str, jcs.Writable] = {"name": "set_jwt_issuer", "args": arguments}
        proposed = self.propose(jcs.dumps({"actions": [action]}))
        if proposed["proposalState"] == "Open":
            proposed = self.vote(proposed["proposalId"], IN_FAVOUR)
        return bool(proposed["proposalState"] == "Accepted")

    def _sign(self, method: str, path: str, kind: Kind, body: bytes, proposal: str | None = None) -> Any:
        if self._key is None:
            raise PolicyError(f"{kind.value}: want a member's key, got none")
        headers: dict[Key, Writable] = {cose.KEY_ID: self.member.encode(), TYPE: kind.value}
        if proposal is not None:
            headers[PROPOSAL_ID] = proposal
        headers[CREATED_AT] = int(self._clock.now().timestamp())
        return self._ask(method, path, cose.sign1(body, self._key, headers))

    def _ask(self, method: str, path: str, signed: bytes | None) -> Any:
        query = f"{'&' if '?' in path else '?'}api-version={VERSION}" if path.startswith("/gov") else ""
        headers = {} if signed is None else {"content-type": "application/cose"}
        answer = self._exchange(method, path + query, signed, headers)
        if answer.status_code == 204 or not answer.content:
            return None
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return answer.text
        return jcs.loads(answer.content, self.url, max_size=MOST_ANSWER, real=float)  # type: ignore[arg-type] # as they come

    def _exchange(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        """Send a request; gives the answer, read whole, if it is not a refusal."""
        try:
            plain = {**headers, "accept-encoding": "identity"}
            with self._client.stream(method, path, content=content, headers=plain) as stream:
                body = bytearray()
                for part in stream.iter_raw():
                    body += part
                    if len(body) > MOST_ANSWER:
                        raise FormatError(f"{self.url}: want at most {MOST_ANSWER} bytes, got more")
                kept = {"content-type": stream.headers.get("content-type", "")}
                answer = httpx.Response(stream.status_code, headers=kept, content=bytes(body))
        except httpx.HTTPError as error:
            raise self._explain_silence(error) from None
        if answer.status_code >= 300:
            where = path.partition("?")[0]
            words = _words(answer)
            raise PolicyError(
                f"{self.url}{where}: {answer.status_code}: {words}",
                code="ledger_refused",
                hint=HINTS.get(words.partition(":")[0]),
            )
        return answer

    def _explain_silence(self, error: BaseException) -> UnavailableError:
        """Why there is no answer, and what helps: another certificate, another name, or no node."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return UnavailableError(
                f"{self.url}: does not answer: {type(error).__name__}",
                hint="see that a node runs there: kluis ledger up prints its address",
            )
        reason = foreign(cause.verify_message)
        other_name = cause.verify_code in NAMES
        return UnavailableError(
            f"{self.url}: does not answer with the pinned certificate: {reason}",
            hint="kluis ledger up --name NAME adds a name to the node's certificate"
            if other_name
            else PINNED,
        )


def member_id(certificate: str) -> str:
    """A member's id: SHA-256 of its certificate, hexadecimal.

    Raises:
        FormatError: it is not one certificate in PEM.
    """
    try:
        loaded = x509.load_pem_x509_certificate(certificate.encode())
    except NOT_READABLE:
        raise FormatError("member: want a certificate in PEM, got something else") from None
    return sha256(loaded.public_bytes(Encoding.DER)).hex()


def _words(answer: httpx.Response) -> str:
    """The reason of a refusal, sanitized as foreign text."""
    try:
        error = answer.json()["error"]
        return foreign(f"{error['code']}: {error['message']}")
    except (ValueError, KeyError, TypeError):
        return "no reason"
