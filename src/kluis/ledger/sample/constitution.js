class Action {
  constructor(validate, apply) {
    this.validate = validate;
    this.apply = apply;
  }
}

function text(value, name) {
  if (typeof value !== "string") throw new Error(`${name} must be a string`);
}

const actions = new Map([
  [
    "set_user",
    new Action(
      (args) => text(args.cert, "cert"),
      (args) => {
        const id = ccf.strToBuf(ccf.pemToId(args.cert));
        ccf.kv["public:ccf.gov.users.certs"].set(id, ccf.strToBuf(args.cert));
      },
    ),
  ],
  [
    "transition_service_to_open",
    new Action(
      (args) => text(args.next_service_identity, "next_service_identity"),
      (args) => {
        const info = ccf.bufToStr(ccf.kv["public:ccf.gov.service.info"].get(new ArrayBuffer(8)));
        if (JSON.parse(info).cert !== args.next_service_identity) throw new Error("another service identity");
        ccf.node.transitionServiceToOpen(undefined, ccf.strToBuf(args.next_service_identity));
      },
    ),
  ],
  ["trigger_ledger_rekey", new Action(() => {}, () => ccf.node.triggerLedgerRekey())],
]);

export function validate(input) {
  const errors = [];
  for (const [position, action] of JSON.parse(input).actions.entries()) {
    const definition = actions.get(action.name);
    if (definition === undefined) {
      errors.push(`${action.name} at position ${position}: no such action`);
      continue;
    }
    try {
      definition.validate(action.args ?? {});
    } catch (error) {
      errors.push(`${action.name} at position ${position}: ${error.message}`);
    }
  }
  return { valid: errors.length === 0, description: errors.join(", ") };
}

export function resolve(proposal, proposerId, votes) {
  let active = 0;
  ccf.kv["public:ccf.gov.members.info"].forEach((value) => {
    if (JSON.parse(ccf.bufToStr(value)).status === "Active") active++;
  });
  const yes = votes.filter((each) => each.vote).length;
  if (yes * 2 > active) return "Accepted";
  return votes.length - yes === active ? "Rejected" : "Open";
}

export function apply(proposal, proposalId) {
  for (const action of JSON.parse(proposal).actions) actions.get(action.name).apply(action.args ?? {}, proposalId);
}
