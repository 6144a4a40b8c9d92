"""The root's key is proven to be the enclave's, under its settings."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from kluis.appraisal.tokens import vouching
from kluis.enclave.store.sealed import SealedStore
from kluis.errors import AuthenticityError
from kluis.formats import x509 as own_x509
from kluis.hashes import sha256
from tests.appraisal.tokens.test_vouching import vouch, wanted
from tests.evidence.forge import NOW, Forge
from tests.services.provisioning.serving import Asking

TOLD = b'{"level":"process"}'
FORGE = Forge()


@pytest.fixture
def vouched(storage: SealedStore) -> Asking:
    """A service whose enclave is a forger's."""
    return Asking(storage, NOW, document=TOLD, vouch=lambda payload: vouch(FORGE, payload))


def test_the_root_is_the_enclaves(vouched: Asking) -> None:
    """A relying party learns by evidence the code that holds the root's key, and its settings."""
    answer = vouched.get("/kluis/root/vouched")
    assert answer.headers["content-type"] == "application/pkix-cert"
    found = vouching.check(
        answer.content,
        anchors=FORGE.anchors,
        collateral=FORGE.collateral(),
        policy=wanted(),
        now=NOW,
    )
    (root,) = own_x509.parse_pem(vouched.root(), "root")
    assert (found.spki, found.settings) == (root.spki, sha256(vouched.get("/kluis/settings").content))
    assert found.settings == sha256(TOLD)


def test_it_issues_nothing(vouched: Asking) -> None:
    """The certificate with evidence is no authority, whatever its name; the root is another one."""
    carried = x509.load_der_x509_certificate(vouched.get("/kluis/root/vouched").content)
    constraints = carried.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert carried.subject == x509.load_pem_x509_certificate(vouched.root()).subject


def test_another_service_is_not_vouched_for(
    vouched: Asking, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Evidence of one root in the certificate of another is refused."""
    carried = vouched.get("/kluis/root/vouched").content
    other = Forge()
    with pytest.raises(AuthenticityError):
        vouching.check(
            carried, anchors=other.anchors, collateral=other.collateral(), policy=wanted(), now=NOW
        )


def test_made_anew_each_day(vouched: Asking) -> None:
    """The same certificate for a day, and then another, over the same key."""
    first = vouched.get("/kluis/root/vouched").content
    vouched.clock.at = NOW + timedelta(hours=23)
    assert vouched.get("/kluis/root/vouched").content == first
    vouched.clock.at = NOW + timedelta(hours=25)
    second = vouched.get("/kluis/root/vouched").content
    assert second != first
    keys = [x509.load_der_x509_certificate(one).public_key() for one in (first, second)]
    assert keys[0] == keys[1]


def test_a_plain_process_vouches_for_nothing(asking: Asking) -> None:
    """Outside of an enclave there is no evidence, and the answer states that."""
    answer = asking.get("/kluis/root/vouched")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == (
        "root: want an enclave whose evidence covers it, got a plain process"
    )
