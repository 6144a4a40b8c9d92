"""The provisioning service, as its image starts it."""

from kluis.services.provisioning.inside import app as app
