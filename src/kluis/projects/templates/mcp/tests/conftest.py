"""Fixtures of Kluis: ``enclave`` starts an application as a rehearsal, without a build."""

pytest_plugins = ["kluis.testing.plugin"]
