// What a scenario is, and the world that it runs in: addresses, credentials, clients, and a forger to ask.
// This and the modules of scenarios run with Azure's clients of NODE_PATH; nothing here knows Kluis.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const https = require("node:https");

const { AttestationManagementClient } = require("@azure/arm-attestation");
const { AttestationAdministrationClient, AttestationClient } = require("@azure/attestation");
const { ClientSecretCredential } = require("@azure/identity");
const { CryptographyClient, KeyClient } = require("@azure/keyvault-keys");
const jsrsasign = require("jsrsasign");

const ATTEST = "https://attest.azure.net/.default";
const MANAGEMENT = "https://management.azure.com/.default";
const PERMIT = "version=1.0; authorizationrules{=> permit();}; issuancerules{};";
const SCENARIOS = [];

/** Declare a scenario: listing.py reads these lines without running them. */
function scenario(name, call, run) {
  SCENARIOS.push({ name, call, run });
}

/** The services as they run, and who asks them. */
class World {
  /**
   * @param told addresses and secrets, as the other side gave them.
   * @param ask sends the other side a wish, and gives what comes back.
   */
  constructor(told, ask) {
    this.attestation = told.attestation;
    this.vault = told.keyvault;
    this.authorization = told.authorization;
    this.ca = told.ca;
    this.secrets = told.secrets;
    this.proofs = told.proofs;
    this.fakes = told.fakes;
    this.ask = ask;
    this.credentials = new Map();
  }

  /** The vault by a name, as Azure's vaults have: these clients hold a challenge against names. */
  get namedVault() {
    return `https://mine.vault.localhost:${new URL(this.vault).port}`;
  }

  /** One of the development issuer's clients, by @azure/identity. */
  credential(name = "admin", secret = this.secrets[name], more = {}) {
    const at = this.authorization.lastIndexOf("/");
    const authorityHost = this.authorization.slice(0, at);
    const options = { authorityHost, disableInstanceDiscovery: true, ...this.usual, ...more };
    return new ClientSecretCredential(this.authorization.slice(at + 1), name, secret, options);
  }

  /** The same, one for all scenarios, which remembers its tokens. */
  known(name) {
    if (!this.credentials.has(name)) this.credentials.set(name, this.credential(name));
    return this.credentials.get(name);
  }

  /** What every client is given: no patience. */
  get usual() {
    return { retryOptions: { maxRetries: 0 } };
  }

  /** AttestationClient; with a credential it forgets its options, so each call must be told them. */
  attester(url = this.attestation, name = "workload") {
    return new AttestationClient(url, this.known(name), this.usual);
  }

  /** What a call of it is told: to check the issuer, too. */
  checked(url = this.attestation) {
    return { validationOptions: validation(url) };
  }

  /** AttestationAdministrationClient, which checks the issuer too. */
  owner(url = this.attestation, name = "admin", more = {}) {
    return new AttestationAdministrationClient(url, this.known(name), {
      validationOptions: validation(url),
      ...this.usual,
      ...more,
    });
  }

  /** AttestationManagementClient. */
  manager(name = "admin", more = {}) {
    return new AttestationManagementClient(this.known(name), "subscription", {
      endpoint: this.attestation,
      credentialScopes: MANAGEMENT,
      credentials: { scopes: [MANAGEMENT] },
      ...this.usual,
      ...more,
    });
  }

  /** KeyClient, with its check of the challenge on. */
  keys(name = "admin", more = {}) {
    return new KeyClient(this.namedVault, this.known(name), { ...this.usual, ...more });
  }

  /** CryptographyClient of a key, or of a key's name. */
  cryptography(key, name = "admin", more = {}) {
    return new CryptographyClient(key, this.known(name), { ...this.usual, ...more });
  }

  /** Run something with the address of an instance of its own, which is made and deleted. */
  async instance(properties, run) {
    const providers = this.manager().attestationProviders;
    const name = fresh("i");
    const made = await providers.create("group", name, { location: "local", properties });
    try {
      return await run(made.attestUri, name);
    } finally {
      await providers.delete("group", name);
    }
  }

  /** Ask the other side for evidence; bytes go and come as hex. */
  async forged(kind, wanted = {}) {
    const given = Object.entries(wanted).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? `hex:${Buffer.from(value).toString("hex")}` : value,
    ]);
    const made = await this.ask({ forge: kind, ...Object.fromEntries(given) });
    return Object.fromEntries(
      Object.entries(made).map(([name, text]) => [name, Buffer.from(text.slice(4), "hex")]),
    );
  }

  /** An SGX quote whose report data are the hash of `data`. */
  async quote(data = Buffer.alloc(0), wanted = {}) {
    return (await this.forged("sgx", { report_data: bound(data), ...wanted })).quote;
  }

  /** Send what no client has a method for; gives status, headers and text. */
  send(method, url, { body, headers = {} } = {}) {
    return new Promise((resolve, reject) => {
      const request = https.request(url, { method, headers }, (response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("end", () =>
          resolve({
            status: response.statusCode,
            headers: response.headers,
            text: Buffer.concat(parts).toString(),
          }),
        );
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  /** The token of an SGX enclave, as text. */
  async token(data, url = this.attestation) {
    const { token } = await this.attester(url).attestSgxEnclave(await this.quote(data), {
      runTimeJson: data,
    });
    return token.serialize();
  }
}

/** What tokens are held to: everything that the client can check. */
function validation(issuer, more = {}) {
  return {
    validateToken: true,
    validateExpirationTime: true,
    validateNotBeforeTime: true,
    validateIssuer: true,
    expectedIssuer: issuer,
    ...more,
  };
}

/** One who signs policies: a key and a certificate, PEM, made by jsrsasign. */
class Signer {
  constructor(name, type = "rsa") {
    const options = type === "rsa" ? { modulusLength: 2048 } : { namedCurve: "P-256" };
    const { privateKey, publicKey } = crypto.generateKeyPairSync(type, options);
    this.privateKey = privateKey.export({ type: "pkcs8", format: "pem" });
    const zulu = (days) =>
      new Date(Date.now() + days * 86400000).toISOString().replace(/[-:T]/g, "").slice(2, 14) + "Z";
    this.certificate = new jsrsasign.KJUR.asn1.x509.Certificate({
      version: 3,
      serial: { hex: "01" + crypto.randomBytes(8).toString("hex") },
      issuer: { str: `/CN=${name}` },
      notbefore: zulu(-1),
      notafter: zulu(30),
      subject: { str: `/CN=${name}` },
      sbjpubkey: publicKey.export({ type: "spki", format: "pem" }),
      ext: [{ extname: "basicConstraints", cA: true, critical: true }],
      sigalg: type === "rsa" ? "SHA256withRSA" : "SHA256withECDSA",
      cakey: jsrsasign.KEYUTIL.getKey(this.privateKey),
    }).getPEM();
  }

  /** As the clients' methods take it. */
  get signing() {
    return { privateKey: this.privateKey, certificate: this.certificate };
  }

  /** The certificate, DER. */
  get der() {
    return new crypto.X509Certificate(this.certificate).raw;
  }

  /** As the management client takes it. */
  get jwk() {
    return { kty: "RSA", x5C: [this.der.toString("base64")] };
  }

  /** SHA-1 in capital hex. */
  get thumbprint() {
    return crypto.createHash("sha1").update(this.der).digest("hex").toUpperCase();
  }
}

const signers = new Map();

/** A signer of this name, made once: keys are dear. */
function signer(name) {
  if (!signers.has(name)) signers.set(name, new Signer(name));
  return signers.get(name);
}

let environment = null;

/** The key of an environment that keys are released to. */
function recipient() {
  environment ??= crypto.generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  return environment;
}

/** Runtime data with the environment's public key, JSON. */
function runtime(more = {}) {
  const { n, e } = crypto.createPublicKey(recipient()).export({ format: "jwk" });
  const jwk = { kid: "ephemeral", kty: "RSA", key_ops: ["encrypt"], n, e };
  return Buffer.from(JSON.stringify({ keys: [jwk], ...more }));
}

/** A policy that wants these claims of one authority. */
function releasePolicy(authority, claims, more = {}) {
  const allOf = Object.entries(claims).map(([claim, equals]) => ({ claim, equals }));
  const document = { version: "1.0.0", anyOf: [{ authority, allOf }] };
  return { encodedPolicy: Buffer.from(JSON.stringify(document)), ...more };
}

/** SHA-256. */
function sha256(data) {
  return crypto.createHash("sha256").update(data).digest();
}

/** Report data that are bound to `data`. */
function bound(data) {
  return Buffer.concat([sha256(data), Buffer.alloc(32)]);
}

/** Header and claims of a token, not checked. */
function partsOf(token) {
  return token.split(".", 2).map((part) => JSON.parse(Buffer.from(part, "base64url").toString()));
}

/** A name that nobody has. */
function fresh(prefix) {
  return prefix + crypto.randomBytes(5).toString("hex");
}

/** Everything that an asynchronous iterator gives. */
async function all(iterator) {
  const found = [];
  for await (const each of iterator) found.push(each);
  return found;
}

/**
 * Want a client to raise the RestError of this status and code; gives `error` of the answer.
 *
 * What the clients leave out of a page's refusal, or name otherwise, is read from the answer as it came.
 */
async function refused(status, code, call, message = "") {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    assert.equal(error.statusCode, status, `want ${status} ${code}, got ${error.stack}`);
    assert.equal(error.name, "RestError");
    const body = error.response.bodyAsText;
    const said = body === undefined ? (error.details?.error ?? error) : JSON.parse(body).error;
    assert.equal(said.code, code);
    assert.ok(said.message.includes(message), `want ${message} in ${said.message}`);
    return said;
  }
  throw new Error(`want ${status} ${code}, got an answer: ${JSON.stringify(answer)}`);
}

module.exports = {
  ATTEST,
  PERMIT,
  SCENARIOS,
  Signer,
  World,
  all,
  bound,
  fresh,
  partsOf,
  recipient,
  refused,
  releasePolicy,
  runtime,
  scenario,
  sha256,
  signer,
  validation,
};
