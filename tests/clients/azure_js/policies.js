// Policies and who signs them, by AttestationAdministrationClient.
"use strict";

const assert = require("node:assert/strict");

const { createAttestationPolicyToken } = require("@azure/attestation");
const { PERMIT, Signer, fresh, refused, scenario, sha256, signer, validation } = require("./scenario.js");

const TYPES = ["SgxEnclave", "OpenEnclave", "Tpm", "SevSnpVm", "TdxVm", "AzureGuest"];

scenario(
  "unsigned_policy",
  "A.setPolicy(type, P), A.getPolicy, A.resetPolicy, of every type",
  async (world) => {
    await world.instance({}, async (url) => {
      const owner = world.owner(url);
      for (const type of TYPES) {
        const usual = type === "Tpm" ? null : (await owner.getPolicy(type)).body;
        const issued = `issuancerules{=> issue(type="n", value="${fresh(type)}");};`;
        const policy = PERMIT.replace("issuancerules{};", issued);
        const { body } = await owner.setPolicy(type, policy);
        assert.equal(body.policyResolution, "Updated");
        const sent = createAttestationPolicyToken(policy).serialize();
        assert.deepEqual(Buffer.from(body.policyTokenHash), sha256(sent));
        assert.equal((await owner.getPolicy(type)).body, policy);
        const reset = await owner.resetPolicy(type);
        assert.equal(reset.body.policyResolution, "Removed");
        if (usual !== null) assert.equal((await owner.getPolicy(type)).body, usual);
      }
    });
  },
);

scenario(
  "no_policy",
  "A.getPolicy('Tpm') where none is set: Azure's empty JWS, which the client stumbles over",
  async (world) => {
    await world.instance({}, async (url) => {
      await assert.rejects(world.owner(url).getPolicy("Tpm"), TypeError);
    });
  },
);

scenario(
  "signed_policy",
  "A.setPolicy(SgxEnclave, P, {privateKey, certificate}), RSA and EC",
  async (world) => {
    for (const who of [signer("mine"), new Signer("curve", "ec")]) {
      await world.instance({}, async (url) => {
        const owner = world.owner(url);
        const { body } = await owner.setPolicy("SgxEnclave", PERMIT, who.signing);
        assert.equal(body.policyResolution, "Updated");
        assert.deepEqual(
          body.policySigner.certificates.map((each) => each.replaceAll(/\s/g, "")),
          [who.certificate.replaceAll(/\s/g, "")],
        );
        assert.equal((await owner.getPolicy("SgxEnclave")).body, PERMIT);
        const hello = Buffer.from("hello");
        const { body: result } = await world
          .attester(url)
          .attestSgxEnclave(await world.quote(hello), { runTimeData: hello });
        assert.equal(result.policySigner.certificates.length, 1);
        const reset = await owner.resetPolicy("SgxEnclave", who.signing);
        assert.equal(reset.body.policyResolution, "Removed");
      });
    }
  },
);

scenario(
  "texts_that_are_no_policies",
  "A.setPolicy(SgxEnclave, a policy without a semicolon)",
  async (world) => {
    await world.instance({}, async (url) => {
      const owner = world.owner(url);
      const before = (await owner.getPolicy("SgxEnclave")).body;
      for (const text of [PERMIT.replace("permit();", "permit()"), "nothing"]) {
        await refused(400, "PolicyParsingError", () => owner.setPolicy("SgxEnclave", text));
      }
      assert.equal((await owner.getPolicy("SgxEnclave")).body, before);
    });
  },
);

scenario(
  "isolated_instance",
  "Isolated instance: A.setPolicy and resetPolicy unsigned, by its signer, by another",
  async (world) => {
    const mine = signer("mine");
    await world.instance({ policySigningCertificates: { keys: [mine.jwk] } }, async (url) => {
      const owner = world.owner(url);
      await refused(
        400,
        "InvalidOperation",
        () => owner.setPolicy("SgxEnclave", PERMIT),
        "Unsigned JWS specified but enclave is configured with signing certificates.",
      );
      await refused(400, "InvalidOperation", () =>
        owner.setPolicy("SgxEnclave", PERMIT, signer("other").signing),
      );
      assert.equal(
        (await owner.setPolicy("SgxEnclave", PERMIT, mine.signing)).body.policyResolution,
        "Updated",
      );
      await refused(400, "InvalidOperation", () => owner.resetPolicy("SgxEnclave"));
      assert.equal((await owner.resetPolicy("SgxEnclave", mine.signing)).body.policyResolution, "Removed");
    });
  },
);

scenario(
  "policy_management_certificates",
  "A.add-/removePolicyManagementCertificate, A.getPolicyManagementCertificates",
  async (world) => {
    const [mine, other] = [signer("mine"), signer("other")];
    const bare = (pem) => pem.replaceAll(/\s/g, "");
    await world.instance({ policySigningCertificates: { keys: [mine.jwk] } }, async (url) => {
      const owner = world.owner(url);
      const held = async () =>
        (await owner.getPolicyManagementCertificates()).body.map((each) => bare(each.certificates[0]));
      assert.deepEqual(await held(), [bare(mine.certificate)]);
      for (let i = 0; i < 2; i++) {
        const { body } = await owner.addPolicyManagementCertificate(
          other.certificate,
          mine.privateKey,
          mine.certificate,
        );
        assert.deepEqual(
          [body.certificateResolution, body.certificateThumbprint],
          ["IsPresent", other.thumbprint],
        );
      }
      assert.deepEqual((await held()).sort(), [bare(mine.certificate), bare(other.certificate)].sort());
      for (let i = 0; i < 2; i++) {
        const { body } = await owner.removePolicyManagementCertificate(
          other.certificate,
          mine.privateKey,
          mine.certificate,
        );
        assert.deepEqual(
          [body.certificateResolution, body.certificateThumbprint],
          ["IsAbsent", other.thumbprint],
        );
      }
      assert.equal((await held()).length, 1);
      await refused(400, "InvalidOperation", () =>
        owner.removePolicyManagementCertificate(mine.certificate, mine.privateKey, mine.certificate),
      );
      const stranger = signer("stranger");
      await refused(400, "InvalidOperation", () =>
        owner.addPolicyManagementCertificate(stranger.certificate, stranger.privateKey, stranger.certificate),
      );
    });
    assert.deepEqual((await world.owner().getPolicyManagementCertificates()).body, []);
  },
);

scenario("who_may_not", "A.setPolicy with a reader's token, with a workload's", async (world) => {
  for (const name of ["reader", "workload"]) {
    const call = () => world.owner(world.attestation, name).setPolicy("SgxEnclave", PERMIT);
    await refused(
      401,
      "Unauthorized",
      call,
      "Access to /policies/SgxEnclave requires a valid JWT bearer token",
    );
  }
  assert.ok((await world.owner(world.attestation, "reader").getPolicy("SgxEnclave")).body);
});

scenario(
  "tokens_of_policies",
  "A.getPolicy: the token validates, under another issuer it does not",
  async (world) => {
    const { token } = await world.owner().getPolicy("SgxEnclave");
    assert.deepEqual([token.issuer, token.algorithm], [world.attestation, "RS256"]);
    assert.equal(token.expiresOn - token.issuedAt, 3600 * 1000);
    const picky = world.owner(world.attestation, "admin", { validationOptions: validation("https://other") });
    await assert.rejects(picky.getPolicy("SgxEnclave"), /expected issuer/);
  },
);
