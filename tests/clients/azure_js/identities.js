// Clients without a secret: certificates, federated assertions, managed identities, and the chain of all.
"use strict";

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { promisify } = require("node:util");

const {
  ClientAssertionCredential,
  ClientCertificateCredential,
  DefaultAzureCredential,
  EnvironmentCredential,
  ManagedIdentityCredential,
  WorkloadIdentityCredential,
} = require("@azure/identity");
const { ATTEST, partsOf, scenario } = require("./scenario.js");

const run = promisify(execFile);
const VAULT = "https://vault.azure.net/.default";

/** The issuer's tenant, and what every credential of a confidential client is given. */
function at(world) {
  const [, authorityHost, tenant] = world.authorization.match(/(.*)\/(.*)/);
  return { tenant, options: { authorityHost, disableInstanceDiscovery: true, ...world.usual } };
}

/** Whom a token is of, and how that was shown. */
function shown({ token }) {
  const [, claims] = partsOf(token);
  return [claims.sub, claims.appidacr];
}

/** A resource that nobody asked for: managed identities remember their tokens for the whole process. */
function anew() {
  return `https://${crypto.randomBytes(5).toString("hex")}.example/.default`;
}

/** A token of the cluster for its account, as it lies in a pod's file. */
function account({ proofs }, more = {}) {
  const { issuer, subject, kid, key } = proofs.cluster;
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, sub: subject, aud: ["api://AzureADTokenExchange"], nbf: now, exp: now + 3600 };
  const parts = [
    { alg: "RS256", kid },
    { ...claims, ...more },
  ];
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${crypto.sign("sha256", Buffer.from(signed), fs.readFileSync(key)).toString("base64url")}`;
}

/** Run something with a file of a token. */
async function withFile(token, use) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "kluis-clients-"));
  const file = path.join(folder, "token");
  fs.writeFileSync(file, token);
  try {
    return await use(file);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** Run something with variables of the environment. */
async function withVariables(given, use) {
  Object.assign(process.env, given);
  try {
    return await use();
  } finally {
    for (const name of Object.keys(given)) delete process.env[name];
  }
}

scenario(
  "client_certificate",
  "ClientCertificateCredential, with its chain or without, of another client, in another tenant",
  async (world) => {
    const { tenant, options } = at(world);
    const { workload, reader } = world.proofs.certificates;
    for (const more of [{}, { sendCertificateChain: true }]) {
      const made = new ClientCertificateCredential(tenant, "workload", workload, { ...options, ...more });
      assert.deepEqual(shown(await made.getToken(ATTEST)), ["workload", "2"]);
      assert.deepEqual(shown(await made.getToken(VAULT)), ["workload", "2"]);
    }
    const others = new ClientCertificateCredential(tenant, "workload", reader, options);
    await assert.rejects(others.getToken(ATTEST), /AADSTS700027: client assertion header: want a certificate/);
    const nowhere = new ClientCertificateCredential(crypto.randomUUID(), "workload", workload, options);
    await assert.rejects(nowhere.getToken(ATTEST), /endpoints_resolution_error/);
  },
);

scenario(
  "workload_identity",
  "WorkloadIdentityCredential, ClientAssertionCredential: a cluster's token; of another account, too late",
  async (world) => {
    const { tenant, options } = at(world);
    await withFile(account(world), async (file) => {
      const given = { tenantId: tenant, clientId: "workload", tokenFilePath: file, ...options };
      assert.deepEqual(shown(await new WorkloadIdentityCredential(given).getToken(ATTEST)), ["workload", "2"]);
    });
    const ask = (more) => {
      const text = async () => account(world, more);
      return new ClientAssertionCredential(tenant, "workload", text, options).getToken(ATTEST);
    };
    assert.deepEqual(shown(await ask({})), ["workload", "2"]);
    await assert.rejects(ask({ sub: "system:serviceaccount:sums:other" }), /AADSTS700213: client assertion sub/);
    await assert.rejects(ask({ exp: 1 }), /AADSTS700024: client assertion exp/);
  },
);

scenario(
  "managed_identity_of_a_machine",
  "ManagedIdentityCredential, DefaultAzureCredential as on a virtual machine; another identity",
  (world) =>
    withVariables({ AZURE_POD_IDENTITY_AUTHORITY_HOST: world.proofs.machine }, async () => {
      const made = [new ManagedIdentityCredential(), new ManagedIdentityCredential({ clientId: "workload" })];
      for (const one of [...made, new DefaultAzureCredential()]) {
        assert.deepEqual(shown(await one.getToken(anew())), ["workload", "0"], one.constructor.name);
      }
      const other = new ManagedIdentityCredential({ clientId: "admin", ...world.usual });
      await assert.rejects(other.getToken(anew()), /client_id: want workload or none, got 'admin'/);
    }),
);

/** What a process of its own does: prints whom it has a token of, or why it has none. */
const APPLICATION = `
  const { ManagedIdentityCredential } = require("@azure/identity");
  new ManagedIdentityCredential({ retryOptions: { maxRetries: 0 } }).getToken(process.argv[1]).then(
    ({ token }) => console.log(Buffer.from(token.split(".")[1], "base64url").toString()),
    (error) => console.log(JSON.stringify({ error: error.message })),
  );
`;

scenario(
  "managed_identity_of_an_application",
  "ManagedIdentityCredential as in App Service, whose header is the client's secret; with another",
  async ({ proofs, secrets }) => {
    // A process keeps to the first kind of endpoint that it finds, so each of these is its own.
    const ask = async (header) => {
      const env = { ...process.env, IDENTITY_ENDPOINT: proofs.application, IDENTITY_HEADER: header };
      const { stdout } = await run(process.execPath, ["-e", APPLICATION, ATTEST], { env });
      return JSON.parse(stdout);
    };
    const claims = await ask(secrets.workload);
    assert.deepEqual([claims.sub, claims.appidacr], ["workload", "1"]);
    assert.ok((await ask("guess")).error);
  },
);

scenario(
  "the_default_chain",
  "EnvironmentCredential, DefaultAzureCredential: of a certificate, of a cluster's file",
  async (world) => {
    const { tenant, options } = at(world);
    const given = {
      AZURE_TENANT_ID: tenant,
      AZURE_CLIENT_ID: "workload",
      AZURE_AUTHORITY_HOST: options.authorityHost,
    };
    const certificate = { AZURE_CLIENT_CERTIFICATE_PATH: world.proofs.certificates.workload };
    await withVariables({ ...given, ...certificate }, async () => {
      for (const cls of [EnvironmentCredential, DefaultAzureCredential]) {
        const found = await new cls({ disableInstanceDiscovery: true }).getToken(ATTEST);
        assert.deepEqual(shown(found), ["workload", "2"], cls.name);
      }
    });
    await withFile(account(world), (file) =>
      withVariables({ ...given, AZURE_FEDERATED_TOKEN_FILE: file }, async () => {
        const found = await new DefaultAzureCredential({ disableInstanceDiscovery: true }).getToken(VAULT);
        assert.deepEqual(shown(found), ["workload", "2"]);
      }),
    );
  },
);
