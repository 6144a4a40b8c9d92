"""The containers of instances, as Azure's command line requests them: subscriptions, groups, lists of
resources.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.attestation.control_plane.test_providers import ARM, ONE, make
from tests.services.attestation.world import World, error_of

FIRST = "00000000-0000-4000-8000-6b6c75697300"
KIND = "Microsoft.Attestation/attestationProviders"


@pytest.fixture
def three(world: World) -> World:
    """A service with three instances, in two subscriptions and three groups."""
    for path, tags in (
        (ONE, {"a": "b", "c": "d"}),
        (ONE.replace("p1", "p2").replace("/s/", "/S/").replace("/rg/", "/Other/"), {}),
        (ONE.replace("p1", "p3").replace("/s/", "/t/"), {}),
    ):
        assert make(world, path, tags=tags).status_code == 201
    return world


def listed(world: World, path: str, *roles: str) -> list[Any]:
    """The names in a list."""
    answer = world.owner("GET", f"{path}{'&' if '?' in path else '?'}{ARM}", *roles)
    assert answer.status_code == 200, answer.text
    return [each.get("name") or each.get("subscriptionId") for each in answer.json()["value"]]


def test_a_subscription_to_begin_with(world: World) -> None:
    """A client that signs in finds one before anything was made."""
    assert listed(world, "/subscriptions") == [FIRST]
    one = world.owner("GET", f"/subscriptions/{FIRST}?{ARM}", "Reader").json()
    assert (one["id"], one["subscriptionId"], one["state"]) == (f"/subscriptions/{FIRST}", FIRST, "Enabled")


def test_subscriptions(three: World) -> None:
    """Each subscription of an instance is listed once, whatever its case."""
    assert [each.lower() for each in listed(three, "/subscriptions", "Reader")] == [FIRST, "s", "t"]


def test_who_sees_subscriptions(three: World) -> None:
    """One whose roles show no instance sees an empty list, as on Azure; one without a token is sent away."""
    assert listed(three, "/subscriptions", "Attestation Reader") == []
    assert three.ask("GET", f"/subscriptions?{ARM}").status_code == 401
    for path in (f"/subscriptions/{FIRST}", "/subscriptions/s/resources", "/subscriptions/s/resourceGroups"):
        assert three.owner("GET", f"{path}?{ARM}", "Attestation Reader").status_code == 403, path


def test_groups(three: World) -> None:
    """A resource group is one that has an instance."""
    assert listed(three, "/subscriptions/s/resourcegroups") == ["rg", "Other"]
    one = three.owner("GET", f"/subscriptions/s/resourcegroups/other?{ARM}").json()
    assert (one["name"], one["properties"]) == ("Other", {"provisioningState": "Succeeded"})
    assert one["id"] == "/subscriptions/S/resourceGroups/Other"
    gone = three.owner("GET", f"/subscriptions/t/resourceGroups/Other?{ARM}")
    assert error_of(gone) == (404, "NotFound", "resource group: want one that has an instance, got 'Other'")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["p1", "p2"]),
        (f"$filter=resourceType eq '{KIND}'", ["p1", "p2"]),
        ("$filter=resourceType eq 'Microsoft.KeyVault/vaults'", []),
        ("$filter=name eq 'P1'", ["p1"]),
        ("$filter=resourceGroup eq 'other' and location eq 'local'", ["p2"]),
        ("$filter=resourceGroup eq 'other' and location eq 'Lo cal'", ["p2"]),
        ("$filter=tagName eq 'a' and tagValue eq 'b'&$expand=createdTime", ["p1"]),
        (f"$filter=name eq 'p1'{' ' * 1012} and location eq 'nowhere'", []),
        ("$filter=tagName eq 'b'", []),
        ("$filter=tagName eq 'a' and tagValue eq 'd'", []),
        ("$filter=tagValue eq 'D' and tagName eq 'C'", ["p1"]),
    ],
)
def test_resources(three: World, query: str, names: list[str]) -> None:
    """They are listed, all or those that a filter names."""
    assert listed(three, f"/subscriptions/s/resources?{query}") == names


def test_resources_of_a_group(three: World) -> None:
    """A single group's, too."""
    assert listed(three, "/subscriptions/s/resourceGroups/rg/resources") == ["p1"]


@pytest.mark.parametrize(
    "text",
    ["name", "name ne 'a'", "kind eq 'a'", "name eq 'a' or name eq 'b'", "name eq 'a' and name eq 'b'"],
)
def test_a_filter_that_is_not_understood(three: World, text: str) -> None:
    """It is refused: if it were ignored, unrequested resources would be listed."""
    answer = three.owner("GET", f"/subscriptions/s/resources?$filter={text}&{ARM}")
    assert error_of(answer)[:2] == (400, "InvalidParameter")


def test_what_is_made_here(world: World) -> None:
    """A client that names no version of the API looks for it here."""
    path = "/subscriptions/s/providers"
    one = world.owner("GET", f"{path}/Microsoft.Attestation?{ARM}").json()
    assert one["registrationState"] == "Registered"
    assert one["resourceTypes"][0] == {
        "resourceType": "attestationProviders",
        "locations": ["local"],
        "apiVersions": ["2021-06-01"],
    }
    assert world.owner("GET", f"{path}?{ARM}").json()["value"] == [one]


def test_a_slash_more(world: World) -> None:
    """``az resource create`` writes a slash where a parent resource would be."""
    path = ONE.replace("Attestation/", "Attestation//")
    assert make(world, path).status_code == 201
    assert world.owner("GET", f"{path}?{ARM}").json() == world.owner("GET", f"{ONE}?{ARM}").json()
    assert world.owner("PATCH", f"{path}?{ARM}", json={"tags": {"a": "b"}}).json()["tags"] == {"a": "b"}
    assert world.owner("DELETE", f"{path}?{ARM}").status_code == 200
