"""The agent inside a machine, between hosts' streams and the machine's platform."""

from kluis.tee.vm.inside.agent import Agent

__all__ = ["Agent"]
