// Tokens, by @azure/identity from the development issuer; and what vaults answer who has none.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { spawn } = require("node:child_process");

const { DefaultAzureCredential, EnvironmentCredential } = require("@azure/identity");
const { KeyClient } = require("@azure/keyvault-keys");
const { ATTEST, fresh, partsOf, refused, scenario } = require("./scenario.js");

scenario(
  "client_secret",
  "ClientSecretCredential(authorityHost: the development issuer).getToken",
  async (world) => {
    const found = await world.credential("workload").getToken(ATTEST);
    const [, claims] = partsOf(found.token);
    assert.deepEqual([claims.aud, claims.sub], ["https://attest.azure.net", "workload"]);
    assert.ok(found.expiresOnTimestamp > Date.now());
    await assert.rejects(
      world.credential("workload", "wrong").getToken(ATTEST),
      /invalid_client|7000215|authenticat/i,
    );
  },
);

scenario(
  "credential_of_the_environment",
  "EnvironmentCredential, DefaultAzureCredential from AZURE_* variables",
  async (world) => {
    const at = world.authorization.lastIndexOf("/");
    const given = {
      AZURE_TENANT_ID: world.authorization.slice(at + 1),
      AZURE_CLIENT_ID: "workload",
      AZURE_CLIENT_SECRET: world.secrets.workload,
      AZURE_AUTHORITY_HOST: world.authorization.slice(0, at),
    };
    Object.assign(process.env, given);
    try {
      for (const cls of [EnvironmentCredential, DefaultAzureCredential]) {
        const found = await new cls({ disableInstanceDiscovery: true }).getToken(ATTEST);
        assert.equal(partsOf(found.token)[1].sub, "workload", cls.name);
      }
    } finally {
      for (const name of Object.keys(given)) delete process.env[name];
    }
  },
);

scenario(
  "stale_token",
  "K of a client whose tokens are stale: insufficient_claims, a newer token, and the answer",
  async (world) => {
    const name = fresh("k");
    await world.keys().createRsaKey(name);
    const stale = new KeyClient(world.namedVault, world.credential("stale"), world.usual);
    assert.equal((await stale.getKey(name)).name, name);
    assert.equal((await stale.getKey(name)).name, name);
  },
);

scenario("vault_by_number", "K as https://127.0.0.1:PORT", async (world) => {
  const keys = new KeyClient(world.vault, world.known("admin"), world.usual);
  const name = fresh("k");
  assert.equal((await keys.createRsaKey(name)).properties.vaultUrl, world.vault);
});

scenario("vault_unverified", "K with disableChallengeResourceVerification", async (world) => {
  const url = `https://localhost:${new URL(world.vault).port}`;
  const refusing = new KeyClient(url, world.known("admin"), world.usual);
  await assert.rejects(refusing.getKey("any"), /does not match the requested domain/);
  const keys = new KeyClient(url, world.known("admin"), {
    ...world.usual,
    disableChallengeResourceVerification: true,
  });
  await refused(404, "KeyNotFound", () => keys.getKey(fresh("k")));
});

/** What a process that is told of no authority does: ends with 0 where TLS is refused. */
const STRANGER = `
  const { AttestationClient } = require("@azure/attestation");
  new AttestationClient(process.argv[1], { retryOptions: { maxRetries: 0 } }).getOpenIdMetadata().then(
    () => process.exit(1),
    (error) => process.exit(/unable to verify|self-signed/.test(error.message) ? 0 : 2),
  );
`;

scenario("another_authority", "C in a process that does not know the authority of the TLS", async (world) => {
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const child = spawn(process.execPath, ["-e", STRANGER, world.attestation], { env, stdio: "ignore" });
  assert.deepEqual(await once(child, "exit"), [0, null]);
});
