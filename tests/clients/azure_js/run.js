// Runs the scenarios with Azure's clients for JavaScript: the world comes in on standard input.
//
// Each line out is a JSON object: {"forge": ...} asks the other side for evidence, which comes back on one
// line; any other is a scenario's result. `run.js NAME ...` runs these alone.
"use strict";

const dns = require("node:dns");
const readline = require("node:readline");
const util = require("node:util");

// Azure's vaults have names in the DNS; names under localhost are this machine (RFC 6761), which not every
// resolver knows. This is Node's part, not the clients'.
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, ...rest);

const { SCENARIOS, World } = require("./scenario.js");

for (const module of ["attesting", "policies", "instances", "credentials", "identities", "keys", "using", "releasing"]) {
  require(`./${module}.js`);
}

/** Run one scenario; the error, if there is one, is the client's own. */
async function outcome({ name, call, run }, world) {
  const began = process.hrtime.bigint();
  let error = null;
  try {
    await run(world);
  } catch (raised) {
    error = raised instanceof Error ? raised.stack : util.inspect(raised);
  }
  const seconds = Math.round(Number(process.hrtime.bigint() - began) / 1e7) / 100;
  return { name, number: null, call, seconds, error };
}

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const read = async () => JSON.parse((await lines.next()).value);
  const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
  const ask = async (wish) => {
    say(wish);
    return read();
  };
  const world = new World(await read(), ask);
  const wanted = new Set(process.argv.slice(2));
  for (const one of SCENARIOS) {
    if (wanted.size === 0 || wanted.has(one.name)) say(await outcome(one, world));
  }
  process.exit(0);
}

main();
