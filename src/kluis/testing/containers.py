"""A container of the services, for tests with testcontainers: docker's API, which Podman speaks, too.

It has the host's network, so the services are on the host's loopback, as ``kluis up`` starts them. Needs the
package ``testcontainers``, and the image that ``examples/deploy/container`` builds.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from docker.errors import APIError
from testcontainers.core.container import DockerContainer

import kluis
from kluis.errors import UnavailableError, foreign
from kluis.serve.cloud.variables import FOLDER

IMAGE: Final = f"localhost/kluis:{kluis.__version__}"
"""The image of this version."""
CAPABILITIES: Final = ("IPC_LOCK", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE")
"""What a platform in a container needs: locked memory, namespaces, and a guardian that attaches."""
START_SECONDS: Final = 1200.0
MOST_LOG: Final = 300
"""Characters of the log in an error."""
_LOOK_SECONDS: Final = 1.0
_ENDED: Final = frozenset({"exited", "stopped", "dead", "removing"})


class KluisContainer(DockerContainer):
    """The services in a container; use it in a ``with``.

    Args:
        folder: a folder of the host, mode 0700, for keys, images and the database. The container has it at
            the same path, so that clients read its files by the paths in :attr:`variables`.
        services: names.
        image: of Kluis.

    Attributes:
        variables: environment variables for clients, as ``kluis env`` prints them; none is a secret.
    """

    def __init__(self, folder: Path, services: Sequence[str] = ("all",), image: str = IMAGE) -> None:
        super().__init__(image, network_mode="host", cap_add=list(CAPABILITIES))
        self.variables: Mapping[str, str] = {}
        place = str(folder.absolute())
        self.with_volume_mapping(place, place, "rw")
        self.with_envs(**{FOLDER: place})
        self.with_command(["up", "--port", "0", *services])

    def start(self) -> Self:
        """Start the container, and wait until every service serves.

        Raises:
            UnavailableError: it ended, or took too long; with its last lines. It is removed.
        """
        super().start()
        try:
            self.variables = self._await_variables()
        except BaseException:
            self.stop()
            raise
        return self

    def _await_variables(self) -> dict[str, str]:
        """The variables for clients, once every service serves."""
        container = self.get_wrapped_container()
        end = time.monotonic() + START_SECONDS
        while True:
            container.reload()
            if container.status in _ENDED or time.monotonic() > end:
                log = " ".join(b"".join(self.get_logs()).decode("utf-8", "replace").split())
                why = foreign(log[-MOST_LOG:], MOST_LOG)
                raise UnavailableError(f"container: the services did not start: {why}")
            with contextlib.suppress(APIError):  # it has ended meanwhile, or does not run yet
                code, output = container.exec_run(["/opt/kluis/bin/kluis", "env", "--json"], stderr=False)
                if code == 0:
                    return dict(json.loads(output))
            time.sleep(_LOOK_SECONDS)
