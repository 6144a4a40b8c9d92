"""The control plane's HTTP operations: Azure Resource Manager's operations on attestation providers."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from kluis.services.attestation.authors import Author, author_of
from kluis.services.attestation.control_plane.provider_requests import ProviderRequest
from kluis.services.attestation.control_plane.providers import TYPE, Providers
from kluis.services.attestation.control_plane.resource_manager import ResourceManager
from kluis.services.attestation.engine import Engine
from kluis.services.attestation.faults import Missing
from kluis.services.attestation.gate import MANAGE, VIEW
from kluis.services.clock import Clock
from kluis.services.web import Answer, Call, Operation

_SUBSCRIPTION: Final = "/subscriptions/{subscription}"
_GROUP: Final = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_IN_GROUP: Final = f"{_GROUP}/providers/{TYPE}"
_ONE: Final = f"{_IN_GROUP}/{{name}}"
_SPACE: Final = "Microsoft.Attestation"
# As Azure's command line writes a resource without a parent.
_ONE_SLASHED: Final = _ONE.replace(f"{_SPACE}/", f"{_SPACE}//")
_VERBS: Final = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
# The actions on an instance that roles can allow, by the last part of Azure's names for them.
_OF_DATA: Final = {
    "read": "Attest a TPM; see policies and their signers.",
    "write": "Set policies; add and remove their signers.",
    "delete": "Nothing: to reset a policy is to write.",
}


class ControlPlane:
    """Answers requests.

    Args:
        engine: the service.
        clock: returns the time.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._providers = Providers(
            engine.settings,
            engine.storage,
            engine.instances,
            engine.policies,
            engine.certificates,
            engine.keys,
        )
        self._clock = clock
        declared = self._declare()
        slashed = tuple(
            dataclasses.replace(each, name=f"{each.name}Slashed", path=_ONE_SLASHED)
            for each in declared
            if each.path == _ONE
        )
        self._operations = (*ResourceManager(self._providers).operations, *declared, *slashed)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations."""
        return self._operations

    def _declare(self) -> tuple[Operation, ...]:
        links = f"{_ONE}/privateEndpointConnections"
        return (
            Operation("CreateProvider", "PUT", _ONE, self._put, "Make an instance.", MANAGE, ProviderRequest),
            Operation("GetProvider", "GET", _ONE, self._get, "Say what an instance is.", VIEW),
            Operation(
                "UpdateProvider", "PATCH", _ONE, self._patch, "Change an instance.", MANAGE, ProviderRequest
            ),
            Operation("DeleteProvider", "DELETE", _ONE, self._delete, "Delete an instance.", MANAGE),
            Operation(
                "ListProvidersOfGroup", "GET", _IN_GROUP, self._list, "List a group's instances.", VIEW
            ),
            Operation(
                "ListProviders",
                "GET",
                f"{_SUBSCRIPTION}/providers/{TYPE}",
                self._list,
                "List a subscription's instances.",
                VIEW,
            ),
            Operation(
                "ListDefaultProviders",
                "GET",
                f"{_SUBSCRIPTION}/providers/{_SPACE}/defaultProviders",
                self._defaults,
                "List the default instance.",
                VIEW,
            ),
            Operation(
                "GetDefaultProvider",
                "GET",
                f"{_SUBSCRIPTION}/providers/{_SPACE}/locations/{{location}}/defaultProvider",
                self._default,
                "Say what the default instance is.",
                VIEW,
            ),
            Operation(
                "ListPrivateEndpoints", "GET", links, self._none, "List private endpoints: none.", VIEW
            ),
            Operation(
                "GetPrivateEndpoint", "GET", f"{links}/{{link}}", self._no_link, "There is none.", VIEW
            ),
            Operation(
                "SetPrivateEndpoint", "PUT", f"{links}/{{link}}", self._no_link, "There is none.", MANAGE
            ),
            Operation(
                "DeletePrivateEndpoint",
                "DELETE",
                f"{links}/{{link}}",
                self._link_gone,
                "There is none.",
                MANAGE,
            ),
            Operation(
                "ListPrivateLinks",
                "GET",
                f"{_ONE}/privateLinkResources",
                self._none,
                "List links: none.",
                VIEW,
            ),
            Operation(
                "ListOperations",
                "GET",
                f"/providers/{_SPACE}/operations",
                self._list_operations,
                "List these operations.",
            ),
        )

    def _put(self, call: Call) -> Answer:
        request = call.json(ProviderRequest)
        made, new = self._providers.put(*_names_of(call), request, _author(call), self._clock.now())
        # Not Azure's Location header, but the instance's own address: az fetches the resource from there.
        return Answer(made, status=201 if new else 200)

    def _get(self, call: Call) -> Answer:
        return Answer(self._providers.get(*_names_of(call)))

    def _patch(self, call: Call) -> Answer:
        request = call.json(ProviderRequest)
        return Answer(self._providers.patch(*_names_of(call), request, _author(call), self._clock.now()))

    def _delete(self, call: Call) -> Answer:
        return Answer(status=200 if self._providers.delete(*_names_of(call)) else 204)

    def _list(self, call: Call) -> Answer:
        providers = self._providers.find_all(call.path["subscription"], call.path.get("group"))
        return Answer({"value": providers})

    def _defaults(self, call: Call) -> Answer:
        return Answer({"value": [self._providers.default()]})

    def _default(self, call: Call) -> Answer:
        return Answer(self._providers.default(call.path["location"]))

    def _none(self, call: Call) -> Answer:
        self._providers.get(*_names_of(call))
        return Answer({"value": []})

    def _no_link(self, call: Call) -> Answer:
        self._providers.get(*_names_of(call))
        raise Missing(
            f"private endpoint: want one that there is, got {call.path['link'][:64]!a}: there are none"
        )

    def _link_gone(self, call: Call) -> Answer:
        self._providers.get(*_names_of(call))
        return Answer(status=204)

    def _list_operations(self, call: Call) -> Answer:
        return Answer({"value": list(_actions(self._operations).values())})


def _actions(operations: tuple[Operation, ...]) -> dict[str, dict[str, Any]]:
    """The actions that roles can allow, in Azure's form: a resource type, and an operation on it."""
    shown: dict[str, dict[str, Any]] = {}
    for verb, description in _OF_DATA.items():
        name = f"{TYPE}/attestation/{verb}"
        display = {
            "provider": _SPACE,
            "resource": "attestationProviders/attestation",
            "operation": f"{verb.capitalize()}Attestation",
            "description": description,
        }
        shown[name] = {"name": name, "display": display}
    for each in operations:
        after = each.path.partition(f"{_SPACE}/")[2]
        if each.access is None or not after or after[0] == "/":
            continue
        kinds = [part for part in after.split("/") if part[0] != "{"]
        name = "/".join([_SPACE, *kinds, _VERBS[each.method]])
        display = {
            "provider": _SPACE,
            "resource": "/".join(kinds),
            "operation": each.name,
            "description": each.summary,
        }
        shown.setdefault(name, {"name": name, "display": display})
    return shown


def _author(call: Call) -> Author | None:
    return None if call.caller is None else author_of(call.caller)


def _names_of(call: Call) -> tuple[str, str, str]:
    return call.path["subscription"], call.path["group"], call.path["name"]
