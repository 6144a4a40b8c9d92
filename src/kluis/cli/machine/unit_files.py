"""The text of systemd's units for the platform and the services.

Spec: systemd.unit(5), systemd.service(5), systemd.exec(5), "Command lines" of systemd.service(5) for quoting.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kluis.errors import UsageError

MARK: Final = "# Written by kluis units install. Changes belong into a drop-in: systemctl edit NAME\n"
PLATFORM: Final = "kluis-platform.service"
SERVICES: Final = "kluis-services.service"
# Mounts over /proc and /sys (ProtectKernelTunables and others) are left out, because enclaves mount their own
# /proc. So is MemoryDenyWriteExecute, which an enclave decides for itself.
_BOTH: Final = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077
"""
_SYSTEM: Final = """\
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectHostname=yes
ProtectClock=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
CapabilityBoundingSet={capabilities}
"""
# The guardian attaches, the launcher changes users, namespaces are made, and secret memory is locked.
PLATFORM_CAPABILITIES: Final = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_IPC_LOCK CAP_KILL CAP_MKNOD CAP_NET_ADMIN CAP_SETFCAP"
    " CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_RESOURCE"
)
# Images are built within walls: namespaces.
SERVICES_CAPABILITIES: Final = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_IPC_LOCK CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_SETFCAP"
    " CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_RESOURCE"
)
_PLAIN: Final = re.compile(r"[\w@:/.,=+-]+", re.ASCII)


def quote(words: Sequence[str]) -> str:
    """Write a command line for ``ExecStart``.

    Raises:
        UsageError: a word contains a control character.
    """
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    if not word.isprintable():
        raise UsageError(f"argument: want printable characters, got {word[:64]!a}")
    text = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def platform(program: str, *, system: bool) -> str:
    """The platform's unit.

    Args:
        program: absolute path of ``kluis``.
        system: whether for the machine, or for one user.
    """
    run = quote([program])
    service = f"""\
Type=forking
GuessMainPID=no
ExecStart={run} platform start
ExecStop={run} platform stop
Restart=always
RestartSec=1
LimitMEMLOCK=infinity
LimitNOFILE=20000
TimeoutStopSec=120
"""
    if system:
        # The platform makes /var/lib/kluis and /run/kluis itself, and refuses another owner or mode.
        service += "ReadWritePaths=/var/lib /run\n"
    return _unit("the root of trust", "", service, PLATFORM_CAPABILITIES, system=system)


def services(program: str, arguments: Sequence[str], *, system: bool) -> str:
    """The services' unit.

    Args:
        program: absolute path of ``kluis``.
        arguments: of ``kluis serve``: services, and options that are added to the unit's own.
        system: whether for the machine, or for one user.
    """
    run, root = quote([program]), "%S/kluis-services/platform.pem"
    more = f" {quote(arguments)}" if arguments else " all"
    service = f"""\
Type=exec
StateDirectory=kluis-services
StateDirectoryMode=0700
CacheDirectory=kluis-services
Environment=XDG_CACHE_HOME=%C/kluis-services
ExecStartPre={run} platform root -o {root}
ExecStart={run} serve{more} --root {root} --state %S/kluis-services/state --store-key signer
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec=60
Restart=on-failure
RestartSec=5
"""
    network = "Wants=network-online.target\n" if system else ""
    after = f"Requires={PLATFORM}\n{network}After={PLATFORM}" + (" network-online.target" if system else "")
    return _unit("attestation, keys, provisioning", after, service, SERVICES_CAPABILITIES, system=system)


def _unit(subject: str, order: str, service: str, capabilities: str, *, system: bool) -> str:
    hardening = _BOTH + _SYSTEM.format(capabilities=capabilities) * system
    order = f"{order}\n" if order else ""
    target = "multi-user.target" if system else "default.target"
    return (
        f"{MARK}[Unit]\nDescription=Kluis: {subject}\n{order}\n[Service]\n{service}{hardening}\n"
        f"[Install]\nWantedBy={target}\n"
    )
