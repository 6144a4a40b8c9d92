"""Entry point of the attestation service in its image."""

from kluis.services.attestation.inside import app as app
