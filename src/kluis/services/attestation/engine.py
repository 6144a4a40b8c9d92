"""The attestation service without HTTP: its parts, assembled over one store."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.enclave.store.model import Storage
from kluis.errors import InternalError
from kluis.formats import x509
from kluis.formats.encoding import b64
from kluis.services import issuers
from kluis.services.attestation.attesting import Attesting
from kluis.services.attestation.evidence import baselines
from kluis.services.attestation.evidence.collateral import Endorsements
from kluis.services.attestation.evidence.platforms import Platforms
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.instances import Instance, Instances
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.policies.certificates import PolicyCertificates
from kluis.services.attestation.policies.policies import Policies
from kluis.services.attestation.requests import Jwks, JwksKey
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.signing import SigningKeys
from kluis.services.attestation.tokens.signing_certificate import Vouch
from kluis.services.attestation.tokens.tokens import Tokens
from kluis.services.attestation.tpm import TpmProtocol
from kluis.services.attestation.tpm.challenges import Challenges
from kluis.services.web import Issuer

_CLAIMS: Final = (
    "cnf", "nonce", "x-ms-ver", "x-ms-attestation-type", "x-ms-policy-hash", "x-ms-policy-signer",
    "x-ms-sgx-is-debuggable", "x-ms-sgx-mrenclave", "x-ms-sgx-mrsigner", "x-ms-sgx-svn", "x-ms-sgx-ehd",
    "x-ms-sgx-collateral", "is-debuggable", "sgx-mrsigner", "sgx-mrenclave", "product-id", "svn", "tee",
    "x-kluis-protection", "x-kluis-emulated",
)  # fmt: skip
_SGX: Final = (AttestationType.SGX_ENCLAVE, AttestationType.OPEN_ENCLAVE)


class Engine:
    """All functions of the service.

    Args:
        settings: of the service.
        storage: of policies, keys and instances.
        vouch: makes this enclave quote a statement; returns None if there is no enclave.
        ask: fetches collateral from outside; None: only the settings' collateral is used.
        issuer: of the callers that may change policies; fixed at the first start. None: no caller may.

    Raises:
        KluisError: a given root, bundle or policy signer is invalid.
        PolicyError: the store was created under another issuer.

    Attributes:
        settings, storage: as given.
        instances, policies, certificates, keys, tokens, platforms, attesting, tpm: the parts.
    """

    def __init__(
        self,
        settings: AttestationSettings,
        storage: Storage,
        vouch: Vouch,
        ask: Endorsements | None,
        issuer: Issuer | None,
    ) -> None:
        for der in settings.policy_signers:
            x509.parse(der, "policy signer")
        fixed = issuers.canonical(issuer, changing=settings.insecure_changing_issuer)
        issuers.fix(storage, fixed)
        self.settings = settings
        self.storage = storage
        self.instances = Instances(settings, storage)
        self.keys = SigningKeys(settings, storage, vouch, fixed)
        self.tokens = Tokens(settings, self.keys)
        self.certificates = PolicyCertificates(settings, storage, self.tokens)
        self.policies = Policies(storage, self.certificates, self.tokens)
        self.platforms = Platforms(settings, ask)
        challenges = Challenges(storage, settings.challenge_seconds)
        self.tpm = TpmProtocol(settings, self.platforms, self.policies, self.tokens, challenges)
        self.attesting = Attesting(settings, self.platforms, self.policies, self.tokens)

    def ready(self, now: datetime) -> None:
        """Check that the service can sign.

        Raises:
            KluisError: it cannot.
        """
        default = self.instances.default
        self.keys.current(default.key, default.url, now)

    def certs(self, instance: Instance, now: datetime) -> Jwks:
        """The keys whose tokens may still be valid, newest first."""
        return Jwks(
            [_jwk(kid, der) for kid, der in self.keys.published_keys(instance.key, instance.url, now)]
        )

    def metadata(self, instance: Instance) -> dict[str, Any]:
        """The OpenID metadata of an instance."""
        return {
            "response_types_supported": ["token", "none"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "revocation_endpoint": f"{instance.url}/revoke",
            "issuer": instance.url,
            "jwks_uri": f"{instance.url}/certs",
            "claims_supported": list(_CLAIMS),
        }

    def baselines(self, instance: Instance, kind: AttestationType) -> list[dict[str, Any]]:
        """The TCB baselines of SGX, and the one that the instance's policy selects.

        Raises:
            InvalidParameter: another TEE, which has none.
        """
        if kind not in _SGX:
            raise InvalidParameter(f"TCB baselines: want {' or '.join(_SGX)}, got {kind}")
        properties = self.policies.current(instance, kind).properties
        wanted = properties.get(baselines.PROPERTY, baselines.DEFAULT)
        return baselines.list_baselines(baselines.baseline(wanted))


def _jwk(kid: str, der: bytes) -> JwksKey:
    key = load_der_public_key(x509.parse(der, "signing certificate").spki)
    if not isinstance(key, rsa.RSAPublicKey):
        raise InternalError("signing certificate: is of no RSA key")
    numbers = key.public_numbers()
    return JwksKey(
        kid=kid,
        kty="RSA",
        x5c=[b64.encode(der)],
        alg="RS256",
        use="sig",
        n=b64.encode_url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        e=b64.encode_url(numbers.e.to_bytes(3, "big")),
    )
