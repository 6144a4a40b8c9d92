// Secure key release: KeyClient.releaseKey gives a key to an attested environment, wrapped to its own.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");

const { fresh, partsOf, recipient, refused, releasePolicy, runtime, scenario } = require("./scenario.js");
const { privateJwk } = require("./keys.js");

const HASHES = {
  CKM_RSA_AES_KEY_WRAP: "sha1",
  RSA_AES_KEY_WRAP_256: "sha256",
  RSA_AES_KEY_WRAP_384: "sha384",
};
const SGX = { "x-ms-attestation-type": "sgx" };

/** What was signed of a release, and the material, unwrapped with the environment's key. */
function opened(value) {
  const [head, body, signature] = value.split(".");
  const [header, payload] = partsOf(value);
  const leaf = new crypto.X509Certificate(Buffer.from(header.x5c[0], "base64"));
  assert.ok(
    crypto.verify(
      "sha256",
      Buffer.from(`${head}.${body}`),
      leaf.publicKey,
      Buffer.from(signature, "base64url"),
    ),
  );
  const sealed = JSON.parse(Buffer.from(payload.response.key.key.key_hsm, "base64url"));
  const ciphertext = Buffer.from(sealed.ciphertext, "base64url");
  const oaepHash = HASHES[payload.request.enc];
  const padding = crypto.constants.RSA_PKCS1_OAEP_PADDING;
  const kek = crypto.privateDecrypt({ key: recipient(), padding, oaepHash }, ciphertext.subarray(0, 256));
  const unwrap = crypto.createDecipheriv("id-aes256-wrap-pad", kek, Buffer.from("a65959a6", "hex"));
  return {
    header,
    payload,
    material: Buffer.concat([unwrap.update(ciphertext.subarray(256)), unwrap.final()]),
  };
}

const numbers = (material) =>
  crypto
    .createPublicKey(crypto.createPrivateKey({ key: material, format: "der", type: "pkcs8" }))
    .export({ format: "jwk" });
const text = (bytes) => Buffer.from(bytes).toString("base64url");

scenario(
  "released",
  "K.releaseKey(name, a token of the attestation service), every algorithm, a version, a nonce",
  async (world) => {
    const keys = world.keys();
    const name = fresh("r");
    const policy = releasePolicy(world.attestation, SGX);
    const first = await keys.createRsaKey(name, {
      hsm: true,
      exportable: true,
      keySize: 3072,
      releasePolicy: policy,
    });
    assert.deepEqual(Buffer.from(first.properties.releasePolicy.encodedPolicy), policy.encodedPolicy);
    assert.equal(first.properties.releasePolicy.contentType, "application/json; charset=utf-8");
    assert.equal(first.properties.exportable, true);
    const second = await keys.rotateKey(name);
    const token = await world.token(runtime());
    for (const algorithm of [undefined, ...Object.keys(HASHES)]) {
      const { payload, material } = opened((await keys.releaseKey(name, token, { algorithm })).value);
      assert.equal(payload.request.enc, algorithm ?? "CKM_RSA_AES_KEY_WRAP");
      assert.equal(numbers(material).n, text(second.key.n));
    }
    const { version } = first.properties;
    const { payload, material } = opened(
      (await keys.releaseKey(name, token, { version, nonce: "1234" })).value,
    );
    assert.deepEqual([payload.request.nonce, payload.request["api-version"]], ["1234", "2025-07-01"]);
    assert.equal(numbers(material).n, text(first.key.n));
    await refused(400, "BadParameter", () => keys.releaseKey(name, token, { algorithm: "ROT13" }));
  },
);

scenario("released_of_every_kind", "K.releaseKey of EC and oct keys, and of imported ones", async (world) => {
  const keys = world.keys();
  const releasable = { exportable: true, releasePolicy: releasePolicy(world.attestation, SGX) };
  const token = await world.token(runtime());
  const release = async (name) => opened((await keys.releaseKey(name, token)).value).material;
  const point = await keys.createEcKey(fresh("r"), { curve: "P-384", hsm: true, ...releasable });
  assert.equal(numbers(await release(point.name)).x, text(point.key.x));
  const oct = await keys.createOctKey(fresh("r"), { keySize: 256, hsm: true, ...releasable });
  assert.equal((await release(oct.name)).length, 32);
  const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const mine = await keys.importKey(fresh("r"), privateJwk(privateKey), {
    hardwareProtected: true,
    ...releasable,
  });
  const back = crypto.createPrivateKey({ key: await release(mine.name), format: "der", type: "pkcs8" });
  assert.deepEqual(back.export({ format: "jwk" }), privateKey.export({ format: "jwk" }));
  const k = crypto.randomBytes(32);
  const bytes = await keys.importKey(
    fresh("r"),
    { kty: "oct", k },
    { hardwareProtected: true, ...releasable },
  );
  assert.deepEqual(await release(bytes.name), k);
});

scenario(
  "release_rules",
  "K.createRsaKey and updateKeyProperties: exportable, policies, immutable ones",
  async (world) => {
    const keys = world.keys();
    const name = fresh("r");
    const policy = releasePolicy(world.attestation, { a: "b" });
    await refused(
      400,
      "BadParameter",
      () => keys.createRsaKey(name, { hsm: true, exportable: true }),
      "AKV.SKR.1004",
    );
    await refused(
      400,
      "BadParameter",
      () => keys.createRsaKey(name, { hsm: true, releasePolicy: policy }),
      "AKV.SKR.1005",
    );
    await refused(
      400,
      "BadParameter",
      () => keys.createRsaKey(name, { exportable: true, releasePolicy: policy }),
      "AKV.SKR.1006",
    );
    const old = world.keys("admin", { serviceVersion: "7.2" });
    await refused(
      400,
      "BadParameter",
      () => old.createRsaKey(name, { hsm: true, exportable: true, releasePolicy: policy }),
      "AKV.SKR.1001",
    );
    const given = { hsm: true, exportable: true };
    await keys.createRsaKey(name, { ...given, releasePolicy: { ...policy, immutable: true } });
    const other = releasePolicy(world.attestation, { a: "c" });
    await refused(
      400,
      "BadParameter",
      () => keys.updateKeyProperties(name, { releasePolicy: other }),
      "AKV.SKR.1020",
    );
    const mutable = await keys.createRsaKey(fresh("r"), { ...given, releasePolicy: policy });
    const { version } = mutable.properties;
    await refused(
      400,
      "BadParameter",
      () => keys.updateKeyProperties(mutable.name, version, { releasePolicy: other }),
      "AKV.SKR.1016",
    );
    const changed = await keys.updateKeyProperties(mutable.name, { releasePolicy: other });
    assert.deepEqual(Buffer.from(changed.properties.releasePolicy.encodedPolicy), other.encodedPolicy);
    assert.equal(changed.properties.releasePolicy.immutable, false);
  },
);

scenario(
  "released_to_nobody_else",
  "K.releaseKey on other claims, a changed signature, a disabled key, another's role",
  async (world) => {
    const keys = world.keys();
    const made = async (claims) =>
      (
        await keys.createRsaKey(fresh("r"), {
          hsm: true,
          exportable: true,
          releasePolicy: releasePolicy(world.attestation, claims),
        })
      ).name;
    const token = await world.token(runtime());
    const unmet = await made({ "x-ms-sgx-svn": 4 });
    const said = await refused(
      403,
      "Forbidden",
      () => keys.releaseKey(unmet, token),
      "does not meet key release policy requirements",
    );
    assert.equal(said.innerError.code, "AccessDenied");
    const name = await made(SGX);
    const at = token.length - 20;
    const wrong = token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
    await refused(
      403,
      "Forbidden",
      () => keys.releaseKey(name, wrong),
      "Target environment attestation statement cannot be verified.",
    );
    assert.ok((await world.keys("workload").releaseKey(name, token)).value);
    await refused(403, "Forbidden", () => world.keys("reader").releaseKey(name, token));
    const bare = await world.token(Buffer.from("{}"));
    await refused(403, "Forbidden", () => keys.releaseKey(name, bare));
    await keys.updateKeyProperties(name, { enabled: false });
    await refused(403, "Forbidden", () => keys.releaseKey(name, token));
  },
);
