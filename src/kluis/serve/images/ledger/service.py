"""The ledger, as its image starts it."""

from kluis.services.ledger.inside import app as app
