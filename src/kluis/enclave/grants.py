"""An image's grants: sockets from the host, and raw report data.

An enclave cannot create sockets. A socket that its manifest grants, and that the host passed at launch, is
found here by the grant's name; TLS ends inside, so the host carries ciphertext.
"""

from __future__ import annotations

import socket

from kluis.enclave.inside import inside
from kluis.errors import PolicyError, UsageError
from kluis.formats.kluis import channel

RAW = "insecure_raw_report_data"


def granted_socket(grant: str) -> socket.socket:
    """Take the socket of a grant such as ``listen:web`` or ``connect:database``, once: the caller owns it.

    Raises:
        PolicyError: the image has no such grant.
        UsageError: the host provided no socket for it, or it was already taken.
    """
    launch = inside("granted_socket").launch
    if grant not in launch.grants:
        raise PolicyError(f"socket {grant}: the image has no such grant", hint=f'grants = ["{grant}"]')
    try:
        return socket.socket(fileno=launch.sockets.pop(grant))
    except KeyError:
        raise UsageError(
            f"socket {grant}: the host brought none, or it was taken before",
            hint=f'load(image, sockets={{"{grant}": ...}})',
        ) from None


def insecure_raw_quote(report_data: bytes) -> bytes:
    """Quote raw bytes without a purpose: a relay's key would look like this enclave's.

    Args:
        report_data: 64 bytes.

    Returns:
        A DCAP v3 quote.

    Raises:
        PolicyError: the image does not have the grant ``insecure_raw_report_data``.
        UsageError: another length.
    """
    here = inside("insecure_raw_quote")
    if RAW not in here.launch.grants:
        raise PolicyError(
            f"raw report data: the image does not have the grant {RAW}", hint="kluis.enclave.quote"
        )
    if len(report_data) != 64:
        raise UsageError(f"raw report data: want 64 bytes, got {len(report_data)}")
    return here.attester.request(channel.Quote(report_data), channel.Bytes).value
