// Attestation: evidence goes in by Azure's client, and a token comes out that its own validator believes.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");

const { AttestationClient } = require("@azure/attestation");
const { PERMIT, bound, partsOf, refused, runtime, scenario, signer, validation } = require("./scenario.js");

const HELLO = Buffer.from("hello");

/** An Open Enclave report: its header, and the quote. */
function openEnclave(quote) {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(1, 0);
  header.writeUInt32LE(2, 4);
  header.writeBigUInt64LE(BigInt(quote.length), 8);
  return Buffer.concat([header, quote]);
}

scenario("metadata", "C.getOpenIdMetadata()", async (world) => {
  const found = await world.attester().getOpenIdMetadata();
  assert.equal(found.issuer, world.attestation);
  assert.equal(found.jwks_uri, `${world.attestation}/certs`);
  assert.deepEqual(found.id_token_signing_alg_values_supported, ["RS256"]);
});

scenario("signers", "C.getAttestationSigners()", async (world) => {
  const found = await world.attester().getAttestationSigners();
  assert.ok(found.length >= 1);
  for (const each of found) {
    assert.ok(each.keyId);
    const certificate = new crypto.X509Certificate(each.certificates[0]);
    assert.equal(certificate.subject, `CN=${world.attestation}`);
  }
});

scenario("enclave_with_held_data", "C.attestSgxEnclave(quote, {runTimeData})", async (world) => {
  const quote = await world.quote(HELLO);
  const { body, token } = await world
    .attester()
    .attestSgxEnclave(quote, { runTimeData: HELLO, ...world.checked() });
  assert.deepEqual(Buffer.from(body.enclaveHeldData), HELLO);
  assert.equal(body.mrEnclave, quote.subarray(112, 144).toString("hex"));
  assert.equal(body.mrSigner, quote.subarray(176, 208).toString("hex"));
  assert.deepEqual([body.productId, body.svn, body.isDebuggable], [7, 3, false]);
  assert.deepEqual([body.issuer, body.version, body.verifierType], [world.attestation, "1.0", "sgx"]);
  assert.deepEqual([body.runTimeClaims, body.initTimeClaims, body.nonce], [undefined, undefined, undefined]);
  assert.equal(body.policyHash.length, 32);
  assert.match(body.uniqueId, /^[0-9a-f]{64}$/);
  const digests = [
    "qeidcertshash",
    "qeidcrlhash",
    "qeidhash",
    "quotehash",
    "tcbinfocertshash",
    "tcbinfocrlhash",
    "tcbinfohash",
  ];
  for (const digest of digests) assert.match(body.sgxCollateral[digest], /^[0-9a-f]{64}$/);
  assert.deepEqual([token.algorithm, token.type], ["RS256", "JWT"]);
  assert.equal(token.keyUrl, `${world.attestation}/certs`);
  assert.equal(token.issuer, world.attestation);
  assert.equal(token.expiresOn - token.issuedAt, 28800 * 1000);
  assert.deepEqual(
    token.getTokenProblems(await world.attester().getAttestationSigners(), validation(world.attestation)),
    [],
  );
});

scenario("enclave_with_runtime_claims", "C.attestSgxEnclave(quote, {runTimeJson})", async (world) => {
  const data = runtime();
  const { body } = await world
    .attester()
    .attestSgxEnclave(await world.quote(data), { runTimeJson: data, ...world.checked() });
  assert.deepEqual(body.runTimeClaims, JSON.parse(data));
  assert.equal(body.enclaveHeldData, undefined);
});

scenario(
  "enclave_with_init_time_data",
  "C.attestSgxEnclave(quote, {initTimeData, initTimeJson})",
  async (world) => {
    const client = world.attester();
    const data = Buffer.from('{"started": "with this"}');
    const quote = await world.quote(HELLO, { configid: bound(data) });
    const { body } = await client.attestSgxEnclave(quote, { initTimeJson: data, runTimeData: HELLO });
    assert.deepEqual(body.initTimeClaims, JSON.parse(data));
    await client.attestSgxEnclave(quote, { initTimeData: data, runTimeData: HELLO });
    const other = { initTimeData: Buffer.from("another"), runTimeData: HELLO };
    await refused(400, "InvalidParameter", () => client.attestSgxEnclave(quote, other), "initTimeData");
  },
);

scenario("enclave_without_data", "C.attestSgxEnclave(quote)", async (world) => {
  const { body } = await world.attester().attestSgxEnclave(await world.quote());
  assert.deepEqual([body.runTimeClaims, body.enclaveHeldData], [undefined, undefined]);
});

scenario("open_enclave_report", "C.attestOpenEnclave(report, {runTimeData, runTimeJson})", async (world) => {
  const client = world.attester();
  const quote = await world.quote(HELLO);
  const { body, token } = await client.attestOpenEnclave(openEnclave(quote), {
    runTimeData: HELLO,
    ...world.checked(),
  });
  assert.deepEqual(Buffer.from(body.enclaveHeldData), HELLO);
  assert.deepEqual([body.verifierType, token.getBody().tee], ["sgx", "sgx"]);
  const data = runtime();
  const other = await client.attestOpenEnclave(openEnclave(await world.quote(data)), { runTimeJson: data });
  assert.deepEqual(other.body.runTimeClaims, JSON.parse(data));
  await refused(400, "InvalidParameter", () => client.attestOpenEnclave(quote, { runTimeData: HELLO }));
});

scenario("draft_policy", "C.attestSgxEnclave(quote, {draftPolicyForAttestation})", async (world) => {
  const draft = 'version=1.0; authorizationrules{=> permit();}; issuancerules{=> issue(type="d", value=7);};';
  const client = world.attester();
  const quote = await world.quote(HELLO);
  const given = (text) => ({ runTimeData: HELLO, draftPolicyForAttestation: text });
  const before = (await world.owner().getPolicy("SgxEnclave")).body;
  const { body, token } = await client.attestSgxEnclave(quote, given(draft));
  assert.equal(token.algorithm, "none");
  assert.equal(token.getBody().d, 7);
  assert.deepEqual(Buffer.from(body.enclaveHeldData), HELLO);
  assert.equal((await world.owner().getPolicy("SgxEnclave")).body, before);
  const parsing = given(draft.replace("permit();", "permit()"));
  await refused(400, "PolicyParsingError", () => client.attestSgxEnclave(quote, parsing));
  const denied = given(draft.replace("permit", "deny"));
  await refused(
    400,
    "PolicyEvaluationError",
    () => client.attestSgxEnclave(quote, denied),
    "A Deny claim was issued",
  );
});

scenario("without_a_credential", "new AttestationClient(url): attest without a token", async (world) => {
  const client = new AttestationClient(world.attestation, {
    ...world.usual,
    validationOptions: validation(world.attestation),
  });
  const { body } = await client.attestSgxEnclave(await world.quote(HELLO), { runTimeData: HELLO });
  assert.equal(body.issuer, world.attestation);
});

scenario(
  "evidence_that_does_not_hold",
  "C.attestSgxEnclave, a byte of quote or data changed",
  async (world) => {
    const client = world.attester();
    const quote = await world.quote(HELLO);
    const flipped = Buffer.from(quote);
    flipped[440] ^= 1;
    const stranger = await world.quote(HELLO, { stranger: true });
    for (const [bytes, data] of [
      [flipped, HELLO],
      [quote, Buffer.from("hellp")],
      [quote.subarray(0, 1000), HELLO],
      [stranger, HELLO],
    ]) {
      const error = await refused(400, "InvalidParameter", () =>
        client.attestSgxEnclave(bytes, { runTimeData: data }),
      );
      assert.match(error.message, /\S/);
    }
  },
);

scenario("tpm_challenge", "C.attestTpm(a question for a challenge)", async (world) => {
  const question = JSON.stringify({ payload: { type: "aikcert" } });
  await world.instance({}, async (url) => {
    await refused(
      400,
      "InvalidOperation",
      () => world.attester(url).attestTpm(question),
      "policy has not been set",
    );
    await world.owner(url).setPolicy("Tpm", PERMIT);
    const found = [];
    for (let i = 0; i < 2; i++) found.push(JSON.parse(await world.attester(url).attestTpm(question)).payload);
    for (const each of found) assert.deepEqual(Object.keys(each).sort(), ["challenge", "service_context"]);
    assert.notEqual(found[0].challenge, found[1].challenge);
  });
});

scenario("tpm_request", "C.attestTpm(a TPM's request), versions 2 and 1 of the protocol", async (world) => {
  await world.instance({}, async (url) => {
    await world.owner(url).setPolicy("Tpm", PERMIT);
    const client = world.attester(url);
    for (const version of [2, 1]) {
      const asked = JSON.parse(
        await client.attestTpm(JSON.stringify({ payload: { type: "aikcert" } })),
      ).payload;
      const { request } = await world.forged("tpm", {
        challenge: Buffer.from(asked.challenge, "base64url"),
        context: asked.service_context,
        version,
      });
      const { report } = JSON.parse(await client.attestTpm(JSON.stringify({ request: request.toString() })));
      const [, claims] = partsOf(report);
      assert.deepEqual([claims.iss, claims["x-ms-attestation-type"]], [url, "tpm"]);
    }
  });
});

scenario(
  "validator",
  "token.getTokenProblems: another's signers, another issuer, a callback's own",
  async (world) => {
    const quote = await world.quote(HELLO);
    const { token } = await world.attester().attestSgxEnclave(quote, { runTimeData: HELLO });
    const signers = await world.attester().getAttestationSigners();
    const others = [{ keyId: token.keyId, certificates: [signer("other").certificate] }];
    const unsigned = ["Attestation Token is not properly signed."];
    assert.deepEqual(token.getTokenProblems(others, validation(world.attestation)), unsigned);
    assert.equal(token.getTokenProblems(signers, validation("https://other")).length, 1);
    let seen = null;
    const validateAttestationToken = (which, signer) => {
      seen = [which.serialize(), signer.keyId];
      return ["not today"];
    };
    assert.deepEqual(
      token.getTokenProblems(signers, validation(world.attestation, { validateAttestationToken })),
      ["not today"],
    );
    assert.deepEqual(seen, [token.serialize(), token.keyId]);
    const picky = { runTimeData: HELLO, ...world.checked("https://other") };
    await assert.rejects(world.attester().attestSgxEnclave(quote, picky), /expected issuer: https:\/\/other/);
  },
);

scenario("in_parallel", "50 x C.attestSgxEnclave at once", async (world) => {
  const client = world.attester();
  const quote = await world.quote(HELLO);
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => client.attestSgxEnclave(quote, { runTimeData: HELLO })),
  );
  assert.equal(new Set(answers.map((each) => each.body.uniqueId)).size, 50);
});
