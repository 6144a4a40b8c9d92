"""HTTP operations on the containers of instances: subscriptions, resource groups, and resource lists.

Azure's command line requests these before an instance. A subscription can have any name. A resource group
exists if and only if it has an instance. Spec: Azure Resource Manager, "Subscriptions" 2022-12-01, "Resource
Groups", "Resources" and "Providers" 2022-09-01.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kluis.services.attestation.control_plane.providers import TYPE, Providers, squeeze
from kluis.services.attestation.faults import InvalidParameter, Missing
from kluis.services.attestation.gate import KNOWN, ROLES, VIEW
from kluis.services.web import Answer, Call, Operation

API_VERSION: Final = "2021-06-01"
_SUBSCRIPTION: Final = "/subscriptions/{subscription}"
_GROUPS: Final = f"{_SUBSCRIPTION}/resourceGroups"
_SPACE, _, _KIND = TYPE.partition("/")
_KINDS: Final = (
    _KIND,
    f"{_KIND}/privateEndpointConnections",
    "defaultProviders",
    "locations/defaultProvider",
)
_CLAUSES: Final = ("location", "name", "resourcegroup", "resourcetype", "tagname", "tagvalue")
_CLAUSE: Final = re.compile(r"\s*(\w+)\s+eq\s+'([^']*)'\s*", re.ASCII)


class ResourceManager:
    """Answers requests.

    Args:
        providers: the instances.
    """

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations."""

        def one(name: str, path: str, handler: Any, summary: str, access: str = VIEW) -> Operation:
            return Operation(name, "GET", path, handler, summary, access)

        known = "List subscriptions: those that instances are in, and one to begin with."
        return (
            one("ListSubscriptions", "/subscriptions", self._subscriptions, known, KNOWN),
            one("GetSubscription", _SUBSCRIPTION, self._subscription, "Say what a subscription is."),
            one("ListNamespaces", f"{_SUBSCRIPTION}/providers", self._namespaces, "List what is made here."),
            one(
                "GetNamespace",
                f"{_SUBSCRIPTION}/providers/{_SPACE}",
                self._namespace,
                "Say what is made here, and in which version of the API.",
            ),
            one("ListGroups", _GROUPS, self._groups, "List resource groups: those with instances."),
            one("GetGroup", f"{_GROUPS}/{{group}}", self._group, "Say what a resource group is."),
            one("ListResources", f"{_SUBSCRIPTION}/resources", self._resources, "List resources."),
            one(
                "ListResourcesOfGroup",
                f"{_GROUPS}/{{group}}/resources",
                self._resources,
                "List a resource group's resources.",
            ),
        )

    def _subscriptions(self, call: Call) -> Answer:
        roles = call.caller.roles if call.caller is not None else ()
        sees = any(VIEW in ROLES.get(role, ()) for role in roles)
        return Answer({"value": [_subscription(each) for each in self._providers.subscriptions() if sees]})

    def _subscription(self, call: Call) -> Answer:
        return Answer(_subscription(call.path["subscription"]))

    def _namespaces(self, call: Call) -> Answer:
        return Answer({"value": [self._describe(call)]})

    def _namespace(self, call: Call) -> Answer:
        return Answer(self._describe(call))

    def _describe(self, call: Call) -> dict[str, Any]:
        places = [self._providers.default()["location"]]
        return {
            "id": f"/subscriptions/{call.path['subscription']}/providers/{_SPACE}",
            "namespace": _SPACE,
            "registrationState": "Registered",
            "resourceTypes": [
                {"resourceType": each, "locations": places, "apiVersions": [API_VERSION]} for each in _KINDS
            ],
        }

    def _groups(self, call: Call) -> Answer:
        return Answer({"value": list(self._groups_of(call).values())})

    def _group(self, call: Call) -> Answer:
        group = call.path["group"]
        resource = self._groups_of(call).get(group.lower())
        if resource is None:
            raise Missing(f"resource group: want one that has an instance, got {group[:90]!a}")
        return Answer(resource)

    def _groups_of(self, call: Call) -> dict[str, dict[str, Any]]:
        """The resource groups of a subscription, by name in lower case."""
        made: dict[str, dict[str, Any]] = {}
        for each in self._providers.find_all(call.path["subscription"]):
            where = each["id"].partition("/providers/")[0]
            name = where.rpartition("/")[2]
            made.setdefault(name.lower(), {
                "id": where, "name": name, "type": "Microsoft.Resources/resourceGroups",
                "location": each["location"], "properties": {"provisioningState": "Succeeded"},
            })  # fmt: skip
        return made

    def _resources(self, call: Call) -> Answer:
        wanted = _parse_filter(call.query.get("$filter", ""))
        providers = self._providers.find_all(call.path["subscription"], call.path.get("group"))
        return Answer({"value": [each for each in providers if _fits(each, wanted)]})


def _parse_filter(text: str) -> dict[str, str]:
    """A filter's clauses, by name in lower case."""
    if not text:
        return {}
    made: dict[str, str] = {}
    for clause in re.split(r"\sand\s", text, flags=re.IGNORECASE):
        match = _CLAUSE.fullmatch(clause)
        name = "" if match is None else match[1].lower()
        if match is None or name not in _CLAUSES or name in made:
            raise InvalidParameter(
                f"$filter: want clauses of {', '.join(_CLAUSES)}, each once, as name eq 'p1', "
                f"got {clause[:80]!a}"
            )
        made[name] = match[2]
    return made


def _fits(resource: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether every clause matches, ignoring case; both clauses about tags must match the same tag."""
    one = {
        "name": resource["name"],
        "location": resource["location"],
        "resourcetype": TYPE,
        "resourcegroup": resource["id"].split("/")[4],
    }
    tags = [{"tagname": name, "tagvalue": value} for name, value in resource.get("tags", {}).items()]
    return any(_holds(one | tag, wanted) for tag in tags or [{}])


def _holds(facts: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(name in facts and _equal(name, facts[name], value) for name, value in wanted.items())


def _equal(name: str, fact: str, value: str) -> bool:
    """Whether a value matches a clause; a location also matches by its display name."""
    if name == "location":
        return squeeze(fact) == squeeze(value)
    return fact.lower() == value.lower()


def _subscription(name: str) -> dict[str, Any]:
    """The members of a subscription that Azure's clients read at sign-in."""
    return {
        "id": f"/subscriptions/{name}",
        "subscriptionId": name,
        "displayName": "Kluis",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
    }
