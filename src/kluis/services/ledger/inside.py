"""The ledger's enclave: what hosting declares, its log, and ``begin``, which takes the log for this node."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.enclave import Enclave
from kluis.enclave.attestation import ledger_node_evidence
from kluis.enclave.inside import inside
from kluis.enclave.store.keys.custody import seal_policy
from kluis.errors import UsageError
from kluis.formats.encoding import b64, jcs
from kluis.formats.kluis.runtime_data import ec_key
from kluis.services import hosting
from kluis.services.hosting import Place, read_settings
from kluis.services.ledger import log
from kluis.services.ledger.app import LedgerApplication
from kluis.services.ledger.genesis import Quoted
from kluis.services.ledger.identity import NodeIdentity, Shown
from kluis.services.ledger.node import Node, Surroundings
from kluis.services.ledger.settings import Settings
from kluis.services.ledger.witness import CounterWitness

app = Enclave("ledger", product_id=104, svn=1)
host_log = log.declare(app)
shown = Shown()
_built: list[LedgerApplication] = []


def build(document: bytes, place: Place) -> LedgerApplication:
    """Build the ledger from its settings (JSON), with all of its log read.

    Raises:
        UsageError: the settings have another shape; states where.
        AuthenticityError: the log is not this ledger's complete and unchanged log.
    """
    settings = read_settings(document, Settings, "ledger")
    policy = seal_policy()

    def quote(node: NodeIdentity, service: bytes, genesis: bytes) -> Quoted:
        stated: dict[str, jcs.Writable] = {
            "genesis": genesis.hex(),
            "service_certificate": service.hex(),
            "witness_milliseconds": round(settings.witness_seconds * 1000),
        }
        numbers = node.key.public_key().public_numbers()
        key = ec_key(ec.SECP384R1(), numbers.x, numbers.y)
        evidence = ledger_node_evidence(jcs.dumps(stated), key)
        parts = {
            "launch_configuration": b64.encode(evidence.launch_configuration),
            "quote": b64.encode(evidence.quote),
            "runtime_data": b64.encode(evidence.runtime_data),
        }
        return Quoted(inside("ledger").launch.image_id.hex(), jcs.dumps(parts))

    around = Surroundings(
        storage=place.storage,
        log=host_log,
        witness=lambda service: CounterWitness(service, policy),
        clock=place.clock,
        quote=quote,
    )
    application = LedgerApplication(
        Node(settings, around, shown), host_log, place.clock, lambda: server.drain(0.0)
    )
    _built.append(application)
    return application


server = hosting.host(app, build, identity=shown)


@app.ecall
def begin(address: str) -> str:
    """Take the log: this node writes it from now on, and no other. Gives the service's certificate, PEM.

    Args:
        address: ``host:port`` that clients use.
    """
    if not _built:
        raise UsageError("begin: want settings first", hint="configure(settings)")
    node = _built[0].node
    node.begin(address[:200])
    return node.service.certificate
