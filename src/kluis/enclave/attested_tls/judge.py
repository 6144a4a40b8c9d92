"""Make evidence of this end of an attested TLS connection, and judge the other end's.

The exporter binds an end's evidence to its connection, so evidence that a relay forwards from another
connection is refused. A host cannot request it: evidence for a host or an application has the purposes
``cli`` and ``app``, and this one is ``channel``. Spec: :mod:`kluis.formats.kluis.attested_tls`.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from kluis import appraisal, evidence
from kluis.appraisal import AttestationResult, Policy, RuntimeBinding
from kluis.enclave.attestation import channel_evidence
from kluis.enclave.attested_tls.link import Link
from kluis.errors import AuthenticityError, UsageError
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.kluis.attested_tls import NONCE_BYTES, Answer, Binding, Role
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen


@frozen
class Judge:
    """One end's requirements on the other.

    Args:
        policy: its binding has the purpose ``channel`` and requires a nonce.
        standing: returns the trusted roots, the available collateral and the time, for each connection.
            Inside an enclave the time comes from the host, and the allowed age of collateral depends on it.
        believed_seconds: how long the other end is trusted on one connection, 0 or more. Something may have
            been revoked since the judgement: then our client opens another connection, and judges that one.
            A client counts from its request of the evidence, and uses the policy's ``max_evidence_age`` if
            that is less.

    Raises:
        UsageError: the policy is for evidence of another purpose, or the time is invalid.
    """

    policy: Policy
    standing: Callable[[], tuple[TrustAnchors, Collateral, datetime]]
    believed_seconds: float = 3600.0

    def __post_init__(self) -> None:
        binding = self.policy.binding
        if not isinstance(binding, RuntimeBinding) or binding.purpose is not Purpose.CHANNEL:
            got = binding.purpose if isinstance(binding, RuntimeBinding) else "evidence that is not Kluis's"
            raise UsageError(
                f"policy.binding.purpose: want channel, got {got}",
                hint="a policy for attested TLS accepts only evidence of purpose channel",
            )
        if not binding.nonce:
            raise UsageError("policy.binding.nonce: want true, got false", hint="attested TLS makes its own")
        if not self.believed_seconds >= 0:  # also refuses NaN
            raise UsageError(f"believed_seconds: want 0 or more, got {self.believed_seconds}")

    @property
    def evidence_seconds(self) -> float:
        """How long a client trusts a server's evidence after it requested it."""
        return min(self.believed_seconds, self.policy.max_evidence_age.total_seconds())

    def judge(self, answer: Answer, link: Link, nonce: bytes) -> AttestationResult:
        """Judge the answer of the other end of ``link``.

        1. The evidence is authentic.
        2. It meets the policy, over ``nonce``, for the purpose ``channel``.
        3. It was made for this connection: the exporters are equal.
        4. It was made by the other end of it, and is not this end's own, sent back.

        Raises:
            AuthenticityError, FreshnessError, FormatError: it is not authentic.
            PolicyError, FreshnessError: a rule failed; lists each.
            AuthenticityError: for another connection (``channel_exporter``), or role (``channel_role``).
        """
        anchors, collateral, now = self.standing()
        verified = evidence.verify(answer.quote, anchors=anchors, collateral=collateral, now=now)  # 1
        result = appraisal.appraise(
            verified,
            self.policy,
            nonce=nonce,
            runtime_data=answer.runtime_data,
            launch_configuration=answer.launch_configuration,
            now=now,
        )
        result.require()  # 2
        binding = Binding.parse(result.runtime_data.payload if result.runtime_data else b"")
        here = link.exporter()
        if not hmac.compare_digest(binding.exporter, here):  # 3
            raise AuthenticityError(
                "channel exporter: the evidence was made for another connection",
                hint="a relay is in between, and forwards the evidence of an enclave elsewhere",
                code="channel_exporter",
            )
        other = Role.SERVER if link.role is Role.CLIENT else Role.CLIENT
        if binding.role is not other:  # 4
            raise AuthenticityError(f"channel role: want {other}, got {binding.role}", code="channel_role")
        return result


class Peer:
    """The state of the client's attestation on one connection.

    Attributes:
        link: the connection, at this end.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._result: AttestationResult | None = None
        self._until = 0.0
        self._challenge: bytes | None = None

    @property
    def result(self) -> AttestationResult | None:
        """The judgement of its evidence; None unless valid evidence arrived, and not too long ago."""
        return self._result if elapsed() < self._until else None

    def challenge(self) -> bytes:
        """A new nonce for the client's evidence; the previous one is void."""
        self._challenge = os.urandom(NONCE_BYTES)
        return self._challenge

    def present(self, answer: Answer, judge: Judge) -> None:
        """Judge the client's evidence, over the last challenge, which is used up.

        Raises:
            UsageError: there is no challenge.
            KluisError: as for :meth:`Judge.judge`.
        """
        nonce, self._challenge, self._result = self._challenge, None, None
        if nonce is None:
            raise UsageError("evidence: want a challenge first, got none", hint="ask this server for its own")
        self._result = judge.judge(answer, self.link, nonce)
        # A client that trusts this end for the same time, and requested evidence first, reconnects before
        # this expires.
        self._until = elapsed() + judge.believed_seconds + LEEWAY_SECONDS


LEEWAY_SECONDS: Final = 60.0
# Only Linux has a clock that continues while the machine sleeps.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds since some moment, including time the machine slept: a judgement ages meanwhile."""
    return time.clock_gettime(_CLOCK)


def attest_self(link: Link, nonce: bytes, challenge: bytes = b"") -> Answer:
    """Make evidence of this end of ``link``.

    Args:
        link: its handshake is done.
        nonce: the other end's, 32 bytes.
        challenge: this end's own, for the other end's evidence.
    """
    binding = Binding(link.role, link.exporter())
    made = channel_evidence(nonce, binding.encode())
    return Answer.of(made, challenge=challenge)
