// Instances, made and changed by the management client (ARM).
"use strict";

const assert = require("node:assert/strict");

const { fresh, refused, scenario, signer } = require("./scenario.js");

const HELLO = Buffer.from("hello");
const names = (found) => found.value.map((each) => each.name);

scenario(
  "provider",
  "M.attestationProviders.create, get, list, listByResourceGroup, update, delete",
  async (world) => {
    const providers = world.manager().attestationProviders;
    const name = fresh("p");
    const made = await providers.create("rg", name, { location: "local", tags: { a: "b" }, properties: {} });
    assert.deepEqual(
      [made.name, made.type, made.location],
      [name, "Microsoft.Attestation/attestationProviders", "local"],
    );
    assert.deepEqual([made.trustModel, made.status, made.tags.a], ["AAD", "Ready", "b"]);
    assert.match(
      made.id,
      new RegExp(`/resourceGroups/rg/providers/Microsoft.Attestation/attestationProviders/${name}$`),
    );
    const client = world.attester(made.attestUri);
    const { body } = await client.attestSgxEnclave(await world.quote(HELLO), {
      runTimeData: HELLO,
      ...world.checked(made.attestUri),
    });
    assert.equal(body.issuer, made.attestUri);
    assert.equal((await providers.get("rg", name)).attestUri, made.attestUri);
    assert.ok(names(await providers.list()).includes(name));
    assert.ok(names(await providers.listByResourceGroup("rg")).includes(name));
    assert.ok(!names(await providers.listByResourceGroup("another")).includes(name));
    assert.deepEqual((await providers.update("rg", name, { tags: { c: "d" } })).tags, { c: "d" });
    assert.deepEqual((await providers.get("rg", name)).tags, { c: "d" });
    await providers.delete("rg", name);
    await providers.delete("rg", name);
    await refused(404, "ResourceNotFound", () => providers.get("rg", name));
  },
);

scenario(
  "default_providers",
  "M.attestationProviders.listDefault, getDefaultByLocation, M.operations.list",
  async (world) => {
    const manager = world.manager();
    const found = await manager.attestationProviders.listDefault();
    assert.deepEqual(
      found.value.map((each) => each.attestUri),
      [world.attestation],
    );
    assert.equal(
      (await manager.attestationProviders.getDefaultByLocation("local")).attestUri,
      world.attestation,
    );
    await refused(404, "NotFound", () => manager.attestationProviders.getDefaultByLocation("elsewhere"));
    const actions = names(await manager.operations.list());
    for (const verb of ["read", "write", "delete"]) {
      assert.ok(actions.includes(`Microsoft.Attestation/attestationProviders/${verb}`));
    }
    assert.equal(new Set(actions).size, actions.length);
  },
);

scenario(
  "provider_isolated",
  "M.attestationProviders.create({policySigningCertificates}); keys that are none",
  async (world) => {
    const providers = world.manager().attestationProviders;
    await world.instance({ policySigningCertificates: { keys: [signer("mine").jwk] } }, async (url, name) => {
      assert.equal((await providers.get("group", name)).trustModel, "Isolated");
    });
    const wrong = { policySigningCertificates: { keys: [{ kty: "RSA", x5C: ["AAAA"] }] } };
    await refused(400, "InvalidParameter", () =>
      providers.create("group", fresh("p"), { location: "local", properties: wrong }),
    );
  },
);

scenario(
  "provider_by_others",
  "M.attestationProviders with a reader's token, and with a workload's",
  async (world) => {
    const reader = world.manager("reader").attestationProviders;
    await reader.list();
    await refused(403, "AuthorizationFailed", () =>
      reader.create("rg", fresh("p"), { location: "local", properties: {} }),
    );
    await refused(403, "AuthorizationFailed", () =>
      world.manager("workload").attestationProviders.list(),
    );
  },
);

scenario(
  "private_endpoints",
  "M.privateEndpointConnections.list, get, delete: there are none",
  async (world) => {
    const connections = world.manager().privateEndpointConnections;
    await world.instance({}, async (url, name) => {
      const found = [];
      for await (const each of connections.list("group", name)) found.push(each);
      assert.deepEqual(found, []);
      await refused(404, "NotFound", () => connections.get("group", name, "one"));
      await connections.delete("group", name, "one");
    });
  },
);

scenario("every_version_of_arm", "M of every apiVersion that these clients were made for", async (world) => {
  for (const apiVersion of ["2018-09-01-preview", "2020-10-01", "2021-06-01", "2021-06-01-preview"]) {
    const providers = world.manager("admin", { apiVersion }).attestationProviders;
    assert.ok((await providers.listDefault()).value.length === 1, apiVersion);
  }
});
