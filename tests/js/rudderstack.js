// Sends with @rudderstack/rudder-sdk-node, as an application does. Arguments: data plane, write key, gzip (true or false).
import Analytics from "@rudderstack/rudder-sdk-node";

const [dataPlaneUrl, writeKey, gzip] = process.argv.slice(2);
const client = new Analytics(writeKey, { dataPlaneUrl, gzip: gzip === "true", flushAt: 1, maxRetry: 1 });
const errors = [];
const sent = (error) => { if (error) errors.push(String(error)); };
await new Promise((resolve) => client.identify(
  { userId: "user_42", traits: { email: "ada@example.com", name: "Ada Example" } },
  (error) => { sent(error); resolve(); },
));
await new Promise((resolve) => client.track(
  { userId: "user_42", event: "order_completed", properties: { total: 42.5 } },
  (error) => { sent(error); resolve(); },
));
await client.flush();
console.log(JSON.stringify({ errors }));
process.exit(0);
