// Keys: made, brought, turned, deleted and brought back, by KeyClient.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");

const { all, fresh, refused, releasePolicy, scenario } = require("./scenario.js");

const QUICK = { intervalInMs: 10 };
const same = (one, other) => Buffer.from(one).equals(Buffer.from(other));

/** Delete and purge a key. */
async function gone(keys, name) {
  await (await keys.beginDeleteKey(name, QUICK)).pollUntilDone();
  await keys.purgeDeletedKey(name);
}

/** A private key as importKey takes it: numbers as bytes. */
function privateJwk(key) {
  const { kty, crv, ...numbers } = key.export({ format: "jwk" });
  const bytes = Object.entries(numbers).map(([name, text]) => [name, Buffer.from(text, "base64url")]);
  return {
    kty,
    ...(crv === undefined ? {} : { crv: crv === "secp256k1" ? "P-256K" : crv }),
    ...Object.fromEntries(bytes),
  };
}

scenario(
  "every_kind",
  "K.createRsaKey, createEcKey, createOctKey, createKey: every kind, curve and size",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    for (const curve of ["P-256", "P-384", "P-521", "P-256K"]) {
      const made = await keys.createEcKey(`${name}-${curve}`, { curve });
      assert.deepEqual([made.keyType, made.key.crv], ["EC", curve]);
      assert.equal(made.key.x.length, { "P-256": 32, "P-384": 48, "P-521": 66, "P-256K": 32 }[curve]);
      assert.equal((await keys.createEcKey(`${name}-${curve}`, { curve, hsm: true })).keyType, "EC-HSM");
    }
    for (const keySize of [2048, 3072, 4096]) {
      const made = await keys.createRsaKey(`${name}-${keySize}`, { keySize });
      assert.deepEqual([made.keyType, made.key.n.length, made.key.d], ["RSA", keySize / 8, undefined]);
      assert.ok(same(made.key.e, [1, 0, 1]));
    }
    assert.equal((await keys.createRsaKey(`${name}-hsm`, { hsm: true })).keyType, "RSA-HSM");
    for (const keySize of [128, 192, 256]) {
      const made = await keys.createOctKey(`${name}-oct`, { keySize, hsm: true });
      assert.deepEqual([made.keyType, made.key.k], ["oct-HSM", undefined]);
    }
    assert.equal((await keys.createKey(`${name}-any`, "EC")).keyType, "EC");
    const wrong = [
      () => keys.createRsaKey(name, { keySize: 512 }),
      () => keys.createKey(name, "RSB"),
      () => keys.createEcKey(name, { curve: "P-1" }),
      () => keys.createRsaKey("under_score"),
    ];
    for (const call of wrong) await refused(400, "BadParameter", call);
  },
);

scenario(
  "attributes",
  "K.createRsaKey, getKey, updateKeyProperties: times, tags, operations, a version",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const day = 86400000;
    const now = Math.floor(Date.now() / 1000) * 1000;
    const made = await keys.createRsaKey(name, {
      enabled: false,
      notBefore: new Date(now + day),
      expiresOn: new Date(now + 2 * day),
      keyOps: ["wrapKey", "unwrapKey"],
      tags: { a: "b" },
    });
    const { properties } = made;
    assert.deepEqual([properties.enabled, properties.tags], [false, { a: "b" }]);
    assert.deepEqual(
      [properties.notBefore, properties.expiresOn],
      [new Date(now + day), new Date(now + 2 * day)],
    );
    assert.ok(properties.createdOn instanceof Date && properties.updatedOn instanceof Date);
    assert.match(properties.version, /^[0-9a-f]{32}$/);
    assert.match(properties.recoveryLevel, /Recoverable/);
    assert.equal(properties.recoverableDays, 90);
    assert.equal(properties.vaultUrl, world.namedVault);
    assert.deepEqual(made.keyOperations, ["wrapKey", "unwrapKey"]);
    const found = await keys.getKey(name);
    assert.deepEqual([found.id, found.name, found.properties.tags], [made.id, name, { a: "b" }]);
    const changed = await keys.updateKeyProperties(name, {
      enabled: true,
      tags: { c: "d" },
      keyOps: ["sign"],
    });
    assert.deepEqual(
      [changed.properties.enabled, changed.properties.tags, changed.keyOperations],
      [true, { c: "d" }, ["sign"]],
    );
    const second = await keys.createRsaKey(name);
    await keys.updateKeyProperties(name, properties.version, { expiresOn: new Date(now + 3 * day) });
    assert.deepEqual(
      (await keys.getKey(name, { version: properties.version })).properties.expiresOn,
      new Date(now + 3 * day),
    );
    assert.equal((await keys.getKey(name)).id, second.id);
    assert.equal((await keys.getKey(name)).properties.expiresOn, undefined);
  },
);

scenario(
  "imported",
  "K.importKey: RSA, EC of every curve, oct; hardwareProtected; what is none",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    const jwk = privateJwk(privateKey);
    const made = await keys.importKey(name, jwk, { tags: { a: "b" } });
    assert.ok(same(made.key.n, jwk.n));
    assert.deepEqual([made.keyType, made.key.d, made.properties.tags], ["RSA", undefined, { a: "b" }]);
    const again = await keys.importKey(
      name,
      { ...jwk, keyOps: ["sign", "verify"] },
      { hardwareProtected: true, exportable: false },
    );
    assert.deepEqual([again.keyType, again.keyOperations], ["RSA-HSM", ["sign", "verify"]]);
    for (const namedCurve of ["P-256", "P-384", "P-521", "secp256k1"]) {
      const point = privateJwk(crypto.generateKeyPairSync("ec", { namedCurve }).privateKey);
      const kept = await keys.importKey(`${name}-${namedCurve}`, point);
      assert.ok(same(kept.key.x, point.x) && same(kept.key.y, point.y), namedCurve);
    }
    const oct = await keys.importKey(
      `${name}-oct`,
      { kty: "oct", k: crypto.randomBytes(32) },
      { hardwareProtected: true },
    );
    assert.deepEqual([oct.keyType, oct.key.k], ["oct-HSM", undefined]);
    const bytes = Uint8Array.of(1);
    for (const wrong of [
      { kty: "RSA", n: bytes, e: bytes },
      { kty: "oct", k: Buffer.alloc(100) },
      { kty: "EC", crv: "P-256", x: bytes, y: bytes, d: bytes },
    ]) {
      await refused(400, "BadParameter", () => keys.importKey(fresh("k"), wrong));
    }
  },
);

scenario(
  "listed",
  "K.listPropertiesOfKeys, listPropertiesOfKeyVersions, byPage({maxPageSize: 2})",
  async (world) => {
    const keys = world.keys();
    const names = Array.from({ length: 5 }, () => fresh("page"));
    for (const name of names) await keys.createEcKey(name, { tags: { of: name } });
    const found = (await all(keys.listPropertiesOfKeys())).map((each) => each.name);
    for (const name of names) assert.ok(found.includes(name));
    const pages = await all(keys.listPropertiesOfKeys().byPage({ maxPageSize: 2 }));
    assert.equal(Math.max(...pages.map((page) => page.length)), 2);
    assert.deepEqual(
      pages
        .flat()
        .map((each) => each.name)
        .sort(),
      found.sort(),
    );
    const one = pages.flat().find((each) => each.name === names[0]);
    assert.deepEqual([one.tags, one.enabled, one.version], [{ of: names[0] }, true, undefined]);
    for (let i = 0; i < 4; i++) await keys.createEcKey(names[0]);
    const versions = await all(keys.listPropertiesOfKeyVersions(names[0]).byPage({ maxPageSize: 2 }));
    assert.deepEqual(
      versions.map((page) => page.length),
      [2, 2, 1],
    );
    assert.equal(new Set(versions.flat().map((each) => each.version)).size, 5);
    assert.equal((await all(keys.listPropertiesOfKeyVersions(names[0]))).length, 5);
  },
);

scenario("rotated_key", "K.updateKeyRotationPolicy, getKeyRotationPolicy, rotateKey", async (world) => {
  const keys = world.keys();
  const name = fresh("k");
  const policy = releasePolicy(world.attestation, { a: "b" });
  const first = await keys.createRsaKey(name, { hsm: true, exportable: true, releasePolicy: policy });
  const usual = await keys.getKeyRotationPolicy(name);
  assert.ok(Array.isArray(usual.lifetimeActions));
  assert.equal(usual.id, `${world.namedVault}/keys/${name}/rotationpolicy`);
  const kept = await keys.updateKeyRotationPolicy(name, {
    expiresIn: "P2Y",
    lifetimeActions: [
      { action: "Rotate", timeAfterCreate: "P90D" },
      { action: "Notify", timeBeforeExpiry: "P30D" },
    ],
  });
  assert.equal(kept.expiresIn, "P2Y");
  assert.ok(kept.createdOn instanceof Date && kept.updatedOn instanceof Date);
  const found = await keys.getKeyRotationPolicy(name);
  assert.deepEqual(
    found.lifetimeActions.map((each) => [each.action, each.timeAfterCreate, each.timeBeforeExpiry]).sort(),
    [
      ["Notify", undefined, "P30D"],
      ["Rotate", "P90D", undefined],
    ],
  );
  const second = await keys.rotateKey(name);
  assert.notEqual(second.properties.version, first.properties.version);
  assert.equal(second.properties.exportable, true);
  assert.ok(same(second.properties.releasePolicy.encodedPolicy, policy.encodedPolicy));
  assert.ok(second.properties.expiresOn > new Date(Date.now() + 700 * 86400000));
  assert.equal((await keys.getKey(name)).id, second.id);
  await refused(400, "BadParameter", () => keys.updateKeyRotationPolicy(name, { expiresIn: "soon" }));
});

scenario(
  "lifecycle",
  "K.beginDeleteKey, getDeletedKey, listDeletedKeys, beginRecoverDeletedKey, purgeDeletedKey",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const made = await keys.createRsaKey(name);
    const poller = await keys.beginDeleteKey(name, QUICK);
    const deleted = await poller.pollUntilDone();
    assert.ok(poller.isDone());
    assert.equal(deleted.properties.recoveryId, `${world.namedVault}/deletedkeys/${name}`);
    assert.ok(
      deleted.properties.deletedOn <= new Date() && deleted.properties.scheduledPurgeDate > new Date(),
    );
    assert.equal((await keys.getDeletedKey(name)).id, made.id);
    const listed = (await all(keys.listDeletedKeys())).find((each) => each.name === name);
    assert.equal(listed.properties.recoveryId, deleted.properties.recoveryId);
    await refused(404, "KeyNotFound", () => keys.getKey(name));
    await refused(409, "Conflict", () => keys.createRsaKey(name));
    const recovered = await (await keys.beginRecoverDeletedKey(name, QUICK)).pollUntilDone();
    assert.equal(recovered.id, made.id);
    const resumed = await keys.beginDeleteKey(name, { ...QUICK, resumeFrom: undefined });
    const state = resumed.toString();
    await (await keys.beginDeleteKey(name, { ...QUICK, resumeFrom: state })).pollUntilDone();
    await keys.purgeDeletedKey(name);
    await refused(404, "KeyNotFound", () => keys.getDeletedKey(name));
    assert.ok(!same((await keys.createRsaKey(name)).key.n, made.key.n));
  },
);

scenario("backup", "K.backupKey, restoreKeyBackup", async (world) => {
  const keys = world.keys();
  const name = fresh("k");
  const made = await keys.createRsaKey(name);
  const blob = await keys.backupKey(name);
  assert.ok(!Buffer.from(blob).includes(Buffer.from(made.key.n)));
  await refused(409, "Conflict", () => keys.restoreKeyBackup(blob));
  await gone(keys, name);
  assert.ok(same((await keys.restoreKeyBackup(blob)).key.n, made.key.n));
  await refused(400, "BadParameter", () => keys.restoreKeyBackup(blob.subarray(0, -1)));
});

scenario("random_bytes", "K.getRandomBytes(n)", async (world) => {
  const keys = world.keys();
  const [one, other] = [await keys.getRandomBytes(16), await keys.getRandomBytes(16)];
  assert.deepEqual([one.length, same(one, other)], [16, false]);
  await refused(400, "BadParameter", () => keys.getRandomBytes(4096));
});

scenario("key_attestation", "K.getKeyAttestation(name), of a version", async (world) => {
  const keys = world.keys();
  const name = fresh("k");
  const first = await keys.createEcKey(name, { hsm: true });
  const second = await keys.createEcKey(name, { hsm: true });
  for (const [version, made] of [
    [undefined, second],
    [first.properties.version, first],
  ]) {
    const said = await keys.getKeyAttestation(name, { version });
    assert.equal(said.id, made.id);
    const { attestation } = said.properties;
    assert.ok(attestation.version);
    const pem = Buffer.from(attestation.certificatePemFile).toString();
    const leaf = new crypto.X509Certificate(pem);
    const statement = Buffer.from(attestation.publicKeyAttestation).toString();
    const [header, payload, signature] = statement.split(".");
    const signed = Buffer.from(`${header}.${payload}`);
    assert.ok(crypto.verify("sha256", signed, leaf.publicKey, Buffer.from(signature, "base64url")));
    const claims = JSON.parse(Buffer.from(payload, "base64url"));
    assert.equal(claims.kid, made.id);
    assert.equal(claims.x, Buffer.from(made.key.x).toString("base64url"));
    assert.equal(attestation.privateKeyAttestation.length, attestation.publicKeyAttestation.length);
  }
  assert.equal((await keys.getKey(name)).properties.attestation, undefined);
});

scenario(
  "every_version_of_the_vault",
  "K of every serviceVersion that a client of these can send",
  async (world) => {
    for (const serviceVersion of [
      "7.0",
      "7.1",
      "7.2",
      "7.3",
      "7.4",
      "7.5",
      "7.6-preview.2",
      "7.6",
      "2025-07-01",
    ]) {
      const keys = world.keys("admin", { serviceVersion });
      const name = fresh("k");
      const made = await keys.createRsaKey(name, { tags: { of: serviceVersion } });
      assert.equal((await keys.getKey(name)).id, made.id, serviceVersion);
      const pages = await all(keys.listPropertiesOfKeys().byPage({ maxPageSize: 2 }));
      const listed = pages.flat().find((each) => each.name === name);
      const platform = serviceVersion < "7.5" && serviceVersion.startsWith("7.") ? undefined : "0";
      assert.deepEqual(
        [made.properties.hsmPlatform, listed.hsmPlatform],
        [platform, platform],
        serviceVersion,
      );
    }
  },
);

scenario(
  "in_parallel_at_first",
  "10 x K.createEcKey at once on a client that has no token yet",
  async (world) => {
    const keys = world.keys();
    const names = Array.from({ length: 10 }, () => fresh("k"));
    const made = await Promise.all(names.map((name) => keys.createEcKey(name)));
    assert.deepEqual(
      made.map((each) => each.name),
      names,
    );
  },
);

scenario("missing", "K on keys that are not there: each call says KeyNotFound", async (world) => {
  const keys = world.keys();
  const name = fresh("none");
  const calls = [
    () => keys.getKey(name),
    () => keys.getKey(name, { version: "0".repeat(32) }),
    () => keys.updateKeyProperties(name, { enabled: true }),
    () => keys.rotateKey(name),
    () => keys.backupKey(name),
    () => keys.beginDeleteKey(name),
    () => keys.getDeletedKey(name),
    () => keys.purgeDeletedKey(name),
    () => keys.beginRecoverDeletedKey(name),
    () => keys.getKeyRotationPolicy(name),
    () => keys.getKeyAttestation(name),
    () => keys.releaseKey(name, "a.b.c"),
  ];
  for (const call of calls) await refused(404, "KeyNotFound", call, name);
  assert.deepEqual(await all(keys.listPropertiesOfKeyVersions(name)), []);
});

module.exports = { privateJwk };
