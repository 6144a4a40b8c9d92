"""What is taken at its source is what the public modules give."""

from __future__ import annotations

import subprocess
import sys

from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers import aead

from kluis.formats.kluis import _primitives
from tests.meta.tree import SRC


def test_the_same_classes() -> None:
    """Keys and ciphers are the library's public ones."""
    assert _primitives.AESGCM is aead.AESGCM
    private = _primitives.generate_x25519()
    assert isinstance(private, x25519.X25519PrivateKey)
    public = private.public_key()
    assert isinstance(public, x25519.X25519PublicKey)
    assert _primitives.read_x25519(public.public_bytes_raw()) == public


def test_a_start_loads_no_other_algorithm() -> None:
    """The channel's handshake, whole, loads neither RSA nor the curves of others."""
    program = (
        f"import sys; sys.path.insert(0, {str(SRC.parent)!r})\n"
        "from kluis.formats.kluis import channel, _primitives\n"
        "_primitives.generate_x25519().exchange(_primitives.generate_x25519().public_key())\n"
        "print([name for name in sys.modules if name.endswith(('.rsa', '.ec', 'backends.openssl'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
