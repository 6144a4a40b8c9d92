// The constitution of a ledger: what may be proposed, when a proposal is accepted, and what it then does.
//
// Members change it by the action `set_constitution`. Its actions have the names, arguments and tables of the
// Confidential Consortium Framework, whose documentation describes them; the code is Kluis's own.

// ---- tables ----

const ONLY = new ArrayBuffer(8); // the key of a table that holds one value

const table = (name) => ccf.kv[`public:ccf.gov.${name}`];
const keyOf = (key) => (typeof key === "string" ? ccf.strToBuf(key) : key);
const read = (name, key = ONLY) => {
  const value = table(name).get(keyOf(key));
  return value === undefined ? undefined : ccf.bufToJsonCompatible(value);
};
const write = (name, key, value) => table(name).set(keyOf(key), ccf.jsonCompatibleToBuf(value));
const writeText = (name, key, value) => table(name).set(keyOf(key), ccf.strToBuf(value));
const remove = (name, key) => table(name).delete(keyOf(key));
const need = (name, key, what) => {
  const value = read(name, key);
  if (value === undefined) throw new Error(`${what} does not exist`);
  return value;
};
const service = () => need("service.info", ONLY, "the service's information");
const config = () => need("service.config", ONLY, "the service's configuration");

// ---- kinds of arguments: each takes a value and its name, and throws if the value is not of the kind ----

const kind = (test, what) => (value, name) => {
  if (!test(value)) throw new Error(`${name} must be ${what}`);
};
const text = kind((v) => typeof v === "string", "a string");
const flag = kind((v) => typeof v === "boolean", "true or false");
const object = kind((v) => typeof v === "object" && v !== null && !Array.isArray(v), "an object");
const array = kind((v) => Array.isArray(v), "an array");
const any = () => {};
const integer = (low, high) =>
  kind((v) => Number.isInteger(v) && v >= low && v <= high, `an integer from ${low} to ${high}`);
const oneOf = (...values) => kind((v) => values.includes(v), `one of ${values.join(", ")}`);
const hex = (digits) =>
  kind((v) => typeof v === "string" && v.length === digits && /^[0-9a-f]*$/.test(v), `${digits} lower-case hexadecimal digits`);
const pem = kind((v) => ccf.crypto.isValidX509CertBundle(v), "a valid X509 certificate (bundle) in PEM format");
const optional = (inner) => Object.assign(
  (value, name) => { if (value !== undefined && value !== null) inner(value, name); },
  { optional: true },
);
const each = (inner) => (value, name) => {
  array(value, name);
  value.forEach((item, i) => inner(item, `${name}[${i}]`));
};
const fields = (kinds, others = false) => (value, name) => {
  object(value, name);
  for (const [field, check] of Object.entries(kinds)) {
    if (!(field in value) && !check.optional) throw new Error(`${name}.${field} is missing`);
    if (field in value) check(value[field], `${name}.${field}`);
  }
  const unknown = Object.keys(value).find((field) => !(field in kinds));
  if (unknown !== undefined && !others) throw new Error(`${name}.${unknown} is not known`);
};
const nothing = (value) => {
  if (value !== undefined && value !== null && Object.keys(value).length > 0) {
    throw new Error("the action takes no arguments");
  }
};
const refused = (why) => () => { throw new Error(why); };
const id = hex(64);
const days = optional(integer(1, 36500));

const jwks = fields({
  keys: each((key, name) => {
    fields({ kid: text, kty: text }, true)(key, name);
    if (key.x5c) {
      each((der, at) => pem(`-----BEGIN CERTIFICATE-----\n${der}\n-----END CERTIFICATE-----`, at))(key.x5c, `${name}.x5c`);
      if (key.x5c.length === 0) throw new Error(`${name}.x5c must not be empty`);
    } else if (key.kty === "RSA") {
      fields({ n: text, e: text }, true)(key, name);
    } else {
      fields({ x: text, y: text, crv: text }, true)(key, name);
    }
  }),
}, true);

const bundle = (value, name) => {
  fields({
    metadata: fields({ endpoints: object }, true),
    modules: each(fields({ name: text, module: text }, true)),
  }, true)(value, name);
  const endpoint = fields({
    js_module: text,
    js_function: text,
    mode: oneOf("readwrite", "readonly", "historical"),
    forwarding_required: oneOf("sometimes", "always", "never"),
    redirection_strategy: optional(oneOf("none", "to_primary", "to_backup")),
    authn_policies: each((policy, at) => {
      if (typeof policy !== "string") fields({ all_of: each(text) })(policy, at);
    }),
    openapi: optional(object),
    openapi_hidden: optional(flag),
  }, true);
  for (const [path, methods] of Object.entries(value.metadata.endpoints)) {
    object(methods, `${name}.metadata.endpoints["${path}"]`);
    for (const [method, info] of Object.entries(methods)) {
      endpoint(info, `${name}.metadata.endpoints["${path}"].${method}`);
      if (!value.modules.some((module) => module.name === info.js_module)) {
        throw new Error(`module '${info.js_module}' is not in the bundle`);
      }
    }
  }
};

// ---- what several actions do ----

// A change of what code may join, or of the constitution, changes what other open proposals mean.
const dropOthers = (proposalId) => {
  table("proposals_info").forEach((value, key) => {
    const info = ccf.bufToJsonCompatible(value);
    if (ccf.bufToStr(key) !== proposalId && info.state === "Open") {
      write("proposals_info", key, { ...info, state: "Dropped" });
    }
  });
};

// How many active members have a part of the ledger secret, of whom the threshold recovers it.
const participants = () => {
  let count = 0;
  table("members.encryption_public_keys").forEach((_, key) => {
    const info = need("members.info", key, `member ${ccf.bufToStr(key)}`);
    if (info.status === "Active" && (info.recovery_role ?? "Participant") === "Participant") count++;
  });
  return count;
};

const configure = (changes) => {
  const now = config();
  const threshold = changes.recovery_threshold ?? now.recovery_threshold;
  const moves = threshold !== now.recovery_threshold;
  const { status } = service();
  if (moves && status === "WaitingForRecoveryShares") {
    throw new Error(`the recovery threshold is not changed while the service is ${status}`);
  }
  if (moves && status === "Open" && threshold > participants()) {
    throw new Error(`the recovery threshold ${threshold} is more than the ${participants()} active recovery members`);
  }
  write("service.config", ONLY, { ...now, ...changes });
  if (moves) ccf.node.triggerRecoverySharesRefresh();
};

const validity = (asked, most) => {
  const limit = most ?? 365;
  if (asked !== undefined && asked > limit) throw new Error(`a validity of ${asked} days is more than the ${limit} that are allowed`);
  return asked ?? limit;
};

const certify = (nodeId, node, args) => {
  if (node.certificate_signing_request === undefined) throw new Error(`node ${nodeId} has no certificate signing request`);
  const length = validity(args.validity_period_days, config().maximum_node_certificate_validity_days);
  writeText("nodes.endorsed_certificates", nodeId,
    ccf.network.generateEndorsedCertificate(node.certificate_signing_request, args.valid_from, length));
};

const clearApp = () => {
  for (const name of ["modules", "modules_quickjs_bytecode", "modules_quickjs_version", "endpoints"]) table(name).clear();
};

// Actions that put a row of text into a table, or take it out again.
const allow = (name, field, value = () => "AllowedToJoin") => [
  fields({ [field]: text, ...(field === "host_data" ? { security_policy: optional(text), metadata: optional(text) } : {}) }),
  (args, proposalId) => {
    write(name, args[field], value(args));
    dropOthers(proposalId);
  },
];
const disallow = (name, field) => [fields({ [field]: text }), (args) => remove(name, args[field])];

// ---- the actions: [check of the arguments, what is done] ----

const actions = {
  set_constitution: [
    (args) => {
      fields({ constitution: text })(args, "args");
      ccf.gov.validateConstitution(args.constitution);
    },
    (args, proposalId) => {
      write("constitution", ONLY, args.constitution);
      dropOthers(proposalId);
    },
  ],

  // members and users

  set_member: [
    (args) => {
      fields({
        cert: pem,
        encryption_pub_key: optional(text),
        member_data: optional(object),
        recovery_role: optional(oneOf("NonParticipant", "Participant", "Owner")),
      })(args, "args");
      if (args.recovery_role != null && args.encryption_pub_key == null) {
        throw new Error("a recovery_role needs an encryption_pub_key");
      }
    },
    (args) => {
      const member = ccf.pemToId(args.cert);
      writeText("members.certs", member, args.cert);
      if (args.encryption_pub_key == null) remove("members.encryption_public_keys", member);
      else writeText("members.encryption_public_keys", member, args.encryption_pub_key);
      write("members.info", member, {
        member_data: args.member_data ?? undefined,
        recovery_role: args.recovery_role ?? undefined,
        status: "Accepted",
      });
      const signed = ccf.kv["public:ccf.internal.signatures"].get(ONLY);
      write("members.acks", member, { state_digest: signed === undefined ? "" : ccf.bufToJsonCompatible(signed).root });
    },
  ],
  remove_member: [
    fields({ member_id: id }),
    ({ member_id }) => {
      const info = read("members.info", member_id);
      if (info === undefined) return;
      const shares = info.status === "Active" && table("members.encryption_public_keys").has(keyOf(member_id));
      const counts = shares && (info.recovery_role ?? "Participant") === "Participant";
      const left = participants() - 1;
      if (counts && left < config().recovery_threshold) {
        throw new Error(`${left} recovery members would be left, less than the recovery threshold ${config().recovery_threshold}`);
      }
      for (const name of ["info", "encryption_public_keys", "certs", "acks"]) remove(`members.${name}`, member_id);
      // Who leaves must not read what is written from now on, and may have a share of before the present row.
      if (shares || service().status === "Open") ccf.node.triggerLedgerRekey();
    },
  ],
  set_member_data: [
    fields({ member_id: id, member_data: object }),
    (args) => {
      const info = need("members.info", args.member_id, `member ${args.member_id}`);
      write("members.info", args.member_id, { ...info, member_data: args.member_data });
    },
  ],
  set_user: [
    fields({ cert: pem, user_data: optional(object) }),
    (args) => {
      const user = ccf.pemToId(args.cert);
      writeText("users.certs", user, args.cert);
      if (args.user_data == null) remove("users.info", user);
      else write("users.info", user, { user_data: args.user_data });
    },
  ],
  remove_user: [
    fields({ user_id: id }),
    ({ user_id }) => {
      remove("users.certs", user_id);
      remove("users.info", user_id);
    },
  ],
  set_user_data: [
    fields({ user_id: id, user_data: optional(object) }),
    (args) => {
      if (args.user_data == null) remove("users.info", args.user_id);
      else write("users.info", args.user_id, { user_data: args.user_data });
    },
  ],

  // the service

  set_recovery_threshold: [fields({ recovery_threshold: integer(1, 254) }), configure],
  set_service_configuration: [
    fields({
      reconfiguration_type: optional(oneOf("OneTransaction", "TwoTransaction")),
      recovery_threshold: optional(integer(1, 254)),
      recent_cose_proposals_window_size: optional(integer(1, 10000)),
    }),
    configure,
  ],
  trigger_recovery_shares_refresh: [nothing, () => ccf.node.triggerRecoverySharesRefresh()],
  trigger_ledger_rekey: [nothing, () => ccf.node.triggerLedgerRekey()],
  trigger_ledger_chunk: [nothing, () => ccf.node.triggerLedgerChunk()],
  // Accepted, it would promise a file that no node writes.
  trigger_snapshot: [refused("nodes of this service take no snapshots"), () => ccf.node.triggerSnapshot()],
  transition_service_to_open: [
    fields({ next_service_identity: pem, previous_service_identity: optional(pem) }),
    (args) => {
      const buffer = (value) => (value == null ? undefined : ccf.strToBuf(value));
      if (service().status === "Recovering" && args.previous_service_identity == null) {
        throw new Error("a service that is recovered opens with its previous and its next identity");
      }
      ccf.node.transitionServiceToOpen(buffer(args.previous_service_identity), buffer(args.next_service_identity));
    },
  ],
  assert_service_identity: [
    (args) => {
      fields({ service_identity: pem })(args, "args");
      if (service().cert !== args.service_identity) throw new Error("the service has another identity");
    },
    () => {},
  ],
  set_service_certificate_validity: [
    fields({ valid_from: text, validity_period_days: days }),
    (args) => {
      const length = validity(args.validity_period_days, config().maximum_service_certificate_validity_days);
      write("service.info", ONLY, { ...service(), cert: ccf.network.generateNetworkCertificate(args.valid_from, length) });
    },
  ],

  // nodes, and the code that they may run

  transition_node_to_trusted: [
    fields({ node_id: id, valid_from: text, validity_period_days: days }),
    (args) => {
      const node = need("nodes.info", args.node_id, `node ${args.node_id}`);
      if (node.status !== "Pending") return;
      write("nodes.info", args.node_id,
        { ...node, status: "Trusted", ledger_secret_seqno: ccf.network.getLatestLedgerSecretSeqno() });
      if (node.certificate_signing_request !== undefined) certify(args.node_id, node, args);
    },
  ],
  remove_node: [
    fields({ node_id: id }),
    ({ node_id }) => {
      const node = read("nodes.info", node_id);
      if (node === undefined) return;
      if (node.status === "Pending") remove("nodes.info", node_id);
      else write("nodes.info", node_id, { ...node, status: "Retired" });
    },
  ],
  set_node_data: [
    fields({ node_id: id, node_data: any }),
    (args) => {
      const node = need("nodes.info", args.node_id, `node ${args.node_id}`);
      write("nodes.info", args.node_id, { ...node, node_data: args.node_data });
    },
  ],
  set_node_certificate_validity: [
    fields({ node_id: id, valid_from: text, validity_period_days: days }),
    (args) => {
      const node = need("nodes.info", args.node_id, `node ${args.node_id}`);
      if (node.status !== "Trusted") throw new Error(`node ${args.node_id} is not trusted`);
      certify(args.node_id, node, args);
    },
  ],
  set_all_nodes_certificate_validity: [
    fields({ valid_from: text, validity_period_days: days }),
    (args) => {
      table("nodes.info").forEach((value, key) => {
        const node = ccf.bufToJsonCompatible(value);
        if (node.status === "Trusted") certify(ccf.bufToStr(key), node, args);
      });
    },
  ],
  add_node_code: allow("nodes.code_ids", "code_id"),
  remove_node_code: disallow("nodes.code_ids", "code_id"),
  add_virtual_measurement: allow("nodes.virtual.measurements", "measurement"),
  remove_virtual_measurement: disallow("nodes.virtual.measurements", "measurement"),
  add_virtual_host_data: allow("nodes.virtual.host_data", "host_data", (args) => args.metadata ?? ""),
  remove_virtual_host_data: disallow("nodes.virtual.host_data", "host_data"),
  add_snp_measurement: allow("nodes.snp.measurements", "measurement"),
  remove_snp_measurement: disallow("nodes.snp.measurements", "measurement"),
  add_snp_host_data: [
    (args) => {
      fields({ host_data: hex(64), security_policy: text })(args, "args");
      if (args.security_policy === "") return;
      const digest = new Uint8Array(ccf.crypto.digest("SHA-256", ccf.strToBuf(args.security_policy)));
      const found = Array.from(digest, (octet) => octet.toString(16).padStart(2, "0")).join("");
      if (found !== args.host_data) throw new Error(`the security policy has the digest ${found}, and not host_data`);
    },
    (args, proposalId) => {
      write("nodes.snp.host_data", args.host_data, args.security_policy);
      dropOthers(proposalId);
    },
  ],
  remove_snp_host_data: disallow("nodes.snp.host_data", "host_data"),
  add_snp_uvm_endorsement: [
    fields({ did: text, feed: text, svn: text }),
    ({ did, feed, svn }, proposalId) => {
      write("nodes.snp.uvm_endorsements", did, { ...read("nodes.snp.uvm_endorsements", did), [feed]: { svn } });
      dropOthers(proposalId);
    },
  ],
  remove_snp_uvm_endorsement: [
    fields({ did: text, feed: text }),
    ({ did, feed }) => {
      const { [feed]: _, ...left } = read("nodes.snp.uvm_endorsements", did) ?? {};
      if (Object.keys(left).length === 0) remove("nodes.snp.uvm_endorsements", did);
      else write("nodes.snp.uvm_endorsements", did, left);
    },
  ],
  set_snp_minimum_tcb_version: [
    fields({
      cpuid: hex(8),
      tcb_version: fields({
        boot_loader: integer(0, 255), tee: integer(0, 255), snp: integer(0, 255), microcode: integer(0, 255),
      }),
    }),
    (args, proposalId) => {
      write("nodes.snp.tcb_versions", args.cpuid, args.tcb_version);
      dropOthers(proposalId);
    },
  ],
  set_snp_minimum_tcb_version_hex: [
    fields({ cpuid: hex(8), tcb_version: hex(16) }),
    (args, proposalId) => {
      write("nodes.snp.tcb_versions", args.cpuid, ccf.tcbHexToPolicy(args.cpuid, args.tcb_version));
      dropOthers(proposalId);
    },
  ],
  remove_snp_minimum_tcb_version: [
    fields({ cpuid: hex(8) }),
    ({ cpuid }) => {
      need("nodes.snp.tcb_versions", cpuid, `a minimum TCB version of ${cpuid}`);
      remove("nodes.snp.tcb_versions", cpuid);
    },
  ],

  // applications in JavaScript

  set_js_app: [
    fields({ bundle, disable_bytecode_cache: optional(flag) }),
    (args) => {
      clearApp();
      for (const { name, module } of args.bundle.modules) writeText("modules", `/${name}`, module);
      if (!args.disable_bytecode_cache) ccf.refreshAppBytecodeCache();
      write("interpreter.flush", ONLY, true);
      for (const [path, methods] of Object.entries(args.bundle.metadata.endpoints)) {
        for (const [method, info] of Object.entries(methods)) {
          write("endpoints", `${method.toUpperCase()} ${path}`, { ...info, js_module: `/${info.js_module}` });
        }
      }
    },
  ],
  remove_js_app: [
    nothing,
    () => {
      clearApp();
      table("interpreter.flush").clear();
    },
  ],
  refresh_js_app_bytecode_cache: [nothing, () => ccf.refreshAppBytecodeCache()],
  set_js_runtime_options: [
    fields({
      max_heap_bytes: integer(1, 2 ** 40),
      max_stack_bytes: integer(1, 2 ** 40),
      max_execution_time_ms: integer(1, 2 ** 40),
      log_exception_details: optional(flag),
      return_exception_details: optional(flag),
      max_cached_interpreters: optional(integer(0, 2 ** 32)),
    }),
    (args) => write("js_runtime_options", ONLY, args),
  ],

  // certificate authorities, and issuers of tokens

  set_ca_cert_bundle: [
    fields({ name: text, cert_bundle: pem }),
    (args) => write("tls.ca_cert_bundles", args.name, args.cert_bundle),
  ],
  remove_ca_cert_bundle: [fields({ name: text }), ({ name }) => remove("tls.ca_cert_bundles", name)],
  set_jwt_issuer: [
    (args) => {
      fields({ issuer: text, auto_refresh: optional(flag), ca_cert_bundle_name: optional(text), jwks: optional(jwks) })(args, "args");
      if (!args.auto_refresh) return;
      if (!args.ca_cert_bundle_name) throw new Error("auto_refresh needs a ca_cert_bundle_name");
      if (!/^https:\/\/[^/?#]+[^?#]*$/.test(args.issuer)) {
        throw new Error("auto_refresh needs an issuer that is an https:// URL without query and fragment");
      }
    },
    ({ jwks: keys, ...metadata }) => {
      const authorities = metadata.ca_cert_bundle_name;
      if (metadata.auto_refresh && !table("tls.ca_cert_bundles").has(keyOf(authorities))) {
        throw new Error(`there is no CA certificate bundle '${authorities}'`);
      }
      if (keys) ccf.setJwtPublicSigningKeys(metadata.issuer, metadata, keys);
      write("jwt.issuers", metadata.issuer, metadata);
    },
  ],
  set_jwt_public_signing_keys: [
    fields({ issuer: text, jwks }),
    ({ issuer, jwks: keys }) => {
      ccf.setJwtPublicSigningKeys(issuer, need("jwt.issuers", issuer, `issuer ${issuer}`), keys);
    },
  ],
  remove_jwt_issuer: [
    fields({ issuer: text }),
    ({ issuer }) => {
      if (!table("jwt.issuers").has(keyOf(issuer))) return;
      remove("jwt.issuers", issuer);
      ccf.removeJwtPublicSigningKeys(issuer);
    },
  ],
};

const known = (name) => typeof name === "string" && Object.hasOwn(actions, name);

// ---- what the service calls ----

export function validate(input) {
  const proposal = JSON.parse(input);
  if (!Array.isArray(proposal.actions) || proposal.actions.length === 0) {
    return { valid: false, description: "actions must be an array that is not empty" };
  }
  const problems = [];
  proposal.actions.forEach((action, position) => {
    if (!known(action?.name)) {
      problems.push(`${action?.name}: no such action`);
      return;
    }
    try {
      actions[action.name][0](action.args, "args");
    } catch (error) {
      problems.push(`${action.name} at position ${position} failed validation: ${error}`);
    }
  });
  return { valid: problems.length === 0, description: problems.join(", ") };
}

export function resolve(proposal, proposerId, votes) {
  const active = new Set();
  table("members.info").forEach((value, key) => {
    if (ccf.bufToJsonCompatible(value).status === "Active") active.add(ccf.bufToStr(key));
  });
  // More than half of the active members accept a proposal, and as many who cannot be outvoted any more reject it.
  // A member who was removed since has left a ballot, which does not count.
  const counted = votes.filter(({ member_id }) => active.has(member_id));
  const agree = counted.filter(({ vote }) => vote).length;
  const disagree = counted.length - agree;
  if (agree > active.size / 2) return "Accepted";
  if (disagree >= active.size / 2 && active.size > 0) return "Rejected";
  return "Open";
}

export function apply(proposal, proposalId) {
  for (const { name, args } of JSON.parse(proposal).actions) actions[name][1](args, proposalId);
}
