"""Instances of the attestation service, as resources: ``az attestation`` is an extension, not on PyPI."""

from __future__ import annotations

import secrets

from command import World, scenario

TYPE = "Microsoft.Attestation/attestationProviders"
VERSION = ("--api-version", "2021-06-01")


@scenario("az resource create, show, list, tag, update, delete; az group list; az provider show")
def an_instance(world: World) -> None:
    name, group = f"cli{secrets.token_hex(5)}", f"rg{secrets.token_hex(5)}"
    here = ("-g", group, "-n", name, "--resource-type", TYPE)
    made = world.az("resource", "create", *here, "-l", "local", "-p", "{}", *VERSION)
    assert made["properties"]["attestUri"] == f"{world.attestation}/instances/{name}"
    one = ("--ids", made["id"])
    # Without a version of the API, it is looked up.
    assert world.az("resource", "show", *one)["properties"]["status"] == "Ready"
    assert [each["name"] for each in world.az("resource", "list", "-g", group)] == [name]
    assert name in [each["name"] for each in world.az("resource", "list", "--resource-type", TYPE)]
    assert world.az("resource", "tag", *one, "--tags", "a=b", *VERSION)["tags"] == {"a": "b"}
    changed = world.az("resource", "update", *one, "--set", "tags.c=d", *VERSION)
    assert changed["tags"] == {"a": "b", "c": "d"}
    assert group in [each["name"] for each in world.az("group", "list")]
    assert world.az("provider", "show", "-n", "Microsoft.Attestation")["registrationState"] == "Registered"
    world.az("resource", "delete", *one, *VERSION)
    world.refused("NotFound", "resource", "show", *one, *VERSION)
