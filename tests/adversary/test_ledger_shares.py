"""Members with encryption keys of their choice, for whom a service encrypts recovery shares."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.ledger.governance import genesis, recovery
from kluis.ledger.js import HostFault
from tests.ledger.governance.consortium import NOW, Consortium, Party, opened, pem_of


def joining(numbers: rsa.RSAPublicNumbers) -> tuple[Consortium, Party]:
    """An open service, and a member with this key that the others accepted."""
    consortium, party = opened(3), Party(50)
    args = {"cert": party.certificate, "encryption_pub_key": pem_of(numbers.public_key())}
    consortium.accept({"name": "set_member", "args": args}, created_at=NOW + 5)
    return consortium, party


def test_a_key_as_large_as_the_library_takes_closes_nobodys_shares() -> None:
    """They are in one row, which members and auditors still read."""
    consortium, party = joining(rsa.RSAPublicNumbers(65537, (1 << 16384) - 1))
    consortium.activate(party)
    state = consortium.store.begin()
    sizes = [len(recovery.encrypted_share(state, each.id)) for each in (*consortium.members, party)]
    assert sizes == [256, 256, 256, 2048]
    assert consortium.replayed() == []


@pytest.mark.parametrize("bits", [2048, 16385, 60_000])
def test_a_key_that_encrypts_nothing_is_its_members_fault(bits: int) -> None:
    """Even, or larger than the library takes: its member does not become active, and the others go on."""
    key = rsa.RSAPublicNumbers(65537, (1 << bits) - (2 if bits == 2048 else 1))
    consortium, party = joining(key)
    with pytest.raises(HostFault, match=f"member {party.id}: want an RSA key of 2048 to 16384 bits in PEM"):
        consortium.activate(party)
    before = consortium.get(tables.RECOVERY_SHARES)
    consortium.accept({"name": "trigger_ledger_rekey"}, created_at=NOW + 6)
    assert consortium.get(tables.RECOVERY_SHARES) != before
    assert consortium.replayed() == []
    first = genesis.FirstMember(certificate=party.certificate, encryption_key=pem_of(key.public_key()))
    with pytest.raises(FormatError, match="want an RSA key"):
        genesis.genesis(
            service_certificate=consortium.certificate,
            members=[first],
            node=genesis.FirstNode(id="", info={}, certificate="", admitted={}),
            threshold=1,
        )
