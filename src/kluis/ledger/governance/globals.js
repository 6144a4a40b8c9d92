// The object `ccf` that a constitution and ballots see. `__ccf(operation, ...arguments)` is the host's side of it; it
// decides what is allowed in which phase. Buffers go in and come out as CCF has them: ArrayBuffers.
const host = globalThis.__ccf;
delete globalThis.__ccf;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const { parse, stringify } = JSON;
const { isView } = ArrayBuffer;

const buffer = (value) =>
  value instanceof Uint8Array ? value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) : undefined;
const bytes = (value, what = "Argument") => {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  throw new TypeError(`${what} must be an ArrayBuffer`);
};
const text = (value, what = "Argument") => {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string`);
  return value;
};

const strToBuf = (value) => buffer(encoder.encode(text(value)));
const bufToStr = (value) => decoder.decode(bytes(value));
const jsonCompatibleToBuf = (value) => {
  const written = stringify(value);
  if (written === undefined) throw new TypeError("Argument cannot be written as JSON");
  return strToBuf(written);
};
const bufToJsonCompatible = (value) => parse(bufToStr(value));

class KvMap {
  #name;
  constructor(name) { this.#name = name; }
  has(key) { return host("has", this.#name, bytes(key, "Key")); }
  get(key) { return buffer(host("get", this.#name, bytes(key, "Key")) ?? undefined); }
  getVersionOfPreviousWrite(key) { return host("version", this.#name, bytes(key, "Key")) ?? undefined; }
  set(key, value) {
    host("set", this.#name, bytes(key, "Key"), bytes(value, "Value"));
    return this;
  }
  delete(key) { host("delete", this.#name, bytes(key, "Key")); }
  clear() { host("clear", this.#name); }
  get size() { return host("size", this.#name); }
  forEach(callback) {
    for (const [key, value] of host("items", this.#name)) callback(buffer(value), buffer(key), this);
  }
}

const maps = new Map();
const kv = new Proxy({}, {
  get(_, name) {
    if (typeof name !== "string") return undefined;
    let map = maps.get(name);
    if (map === undefined) {
      host("open", name);
      maps.set(name, (map = new KvMap(name)));
    }
    return map;
  },
  set() { throw new TypeError("Maps of ccf.kv are not assigned"); },
});

const algorithm = (value) => {
  if (typeof value !== "object" || value === null) throw new TypeError("Argument must be an object");
  return { name: value.name, hash: value.hash };
};
const crypto = {
  digest: (name, data) => buffer(host("digest", text(name), bytes(data))),
  verifySignature: (kind, key, signature, data) =>
    host("verifySignature", algorithm(kind), text(key), bytes(signature), bytes(data)),
  isValidX509CertBundle: (pem) => typeof pem === "string" && host("isCertificates", pem),
  isValidX509CertChain: (chain, trusted) => host("isChain", text(chain), text(trusted)),
  pubPemToJwk: (pem, kid) => ({ ...host("jwk", text(pem), "EC"), ...(kid === undefined ? {} : { kid: text(kid) }) }),
  pubRsaPemToJwk: (pem, kid) => ({ ...host("jwk", text(pem), "RSA"), ...(kid === undefined ? {} : { kid: text(kid) }) }),
};

const identity = (value) => (value === undefined || value === null ? null : bytes(value));
const node = {
  triggerLedgerRekey: () => void host("rekey"),
  triggerRecoverySharesRefresh: () => void host("refreshShares"),
  triggerLedgerChunk: () => void host("closeChunk"),
  triggerSnapshot: () => void host("snapshot"),
  triggerACMERefresh: () => void host("acme"),
  transitionServiceToOpen: (previous, next) => void host("open_service", identity(previous), identity(next)),
};
const days = (value) => {
  if (!Number.isInteger(value)) throw new TypeError("A validity period must be an integer");
  return value;
};
const network = {
  getLatestLedgerSecretSeqno: () => host("secretVersion"),
  generateEndorsedCertificate: (csr, from, length) => host("endorseNode", text(csr), text(from), days(length)),
  generateNetworkCertificate: (from, length) => host("renewService", text(from), days(length)),
};
const gov = { validateConstitution: (source) => void host("checkConstitution", text(source, "constitution")) };

globalThis.ccf = {
  kv, crypto, gov, strToBuf, bufToStr, jsonCompatibleToBuf, bufToJsonCompatible,
  pemToId: (pem) => host("pemToId", text(pem)),
  tcbHexToPolicy: (cpuid, tcb) => host("tcbPolicy", text(cpuid), text(tcb)),
};
// What only apply() may do is not there in other phases, as in CCF.
if (host("applies")) {
  Object.assign(globalThis.ccf, {
    node, network,
    setJwtPublicSigningKeys: (issuer, metadata, jwks) => void host("setJwtKeys", text(issuer), stringify(metadata), stringify(jwks)),
    removeJwtPublicSigningKeys: (issuer) => void host("removeJwtKeys", text(issuer)),
    refreshAppBytecodeCache: () => void host("refreshBytecode"),
  });
}
