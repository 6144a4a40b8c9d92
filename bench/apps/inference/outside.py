"""The template's application without an enclave; the key of the benchmark's weights is in a file."""

from pathlib import Path

from app import state, web

state.open(Path(__file__).with_name("key").read_bytes())
__all__ = ["web"]
