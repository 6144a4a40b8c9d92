"""Fixtures of Kluis: ``attested_client`` serves an application as a rehearsal, without a build."""

pytest_plugins = ["kluis.testing.plugin"]
