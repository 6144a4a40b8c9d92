// What every runtime of ours runs before any script. It makes scripts repeatable (no clock, no entropy, no time
// zone, no garbage collector that can be observed), and lets the time limit end long native operations in a loop.
// `host(0)` gives the arguments of a call, and `host(1)` gives [four 32-bit seeds, milliseconds since 1970, whether
// code from text and large integers are refused].
"use strict";
(() => {
  const host = globalThis.__host;
  delete globalThis.__host;
  const [a0, b0, c0, d0, now, plain] = host(1);
  const { apply, construct, ownKeys, getOwnPropertyDescriptor } = Reflect;
  const { defineProperty, getPrototypeOf, setPrototypeOf } = Object;
  const isArray = Array.isArray, isView = ArrayBuffer.isView;
  const set = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });

  // ---- no clock and no entropy ----
  for (const name of ["performance", "Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry"]) {
    delete globalThis[name];
  }
  // Where the heap ends within these, an object is never freed, and to free the engine ends the process.
  for (const name of ["zip", "zipKeyed"]) delete Iterator[name];
  delete Promise.allSettled;
  delete Iterator.prototype.includes; // and where it ends within this one, it may never return
  let [a, b, c, d] = [a0 | 0, b0 | 0, c0 | 0, d0 | 0];
  const word = () => { // sfc32
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 12; i++) word();
  set(Math, "random", function random() { return ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992; });

  // ---- one time zone, UTC ----
  const NativeDate = Date;
  const dates = NativeDate.prototype;
  const offset = dates.getTimezoneOffset, { UTC, parse } = NativeDate;
  const zoned = /(?:Z|[+-]\d\d:?\d\d|\bGMT\b.*|\bUTC\b.*|^[+-]?\d{4,6}(?:-\d\d){0,2})\s*(?:\(.*\))?$/;
  const read = (text) => {
    const at = parse(text);
    return at !== at || zoned.test(text) ? at : at - apply(offset, new NativeDate(at), []) * 60000;
  };
  const at = (values) => {
    if (values.length === 0) return now;
    if (values.length > 1) return apply(UTC, null, values);
    const [value] = values;
    if (value instanceof NativeDate) return value.getTime();
    const plain = typeof value === "object" && value !== null ? value[Symbol.toPrimitive]?.("default") ?? value.valueOf() : value;
    return typeof plain === "string" ? read(plain) : Number(plain);
  };
  const text = (date) => apply(dates.toUTCString, date, []);
  const OurDate = function Date(...values) {
    const made = construct(NativeDate, [at(values)], new.target ?? NativeDate);
    return new.target === undefined ? text(made) : made;
  };
  defineProperty(OurDate, "length", { value: 7 });
  defineProperty(OurDate, "prototype", { value: dates, writable: false });
  set(OurDate, "now", function () { return now; });
  set(OurDate, "UTC", UTC);
  set(OurDate, "parse", function (value) { return read(String(value)); });
  for (const name of ownKeys(dates)) {
    if (typeof name !== "string") continue;
    const local = /^([gs]et)UTC(.*)$/.exec(name);
    if (local !== null) set(dates, local[1] + local[2], dates[name]);
  }
  set(dates, "getTimezoneOffset", function () { return 0; });
  for (const name of ["toString", "toLocaleString"]) set(dates, name, function () { return text(this); });
  for (const name of ["toDateString", "toLocaleDateString"]) set(dates, name, function () { return text(this).slice(0, 16); });
  for (const name of ["toTimeString", "toLocaleTimeString"]) set(dates, name, function () { return text(this).slice(17); });
  set(dates, "getYear", function () { return this.getUTCFullYear() - 1900; });
  set(dates, "constructor", OurDate);
  set(globalThis, "Date", OurDate);

  // ---- regular expressions from text ----
  // Where the heap ends within their compiler, some forms end the process. So it begins only where there is memory
  // for it, and nothing of a script runs between that and its end. A literal is compiled with its script.
  const Compiler = RegExp, patterns = RegExp.prototype, Reserve = ArrayBuffer;
  const sourceOf = getOwnPropertyDescriptor(patterns, "source").get;
  const { indexOf, charCodeAt } = String.prototype;
  const reserve = (source) => {
    // Measured: up to 297,360 bytes with the first property escape, 120,000 with each further one, and 1,900 for
    // each character of ranges whose case is ignored.
    let need = 524288 + 2048 * source.length;
    for (let i = -2; (i = apply(indexOf, source, ["\\", i + 2])) >= 0;) {
      if ((apply(charCodeAt, source, [i + 1]) | 32) === 112) need += 131072;
    }
    new Reserve(need);
  };
  const isOne = (value) => {
    if (typeof value !== "object" || value === null || value === patterns) return false;
    try { apply(sourceOf, value, []); return true; } catch { return false; }
  };
  const OurRegExp = function RegExp(pattern, flags) {
    let source = pattern, how = flags;
    if ((typeof pattern === "object" && pattern !== null) || typeof pattern === "function") {
      const mark = pattern[Symbol.match], one = isOne(pattern), like = mark === undefined ? one : Boolean(mark);
      if (new.target === undefined && like && flags === undefined && pattern.constructor === OurRegExp) return pattern;
      if (one) {
        source = apply(sourceOf, pattern, []);
        if (flags === undefined) how = pattern.flags;
      } else if (like) {
        source = pattern.source;
        if (flags === undefined) how = pattern.flags;
      }
    }
    source = source === undefined ? "" : `${source}`;
    how = how === undefined ? "" : `${how}`;
    const proto = new.target === undefined ? patterns : new.target.prototype;
    reserve(source);
    const made = construct(Compiler, [source, how]);
    // One member's script has no other prototypes than those that objects are made with.
    return plain || proto === patterns || typeof proto !== "object" || proto === null ? made : setPrototypeOf(made, proto);
  };
  for (const name of ownKeys(Compiler)) {
    const found = getOwnPropertyDescriptor(Compiler, name);
    if (name !== "prototype") defineProperty(OurRegExp, name, { ...found, configurable: name !== Symbol.species });
  }
  defineProperty(OurRegExp, "prototype", { value: patterns, writable: false });
  set(patterns, "constructor", OurRegExp);
  set(globalThis, "RegExp", OurRegExp);
  delete patterns.compile;
  // These compile an expression again, by a constructor and with flags that a script may choose.
  for (const symbol of [Symbol.split, Symbol.matchAll]) {
    const native = patterns[symbol];
    set(patterns, symbol, function (...values) {
      if (!isOne(this)) throw new TypeError("not a regular expression");
      const flags = `${this.flags}`, last = this.lastIndex;
      const own = new OurRegExp(apply(sourceOf, this, []), flags);
      own.lastIndex = last;
      defineProperty(own, "constructor", { value: OurRegExp });
      defineProperty(own, "flags", { value: flags });
      return apply(native, own, values);
    });
  }
  for (const [name, symbol, flags] of [["match", Symbol.match], ["matchAll", Symbol.matchAll, "g"], ["search", Symbol.search]]) {
    set(String.prototype, name, { [name](pattern) {
      if (this === undefined || this === null) throw new TypeError("cannot convert to object");
      if (pattern !== undefined && pattern !== null) {
        if (flags !== undefined && isOne(pattern) && apply(indexOf, `${pattern.flags}`, [flags]) < 0) {
          throw new TypeError("regexp must have the 'g' flag");
        }
        const method = pattern[symbol];
        if (method !== undefined && method !== null) return apply(method, pattern, [this]);
      }
      const text = `${this}`;
      return new OurRegExp(pattern, flags)[symbol](text);
    } }[name]);
  }

  // ---- the time limit within native operations ----
  // The engine looks at its limit once in some thousand steps of its own, and a step may be a native operation on
  // all of the heap. So each of those counts what it touches, and then takes so many steps that the limit is seen.
  const MOST = 1e8, EACH = 1e6, STEPS = 20000;
  let work = 0;
  const size = (value) =>
    typeof value === "string" ? value.length
    : typeof value === "number" ? (value > 0 && value < 67108864 ? value : 0)
    : typeof value === "object" && value !== null && (isArray(value) || isView(value)) ? value.length | 0
    : 0;
  const charge = (self, values) => {
    work += 16 + size(self);
    for (let i = 0; i < values.length; i++) work += size(values[i]);
    if (work > EACH) { work = 0; for (let i = 0; i < STEPS; i++); }
  };
  const counted = {
    apply(native, self, values) { charge(self, values); return apply(native, self, values); },
    construct(native, values, target) { charge(null, values); return construct(native, values, target); },
  };
  const searching = {
    apply(native, self, values) {
      const needle = values[0];
      if (typeof needle === "string" || typeof needle === "object") {
        const long = size(String(self)), short = typeof needle === "string" ? needle.length : 0;
        if ((long - short) * short > MOST) throw new RangeError("the search takes too long: both strings are long");
      }
      charge(self, values);
      return apply(native, self, values);
    },
  };
  const multiplying = {
    apply(native, self, values) { work += size(self) * size(values[0]); charge(self, values); return apply(native, self, values); },
  };
  const SEARCHES = new Set(["indexOf", "lastIndexOf", "includes", "split", "replace", "replaceAll"]);
  const QUICK = new Set(["constructor", "push", "pop", "at", "charAt", "charCodeAt", "codePointAt", "values", "keys", "entries",
    "isArray", "valueOf", "of", "is", "prototype"]);
  const guard = (object, quick = QUICK) => {
    for (const name of ownKeys(object)) {
      const found = getOwnPropertyDescriptor(object, name);
      if (typeof name !== "string" || quick.has(name) || typeof found.value !== "function" || !found.configurable) continue;
      const how = object !== String.prototype ? counted : SEARCHES.has(name) ? searching : name === "repeat" ? multiplying : counted;
      set(object, name, new Proxy(found.value, how));
    }
  };
  const views = getPrototypeOf(Uint8Array);
  const none = new Set(["constructor"]);
  for (const object of [String.prototype, Array.prototype, Array, views.prototype, views, ArrayBuffer.prototype,
    BigInt.prototype, TextEncoder.prototype, TextDecoder.prototype]) guard(object);
  for (const object of [JSON, Object, Reflect]) guard(object, new Set(["prototype", "is", "apply", "construct", "get", "has"]));
  for (const name of ["btoa", "atob", "encodeURI", "encodeURIComponent", "decodeURI", "decodeURIComponent", "escape",
    "unescape", "parseInt", "parseFloat"]) set(globalThis, name, new Proxy(globalThis[name], counted));
  for (const name of ownKeys(globalThis)) {
    const kind = globalThis[name];
    if (name !== "ArrayBuffer" && !(typeof kind === "function" && getPrototypeOf(kind) === views)) continue;
    const guarded = new Proxy(kind, counted);
    set(kind.prototype, "constructor", guarded);
    set(globalThis, name, guarded);
  }

  // ---- JSON.stringify, not the engine's ----
  // Where the heap ends within the engine's, it never frees an object, and to free the engine ends the process.
  const exec = RegExp.prototype.exec, keysOf = Object.keys, unsafe = /["\\\u0000-\u001f\ud800-\udfff]/;
  const char = String.prototype.charCodeAt, cut = String.prototype.slice, hex = Number.prototype.toString;
  const shorts = { __proto__: null, 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\" };
  const escape = (code) => shorts[code] ?? `\\u${apply(cut, `000${apply(hex, code, [16])}`, [-4])}`;
  const isLow = (code) => code >= 0xdc00 && code < 0xe000;
  const quote = (value) => {
    if (apply(exec, unsafe, [value]) === null) return `"${value}"`;
    let out = '"', from = 0;
    for (let i = 0; i < value.length; i++) {
      const code = apply(char, value, [i]);
      if (code >= 32 && code !== 34 && code !== 92 && (code < 0xd800 || code > 0xdfff)) continue;
      if (code >= 0xd800 && code < 0xdc00 && isLow(apply(char, value, [i + 1]))) { i++; continue; }
      out += apply(cut, value, [from, i]) + escape(code);
      from = i + 1;
    }
    return `${out}${apply(cut, value, [from])}"`;
  };
  const bare = (value) =>
    value instanceof Number ? Number(value)
    : value instanceof String ? String(value)
    : value instanceof Boolean ? value.valueOf() : value;
  const write = (how, holder, key, name, indent, above) => {
    let value = holder[key];
    if ((typeof value === "object" && value !== null) || typeof value === "function" || typeof value === "bigint") {
      const toJSON = value.toJSON;
      if (typeof toJSON === "function") value = apply(toJSON, value, [name ?? `${key}`]);
    }
    if (how.replace !== undefined) value = apply(how.replace, holder, [name ?? `${key}`, value]);
    if (typeof value === "object" && value !== null) value = bare(value);
    switch (typeof value) {
      case "string": return quote(value);
      case "number": return value - value === 0 ? `${value}` : "null";
      case "boolean": return value ? "true" : "false";
      case "bigint": throw new TypeError("BigInt are forbidden in JSON.stringify");
      case "object": break;
      default: return undefined;
    }
    if (value === null) return "null";
    for (let each = above; each !== null; each = each.above) {
      if (each.value === value) throw new TypeError("circular reference");
    }
    const within = { value, above }, deeper = indent + how.gap, list = isArray(value);
    const comma = how.gap === "" ? "," : `,\n${deeper}`;
    let out = "", first = true;
    if (list) {
      const size = value.length;
      for (let i = 0; i < size; i++) {
        out += (first ? "" : comma) + (write(how, value, i, undefined, deeper, within) ?? "null");
        first = false;
      }
    } else {
      const names = how.names ?? keysOf(value);
      for (let i = 0; i < names.length; i++) {
        const text = write(how, value, names[i], names[i], deeper, within);
        if (text === undefined) continue;
        out += `${first ? "" : comma}${quote(names[i])}:${how.gap === "" ? "" : " "}${text}`;
        first = false;
      }
    }
    if (!first && how.gap !== "") out = `\n${deeper}${out}\n${indent}`;
    return list ? `[${out}]` : `{${out}}`;
  };
  const namesOf = (list) => {
    const names = [], seen = { __proto__: null };
    for (let i = 0; i < list.length; i++) {
      const one = list[i];
      const name = typeof one === "string" ? one
        : typeof one === "number" || one instanceof Number || one instanceof String ? String(one) : undefined;
      if (name === undefined || seen[name] === true) continue;
      seen[name] = true;
      defineProperty(names, names.length, { value: name, writable: true, enumerable: true, configurable: true });
    }
    return names;
  };
  set(JSON, "stringify", function stringify(value, replacer, space) {
    const how = {
      replace: typeof replacer === "function" ? replacer : undefined,
      names: isArray(replacer) ? namesOf(replacer) : undefined,
      gap: "",
    };
    const wide = typeof space === "object" && space !== null ? bare(space) : space;
    if (typeof wide === "number") for (let i = 1; i <= wide && i <= 10; i++) how.gap += " ";
    else if (typeof wide === "string") how.gap = apply(cut, wide, [0, 10]);
    return write(how, { "": value }, "", "", "", null);
  });

  // ---- Function.prototype.bind, not the engine's ----
  // Where the heap ends within the engine's, it frees what it has not made yet, which ends the process.
  const concat = Array.prototype.concat;
  set(Function.prototype, "bind", function bind(self, ...first) {
    if (typeof this !== "function") throw new TypeError("not a function");
    const target = this;
    return function (...rest) {
      const values = apply(concat, first, [rest]);
      return new.target === undefined ? apply(target, self, values) : construct(target, values);
    };
  });

  // ---- what one member alone wrote ----
  // Arithmetic on large integers is no function that could count, and code from text could hold any.
  if (plain) {
    const refuse = function () { throw new TypeError("code from text is refused here"); };
    for (const of of [function () {}, async function () {}, function* () {}, async function* () {}]) {
      set(getPrototypeOf(of), "constructor", refuse);
    }
    refuse.prototype = getPrototypeOf(refuse);
    set(globalThis, "Function", refuse);
    set(globalThis, "eval", refuse);
    for (const name of ["BigInt", "BigInt64Array", "BigUint64Array"]) delete globalThis[name];
    // Spreading is no call of a function of ours, unless each step of an iterator is one.
    for (const list of [[], "", new Map(), new Set()]) {
      const steps = getPrototypeOf(list[Symbol.iterator]()), native = steps.next;
      set(steps, "next", function next() { return apply(native, this, []); });
    }
    for (const name of ["getBigInt64", "getBigUint64"]) delete DataView.prototype[name];
    // Where the heap ends within these, the new prototype is never freed, and to free the engine ends the process.
    for (const object of [Object, Reflect]) delete object.setPrototypeOf;
    delete Object.prototype.__proto__;
    for (const name of ["stackTraceLimit", "prepareStackTrace"]) delete Error[name];
  }

  // ---- how the host calls ----
  const hidden = (name, value) =>
    defineProperty(globalThis, name, { value, writable: false, enumerable: false, configurable: false });
  const exported = ownKeys;
  hidden("__exports", (name) => import(name).then((module) => exported(module).filter((key) => typeof key === "string")));
  hidden("__call", (name, key) => import(name).then((module) => {
    const target = module[key];
    if (typeof target !== "function") throw new TypeError(`${key} is not an exported function`);
    return apply(target, undefined, host(0));
  }));
})();
