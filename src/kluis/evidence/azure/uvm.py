"""Verify endorsements of utility VMs: the issuer signed one, for a given launch measurement.

The caller decides whether to trust the issuer: nothing here has a root. Spec: microsoft/did-x509, "did:x509
Method Specification", "Verification". Like CCF and Azure's container tools, this ignores time: a signer's
certificate is valid for a year, but its endorsements last as long as the VM. Raising the minimum version
retires one.
"""

from __future__ import annotations

import base64
import itertools
from typing import Final

from kluis.errors import AuthenticityError
from kluis.evidence import chain as links
from kluis.evidence import signatures
from kluis.evidence.context import Context
from kluis.formats import x509
from kluis.formats.azure import uvm
from kluis.formats.azure.uvm import WHAT, Endorsement
from kluis.formats.x509 import Scheme
from kluis.formats.x509.extended_usage import read_usages
from kluis.formats.x509.parts import EXTENDED_KEY_USAGE
from kluis.hashes import sha256

_SCHEMES: Final = (
    Scheme.RS256,
    Scheme.RS384,
    Scheme.RS512,
    Scheme.PS256,
    Scheme.PS384,
    Scheme.PS512,
    Scheme.ES256,
    Scheme.ES384,
)


def verify(data: bytes, *, context: Context) -> Endorsement:
    """Verify one endorsement.

    1. Each certificate of its chain was issued by the next, which is an authority.
    2. A certificate above the signer's has the fingerprint that the issuer's name states.
    3. The signer's certificate has the usage that the name requires.
    4. The signer's key signed the endorsement.

    Args:
        data: COSE_Sign1.
        context: of the verifier; its anchors are not used.

    Raises:
        FormatError: it is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
    """
    endorsement = uvm.parse(data)
    did = uvm.parse_did(endorsement.issuer)
    chain = [x509.parse(each, f"{WHAT}: certificate") for each in endorsement.chain]
    for subject, issuer in itertools.pairwise(chain):  # 1
        may = issuer.ca and (issuer.usage is None or issuer.usage.key_cert_sign)
        if not may:
            raise AuthenticityError(f"{WHAT}: {issuer.common_name!a} may issue nothing", code="cert_profile")
        links.check_issued(subject, issuer, WHAT, schemes=_SCHEMES, context=context, code="cert_chain")
    fingerprints = [
        base64.urlsafe_b64encode(sha256(each)).rstrip(b"=").decode() for each in endorsement.chain[1:]
    ]
    if did.fingerprint not in fingerprints:  # 2
        raise AuthenticityError(
            f"{WHAT}: want a chain to {did.fingerprint}, got one to {fingerprints[-1]}", code="root_untrusted"
        )
    signer = chain[0]
    usages = signer.extensions.get(EXTENDED_KEY_USAGE)
    if usages is None or did.usage not in read_usages(usages, f"{WHAT}: certificate"):  # 3
        raise AuthenticityError(
            f"{WHAT}: want a signer for usage {did.usage}, got another", code="cert_profile"
        )
    signatures.check_raw(  # 4
        endorsement.signature,
        endorsement.signed,
        signer.spki,
        endorsement.scheme,
        WHAT,
        context=context,
        code="sig_cose",
    )
    return endorsement
