"""Entry point of the provisioning service in its image."""

from kluis.services.provisioning.inside import app as app
