// Runs with Azure Confidential Ledger's client for JavaScript, of NODE_PATH: the world is one line of JSON.
//
// Each line out is a scenario's name and the error that the client had, or null.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const fs = require("node:fs");

const { default: ConfidentialLedger, isUnexpected, paginate } = require(
  "@azure-rest/confidential-ledger",
);

const world = JSON.parse(fs.readFileSync(0, "utf8"));
const service = fs.readFileSync(world.service, "utf8");
const pem = fs.readFileSync(world.pem, "utf8");
const collection = `js ${crypto.randomBytes(3).toString("hex")}`;
const scenarios = [];

/** A client by certificate; it trusts only the given one. */
function client(trusted = service, identity = { cert: pem, key: pem }) {
  return ConfidentialLedger(world.url, trusted, { tlsOptions: { ...identity }, retryOptions: { maxRetries: 0 } });
}

/** The body of an answer that the client expects. */
async function expected(promise) {
  const answer = await promise;
  assert.ok(!isUnexpected(answer), `${answer.status}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** The error of an answer that the client does not expect. */
async function refused(status, promise) {
  const answer = await promise;
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.ok(isUnexpected(answer));
  return answer.body.error;
}

/** Post an entry; gives its id. */
async function post(ledger, contents, more = {}) {
  const answer = await ledger.path("/app/transactions").post({
    contentType: "application/json",
    body: { contents },
    queryParameters: { collectionId: collection, ...more },
  });
  assert.equal(answer.status, "200", JSON.stringify(answer.body));
  assert.equal(answer.body.collectionId, more.collectionId ?? collection);
  return answer.headers["x-ms-ccf-transaction-id"];
}

function scenario(name, run) {
  scenarios.push([name, run]);
}

scenario("an_entry_is_posted_and_read", async () => {
  const ledger = client();
  const txid = await post(ledger, "hello");
  assert.match(txid, /^\d+\.\d+$/);
  const one = "/app/transactions/{transactionId}";
  const queryParameters = { collectionId: collection };
  const found = await expected(ledger.path(one, txid).get({ queryParameters }));
  assert.deepEqual([found.state, found.entry.contents, found.entry.transactionId], ["Ready", "hello", txid]);
  const status = await expected(ledger.path(`${one}/status`, txid).get());
  assert.deepEqual(status, { state: "Committed", transactionId: txid });
});

scenario("a_receipt_leads_to_the_service", async () => {
  const ledger = client();
  const txid = await post(ledger, "proven");
  const answer = await expected(ledger.path("/app/transactions/{transactionId}/receipt", txid).get());
  assert.deepEqual([answer.state, answer.transactionId], ["Ready", txid]);
  const { cert, leafComponents, nodeId, proof, signature } = answer.receipt;
  const sha256 = (data) => crypto.createHash("sha256").update(data).digest();
  const hex = (text) => Buffer.from(text, "hex");
  assert.ok(leafComponents.commitEvidence.startsWith(`ce:${txid}:`));
  let pair = Buffer.concat([
    hex(leafComponents.writeSetDigest),
    sha256(leafComponents.commitEvidence),
    hex(leafComponents.claimsDigest),
  ]);
  for (const { left, right } of proof) {
    pair = left ? Buffer.concat([hex(left), sha256(pair)]) : Buffer.concat([sha256(pair), hex(right)]);
  }
  const node = new crypto.X509Certificate(cert);
  assert.equal(sha256(node.publicKey.export({ type: "spki", format: "der" })).toString("hex"), nodeId);
  assert.ok(node.verify(new crypto.X509Certificate(service).publicKey));
  // The root is SHA-256 of the last pair, which Node computes.
  const signed = () => crypto.verify("sha256", pair, node.publicKey, Buffer.from(signature, "base64"));
  assert.ok(signed());
  pair[0] ^= 1;
  assert.ok(!signed());
});

scenario("entries_are_listed_in_order_across_pages", async () => {
  const ledger = client();
  const own = { collectionId: `${collection} pages` };
  const ids = [];
  for (let number = 0; number < 120; number++) ids.push(await post(ledger, `n${number}`, own));
  const first = await ledger.path("/app/transactions").get({ queryParameters: own });
  assert.ok(first.body.nextLink);
  const found = [];
  for await (const each of paginate(ledger, first)) found.push(each);
  assert.deepEqual(found.map((each) => each.transactionId), ids);
  assert.deepEqual(found.map((each) => each.contents), ids.map((_, number) => `n${number}`));
  const current = await expected(ledger.path("/app/transactions/current").get({ queryParameters: own }));
  assert.equal(current.contents, "n119");
  // As Azure's, it states the id of the state that it read: the entry's, or a later one.
  const seqno = (txid) => Number(txid.split(".")[1]);
  assert.ok(seqno(current.transactionId) >= seqno(ids[119]));
  const collections = await ledger.path("/app/collections").get();
  const names = [];
  for await (const each of paginate(ledger, collections)) names.push(each.collectionId);
  assert.ok(names.includes(own.collectionId));
});

scenario("a_contributor_does_not_govern", async () => {
  const ledger = client();
  const error = await refused("403", ledger.path("/app/users/{userId}", world.fingerprint).get());
  assert.match(error.message, /Not allowed to call GET \/app\/users\//);
  await refused("400", ledger.path("/app/transactions/{transactionId}/status", "x.y").get());
  const nobody = client(service, {});
  await refused("401", nobody.path("/app/collections").get());
});

scenario("the_service_describes_itself", async () => {
  const ledger = client();
  const quotes = await expected(ledger.path("/app/enclaveQuotes").get());
  assert.equal(quotes.enclaveQuotes[quotes.currentNodeId].mrenclave, world.image);
  const constitution = await expected(ledger.path("/app/governance/constitution").get());
  assert.equal(crypto.createHash("sha256").update(constitution.script).digest("hex"), constitution.digest);
  const { members } = await expected(ledger.path("/app/governance/members").get());
  assert.deepEqual(members.map((each) => each.id), [world.member]);
});

scenario("a_wrong_trust_root_connects_to_nothing", async () => {
  const wrong = client(fs.readFileSync(world.ca, "utf8"));
  await assert.rejects(async () => wrong.path("/app/collections").get(), /certificate/);
});

async function main() {
  for (const [name, run] of scenarios) {
    let error = null;
    try {
      await run();
    } catch (raised) {
      error = raised instanceof Error ? raised.stack : String(raised);
    }
    process.stdout.write(`${JSON.stringify({ name, error })}\n`);
  }
  process.exit(0);
}

main();
