// What a script finds in its sandbox beside the language itself. Evaluated in every fresh context, before the script.
//
// It takes the only function that reaches the host, closes over it and removes it: a script has the helpers below
// and nothing else. `receivedAt` is the clock, in milliseconds: a script that runs again on the same event gives
// the same verdict.
const host = globalThis.host;
delete globalThis.host;

const { parse, stringify } = JSON;
const globalEval = eval;
const RealDate = Date;
const isView = ArrayBuffer.isView;

const define = (name, value) =>
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

/** Bytes of a text (as UTF-8), an ArrayBuffer or a view of one. */
function bytesOf(data, what) {
  if (typeof data === "string") return host("encode", data.toWellFormed());
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(`${what} is neither text nor bytes`);
}

/** Bytes as Web Crypto takes them: no text. */
function bufferOf(data, what) {
  if (typeof data === "string") throw new TypeError(`${what} is text: encode it with new TextEncoder().encode(...)`);
  return bytesOf(data, what);
}

const bufferFrom = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);

const ALGORITHMS = { SHA1: "SHA-1", SHA256: "SHA-256", SHA384: "SHA-384", SHA512: "SHA-512" };

function algorithmOf(given) {
  const name = typeof given === "object" && given !== null ? given.name : given;
  const known = ALGORITHMS[String(name).toUpperCase().replace("-", "")];
  if (known === undefined)
    throw new DOMException(`${String(name)} is not a hash: use SHA-1, SHA-256, SHA-384 or SHA-512`, "NotSupportedError");
  return known;
}

function encoded(bytes, encoding) {
  switch (encoding) {
    case "hex":
      return toHex(bytes);
    case "base64":
      return toBase64(bytes);
    case "bytes":
      return bytes;
  }
  throw new TypeError(`${String(encoding)} is not an encoding: use hex, base64 or bytes`);
}

function toHex(data) {
  let text = "";
  for (const byte of bytesOf(data, "data")) text += (byte < 16 ? "0" : "") + byte.toString(16);
  return text;
}

function fromHex(text) {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new TypeError("the text is not hex");
  return Uint8Array.from({ length: text.length / 2 }, (_, place) => parseInt(text.slice(2 * place, 2 * place + 2), 16));
}

const toBase64 = (data) => host("base64", bytesOf(data, "data"));

function fromBase64(text) {
  const bytes = host("unbase64", String(text).toWellFormed());
  if (bytes === null) throw new TypeError("the text is not base64");
  return bytes;
}

function hash(algorithm, data, encoding = "hex") {
  return encoded(host("digest", algorithmOf(algorithm), bytesOf(data, "data")), encoding);
}

function hmac(algorithm, key, data, encoding = "hex") {
  return encoded(host("hmac", algorithmOf(algorithm), bytesOf(key, "key"), bytesOf(data, "data")), encoding);
}

/** Whether two texts or bytes are equal, in a time that does not tell where they differ. Not given: not equal. */
function timingSafeEqual(a, b) {
  if (a === undefined || a === null || b === undefined || b === null) return false;
  return host("equal", bytesOf(a, "the first value"), bytesOf(b, "the second value"));
}

for (const helper of [hash, hmac, timingSafeEqual, toHex, fromHex, fromBase64]) define(helper.name, helper);
define("toBase64", toBase64);

define(
  "TextEncoder",
  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return host("encode", String(text).toWellFormed());
    }
  },
);

define(
  "TextDecoder",
  class TextDecoder {
    #fatal;
    #ignoreBOM;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      if (!/^(utf-?8|unicode-1-1-utf-8)$/i.test(String(label).trim()))
        throw new RangeError(`${String(label)} is not supported: utf-8 is`);
      this.#fatal = Boolean(fatal);
      this.#ignoreBOM = Boolean(ignoreBOM);
    }
    get encoding() {
      return "utf-8";
    }
    get fatal() {
      return this.#fatal;
    }
    get ignoreBOM() {
      return this.#ignoreBOM;
    }
    decode(data = new Uint8Array()) {
      const text = host("decode", bufferOf(data, "data"), this.#fatal);
      if (text === null) throw new TypeError("the bytes are not UTF-8");
      return !this.#ignoreBOM && text.startsWith("\ufeff") ? text.slice(1) : text;
    }
  },
);

const keyBytes = new WeakMap();
const bytesOfKey = WeakMap.prototype.get.bind(keyBytes);
let making = false;

class CryptoKey {
  constructor() {
    if (!making) throw new TypeError("keys are made with crypto.subtle.importKey");
  }
}

const BLOCK_BITS = { "SHA-1": 512, "SHA-256": 512, "SHA-384": 1024, "SHA-512": 1024 };

function isHmac(algorithm) {
  const name = typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm;
  return String(name).toUpperCase() === "HMAC";
}

function requireHmac(algorithm) {
  if (!isHmac(algorithm)) throw new DOMException("only HMAC is supported here", "NotSupportedError");
}

function keyFor(key, usage) {
  const bytes = bytesOfKey(key);
  if (bytes === undefined) throw new TypeError("the key is not a CryptoKey");
  if (!key.usages.includes(usage)) throw new DOMException(`the key's usages do not include ${usage}`, "InvalidAccessError");
  return bytes;
}

class SubtleCrypto {
  async digest(algorithm, data) {
    return bufferFrom(host("digest", algorithmOf(algorithm), bufferOf(data, "data")));
  }

  async importKey(format, keyData, algorithm, extractable, usages) {
    requireHmac(algorithm);
    if (format !== "raw") throw new DOMException(`key format ${String(format)} is not supported: use raw`, "NotSupportedError");
    const hashName = algorithmOf(algorithm.hash);
    const bytes = Uint8Array.from(bufferOf(keyData, "keyData"));
    if (bytes.length === 0) throw new DOMException("the key is empty", "DataError");
    const wanted = [...usages];
    if (wanted.length === 0 || wanted.some((usage) => usage !== "sign" && usage !== "verify"))
      throw new SyntaxError("usages must be some of sign and verify");
    making = true;
    const key = new CryptoKey();
    making = false;
    Object.defineProperties(key, {
      type: { value: "secret", enumerable: true },
      extractable: { value: Boolean(extractable), enumerable: true },
      algorithm: {
        value: Object.freeze({ name: "HMAC", hash: Object.freeze({ name: hashName }), length: bytes.length * 8 }),
        enumerable: true,
      },
      usages: { value: Object.freeze(wanted), enumerable: true },
    });
    keyBytes.set(key, bytes);
    return key;
  }

  async exportKey(format, key) {
    const bytes = bytesOfKey(key);
    if (bytes === undefined) throw new TypeError("the key is not a CryptoKey");
    if (!key.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    if (format !== "raw") throw new DOMException(`key format ${String(format)} is not supported: use raw`, "NotSupportedError");
    return bufferFrom(Uint8Array.from(bytes));
  }

  async sign(algorithm, key, data) {
    requireHmac(algorithm);
    return bufferFrom(host("hmac", key.algorithm.hash.name, keyFor(key, "sign"), bufferOf(data, "data")));
  }

  async verify(algorithm, key, signature, data) {
    requireHmac(algorithm);
    const expected = host("hmac", key.algorithm.hash.name, keyFor(key, "verify"), bufferOf(data, "data"));
    return host("equal", expected, bufferOf(signature, "signature"));
  }
}

define("CryptoKey", CryptoKey);
define("crypto", {
  subtle: new SubtleCrypto(),
  getRandomValues(array) {
    if (!isView(array) || array instanceof DataView || array instanceof Float32Array || array instanceof Float64Array)
      throw new DOMException("an array of integers is needed", "TypeMismatchError");
    if (array.byteLength > 65536) throw new DOMException("at most 65536 bytes at once", "QuotaExceededError");
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(host("random", array.byteLength));
    return array;
  },
  randomUUID() {
    const bytes = host("random", 16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return toHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  },
});

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (typeof value === "function") return `[function ${value.name}]`;
  if (typeof value === "bigint") return `${value}n`;
  if (isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  try {
    return stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

const consoleOf = {};
for (const level of ["log", "info", "debug", "warn", "error"])
  consoleOf[level] = (...values) => {
    host("log", values.map(shown).join(" ").toWellFormed());
  };
define("console", consoleOf);

/** JSON text of a value, a BigInt as its digits: they are the whole numbers that a Number does not hold. */
function written(value) {
  let found = false;
  const mark = toHex(host("random", 16));
  const text = stringify(value, (_, each) => {
    if (typeof each !== "bigint") return each;
    found = true;
    return `${mark}${each}`;
  });
  return found ? text.replace(new RegExp(`"${mark}(-?[0-9]+)"`, "g"), "$1") : text;
}

/** What a script added to the event that it returns: what it was given holds secrets, and stays out of the log. */
function additions(ctx, given) {
  const { body, rawBody } = ctx;
  const added = Object.fromEntries(Object.entries(ctx).filter(([name]) => !given.has(name)));
  return stringify(body) === stringify(parse(rawBody.replace(/^\ufeff/, ""))) ? added : { ...added, body };
}

/** Set the clock; what follows calls the script's main and gives its result as JSON text. */
export default function begin(receivedAt) {
  const FixedDate = function Date(...given) {
    if (new.target === undefined) return new RealDate(receivedAt).toString();
    return Reflect.construct(RealDate, given.length ? given : [receivedAt], new.target === FixedDate ? RealDate : new.target);
  };
  FixedDate.prototype = RealDate.prototype;
  RealDate.prototype.constructor = FixedDate;
  for (const [name, value] of [["UTC", RealDate.UTC], ["parse", RealDate.parse], ["now", () => receivedAt]])
    Object.defineProperty(FixedDate, name, { value, writable: true, configurable: true });
  define("Date", FixedDate);

  return async function run(json, event, exported) {
    // Nothing of the script runs before this: only what comes after is under the time limit.
    await null;
    const main = exported ?? globalEval("typeof main === 'function' ? main : undefined");
    if (main === undefined) return '"main"';
    if (json === null) return '"ok"';
    const ctx = parse(json);
    ctx.body = parse((event ?? ctx.content ?? ctx.rawBody).replace(/^\ufeff/, ""));
    delete ctx.content;
    const given = new Set(Object.keys(ctx));
    let output;
    try {
      output = await main(ctx);
    } catch (thrown) {
      if (thrown instanceof Error) throw thrown;
      throw Object.assign(new Error(shown(thrown)), { name: "Thrown" });
    }
    if (output === ctx) output = additions(ctx, given);
    const text = written(output);
    return typeof output === "object" && output !== null && text !== undefined && text.startsWith("{") ? text : '"output"';
  };
}
