// Knock's client, driven by a test: reads calls from its standard input, one a line, and writes what came of each.
// Usage: node client.js URL KEY
import { createInterface } from "node:readline";
import Knock, { APIError } from "@knocklabs/node";

const [baseURL, apiKey] = process.argv.slice(2);
const knock = new Knock({ apiKey, baseURL, maxRetries: 0 });

const camelCase = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

function start({ method, path, parameters }) {
  const names = method.split(".").map(camelCase);
  const owner = names.slice(0, -1).reduce((resource, name) => resource[name], knock);
  const { custom, idempotency_key: idempotencyKey, ...known } = parameters;
  const body = { ...known, ...custom };
  const given = Object.keys(body).length ? [body] : [];
  const options = idempotencyKey ? [{ idempotencyKey }] : [];
  return owner[names.at(-1)](...path, ...given, ...options);
}

async function collected(list) {
  const items = [];
  for await (const item of list) items.push(item);
  return items;
}

async function answer(call) {
  try {
    const started = start(call);
    return { result: call.collect ? await collected(started) : await started };
  } catch (error) {
    if (error instanceof APIError && error.status) {
      return { refused: { status: error.status, body: error.error } };
    }
    return { failed: String(error.stack) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
