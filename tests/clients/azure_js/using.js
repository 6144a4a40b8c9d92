// Keys used by CryptographyClient: what it does itself with a public key, and what it asks the vault for.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");

const { fresh, refused, scenario, sha256 } = require("./scenario.js");

const same = (one, other) => Buffer.from(one).equals(Buffer.from(other));
const HASHES = { 256: "sha256", 384: "sha384", 512: "sha512" };
const digested = (algorithm, data) => crypto.createHash(HASHES[algorithm.slice(2, 5)]).update(data).digest();

scenario(
  "rsa_encryption",
  "CryptographyClient.encrypt, decrypt, wrapKey, unwrapKey of an RSA key",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const made = await keys.createRsaKey(name, { keySize: 2048 });
    const secret = crypto.randomBytes(32);
    const clients = [
      keys.getCryptographyClient(name),
      keys.getCryptographyClient(name, { keyVersion: made.properties.version }),
      world.cryptography(made),
      world.cryptography(made.id),
    ];
    for (const client of clients) {
      for (const algorithm of ["RSA1_5", "RSA-OAEP", "RSA-OAEP-256"]) {
        const sealed = await client.encrypt({ algorithm, plaintext: secret });
        assert.equal(sealed.result.length, 256);
        assert.ok(
          same((await client.decrypt({ algorithm, ciphertext: sealed.result })).result, secret),
          algorithm,
        );
        const wrapped = await client.wrapKey(algorithm, secret);
        assert.ok(same((await client.unwrapKey(algorithm, wrapped.result)).result, secret), algorithm);
      }
    }
    assert.equal(
      (await clients[0].unwrapKey("RSA-OAEP-256", (await clients[0].wrapKey("RSA-OAEP-256", secret)).result))
        .keyID,
      made.id,
    );
    await refused(400, "BadParameter", () => clients[0].unwrapKey("RSA-OAEP", Buffer.alloc(256)));
  },
);

scenario(
  "rsa_signatures",
  "CryptographyClient.sign, verify, signData, verifyData of an RSA key",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const made = await keys.createRsaKey(name, { keySize: 3072 });
    const client = keys.getCryptographyClient(name);
    const jwk = Object.fromEntries(
      ["n", "e"].map((part) => [part, Buffer.from(made.key[part]).toString("base64url")]),
    );
    const key = crypto.createPublicKey({ key: { kty: "RSA", ...jwk }, format: "jwk" });
    const said = Buffer.from("said");
    for (const algorithm of ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]) {
      const digest = digested(algorithm, said);
      const { result } = await client.sign(algorithm, digest);
      const pss = { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: digest.length };
      const how = algorithm.startsWith("PS") ? { key, ...pss } : { key };
      assert.ok(crypto.verify(HASHES[algorithm.slice(2)], said, how, result), algorithm);
      assert.equal((await client.verify(algorithm, digest, result)).result, true, algorithm);
      const other = digested(algorithm, Buffer.from("else"));
      assert.equal((await client.verify(algorithm, other, result)).result, false, algorithm);
    }
    // verifyData checks here, and knows PKCS #1 v1.5 alone: what is signed otherwise never holds.
    for (const [algorithm, holds] of Object.entries({
      RS256: true,
      RS384: true,
      RS512: true,
      PS256: false,
    })) {
      const { result } = await client.signData(algorithm, said);
      assert.equal((await client.verifyData(algorithm, said, result)).result, holds, algorithm);
      assert.equal(
        (await client.verify(algorithm, digested(algorithm, said), result)).result,
        true,
        algorithm,
      );
    }
    await refused(400, "BadParameter", () => client.sign("RS256", Buffer.alloc(31)));
  },
);

scenario(
  "ec_signatures",
  "CryptographyClient.sign, verify, signData, verifyData of an EC key, every curve",
  async (world) => {
    const keys = world.keys();
    const said = Buffer.from("said");
    for (const [curve, algorithm, namedCurve] of [
      ["P-256", "ES256", "P-256"],
      ["P-384", "ES384", "P-384"],
      ["P-521", "ES512", "P-521"],
      ["P-256K", "ES256K", "secp256k1"],
    ]) {
      const name = fresh("k");
      const made = await keys.createEcKey(name, { curve });
      const client = keys.getCryptographyClient(name);
      const jwk = Object.fromEntries(
        ["x", "y"].map((part) => [part, Buffer.from(made.key[part]).toString("base64url")]),
      );
      const key = crypto.createPublicKey({ key: { kty: "EC", crv: namedCurve, ...jwk }, format: "jwk" });
      const digest = digested(algorithm, said);
      const { result } = await client.sign(algorithm, digest);
      assert.ok(
        crypto.verify(HASHES[algorithm.slice(2, 5)], said, { key, dsaEncoding: "ieee-p1363" }, result),
        algorithm,
      );
      assert.equal((await client.verify(algorithm, digest, result)).result, true, algorithm);
      const signed = (await client.signData(algorithm, said)).result;
      assert.equal((await client.verifyData(algorithm, said, signed)).result, true, algorithm);
      assert.equal(
        (await client.verifyData(algorithm, Buffer.from("else"), signed)).result,
        false,
        algorithm,
      );
    }
  },
);

scenario(
  "oct_encryption",
  "CryptographyClient.encrypt, decrypt, wrapKey, unwrapKey of an oct key",
  async (world) => {
    const keys = world.keys();
    const secret = crypto.randomBytes(32);
    for (const keySize of [128, 192, 256]) {
      const name = fresh("k");
      await keys.createOctKey(name, { keySize, hsm: true });
      const client = keys.getCryptographyClient(name);
      const additionalAuthenticatedData = Buffer.from("beside");
      const algorithm = `A${keySize}GCM`;
      const sealed = await client.encrypt({ algorithm, plaintext: secret, additionalAuthenticatedData });
      const given = {
        algorithm,
        ciphertext: sealed.result,
        iv: sealed.iv,
        authenticationTag: sealed.authenticationTag,
      };
      assert.ok(same((await client.decrypt({ ...given, additionalAuthenticatedData })).result, secret));
      await refused(400, "BadParameter", () =>
        client.decrypt({ ...given, additionalAuthenticatedData: Buffer.from("other") }),
      );
      for (const cbc of [`A${keySize}CBC`, `A${keySize}CBCPAD`]) {
        const iv = crypto.randomBytes(16);
        const closed = await client.encrypt({ algorithm: cbc, plaintext: secret, iv });
        assert.ok(
          same((await client.decrypt({ algorithm: cbc, ciphertext: closed.result, iv })).result, secret),
          cbc,
        );
      }
      for (const wrapping of [`A${keySize}KW`, "CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD"]) {
        const wrapped = await client.wrapKey(wrapping, secret);
        assert.ok(same((await client.unwrapKey(wrapping, wrapped.result)).result, secret), wrapping);
      }
    }
  },
);

scenario("hmac", "CryptographyClient.sign, verify of an oct key: HS256, HS384, HS512", async (world) => {
  const keys = world.keys();
  for (const [algorithm, size] of [
    ["HS256", 32],
    ["HS384", 48],
    ["HS512", 64],
  ]) {
    const name = fresh("k");
    const k = crypto.randomBytes(size);
    await keys.importKey(name, { kty: "oct", k, keyOps: ["sign", "verify"] }, { hardwareProtected: true });
    const client = keys.getCryptographyClient(name);
    const digest = digested(algorithm, "said");
    const { result } = await client.sign(algorithm, digest);
    assert.equal((await client.verify(algorithm, digest, result)).result, true, algorithm);
    assert.equal(
      (await client.verify(algorithm, digested(algorithm, "else"), result)).result,
      false,
      algorithm,
    );
  }
});

scenario(
  "local_and_remote",
  "CryptographyClient of a JsonWebKey alone; of a key that may not be read",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const made = await keys.createRsaKey(name);
    const local = world.cryptography({ ...made.key, keyOps: ["encrypt", "wrapKey"] });
    const secret = crypto.randomBytes(32);
    const sealed = await local.encrypt({ algorithm: "RSA-OAEP", plaintext: secret });
    const { result } = await keys
      .getCryptographyClient(name)
      .decrypt({ algorithm: "RSA-OAEP", ciphertext: sealed.result });
    assert.ok(same(result, secret));
    await assert.rejects(
      local.decrypt({ algorithm: "RSA-OAEP", ciphertext: sealed.result }),
      /not supported/,
    );
    // 403 to a workload's GetKey: the client goes on with the vault alone, where it hears 403, too.
    const call = () => world.cryptography(made.id, "workload").sign("RS256", sha256("said"));
    assert.equal((await refused(403, "Forbidden", call)).innerError.code, "ForbiddenByRbac");
  },
);

scenario(
  "uses_that_are_not_allowed",
  "CryptographyClient of a key for one use, disabled, not begun, expired",
  async (world) => {
    const keys = world.keys();
    const name = fresh("k");
    const only = await keys.createRsaKey(name, { keyOps: ["sign"] });
    const digest = sha256("said");
    const client = keys.getCryptographyClient(name);
    assert.ok((await client.sign("RS256", digest)).result);
    await assert.rejects(
      client.unwrapKey("RSA-OAEP", Buffer.alloc(256)),
      /Operation unwrapKey is not supported/,
    );
    const pathed = `/keys/${name}/${only.properties.version}/unwrapkey?api-version=7.6`;
    const { token } = await world.known("admin").getToken("https://vault.azure.net/.default");
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const body = JSON.stringify({ alg: "RSA-OAEP", value: Buffer.alloc(256).toString("base64url") });
    const answer = await world.send("POST", world.namedVault + pathed, { headers, body });
    assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [403, "Forbidden"]);
    await keys.updateKeyProperties(name, { enabled: false });
    await refused(403, "Forbidden", () => world.cryptography(only).sign("RS256", digest));
  },
);
