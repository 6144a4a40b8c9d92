"""Why a governance request is refused: one class for each of CCF's codes, with its HTTP status.

Spec: CCF, ``include/ccf/odata_error.h``, "Governance API".
"""

from __future__ import annotations

from typing import ClassVar

from kluis.errors import KluisError


class GovernanceError(KluisError):
    """A governance request is refused. The service answers with ``odata`` and ``http_status``."""

    code = "governance"
    exit_code = 6
    http_status = 400
    odata: ClassVar[str] = "InvalidInput"


class InvalidInput(GovernanceError):
    """The request's content is not what it should be."""


class InvalidAuthentication(GovernanceError):
    """The request is not signed by a member of the service."""

    http_status = 401
    odata = "InvalidAuthenticationInfo"


class OtherMember(GovernanceError):
    """The signer is not the member that the path names."""

    odata = "InvalidAuthenticationInfo"


class NotAuthorized(GovernanceError):
    """The signer is a member, and may not do this."""

    http_status = 403
    odata = "AuthorizationFailed"


class OtherProposal(GovernanceError):
    """The proposal that is signed is not the one that the path names."""

    odata = "InvalidResourceName"


class NoSuchResource(GovernanceError):
    """The service has nothing of that name."""

    http_status = 404
    odata = "ResourceNotFound"


class ProposalNotFound(GovernanceError):
    """There is no such proposal."""

    http_status = 404
    odata = "ProposalNotFound"


class ProposalNotOpen(GovernanceError):
    """The proposal was decided before."""

    odata = "ProposalNotOpen"


class ProposalFailedToValidate(GovernanceError):
    """The constitution does not accept the proposal's content."""

    odata = "ProposalFailedToValidate"


class ProposalReplay(GovernanceError):
    """The same signed request was submitted before."""

    odata = "ProposalReplay"


class ProposalTooOld(GovernanceError):
    """The proposal was signed before half of the recent ones were."""

    odata = "ProposalCreatedTooLongAgo"


class InvalidCreatedAt(GovernanceError):
    """The proposal's time is past ten digits, or later than now."""

    odata = "InvalidCreatedAt"


class VoteNotFound(GovernanceError):
    """The member submitted no ballot on the proposal."""

    http_status = 404
    odata = "VoteNotFound"


class VoteAlreadyExists(GovernanceError):
    """The member submitted another ballot before."""

    odata = "VoteAlreadyExists"


class StateDigestMismatch(GovernanceError):
    """The member acknowledges another state than it was given."""

    odata = "StateDigestMismatch"


class NotWaitingForShares(GovernanceError):
    """The service is not being recovered."""

    http_status = 403
    odata = "ServiceNotWaitingForRecoveryShares"


class SharesDoNotFit(GovernanceError):
    """Enough recovery shares were submitted, and one of them at least is wrong."""


class ConstitutionFailed(GovernanceError):
    """The constitution threw, or did not end; nothing is changed."""

    http_status = 500
    odata = "InternalError"
