"""The attestation service, as its image starts it."""

from kluis.services.attestation.inside import app as app
