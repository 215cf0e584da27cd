// Sends with @segment/analytics-node, as an application does. Arguments: host, write key.
import { Analytics } from "@segment/analytics-node";

const [host, writeKey] = process.argv.slice(2);
const errors = [];
const analytics = new Analytics({ host, writeKey, flushAt: 3, maxRetries: 0 });
analytics.on("error", (error) => errors.push(String(error.reason ?? error.code)));
analytics.identify({ userId: "user_42", traits: { email: "ada@example.com", name: "Ada Example" } });
analytics.track({ userId: "user_42", event: "Order Completed", properties: { total: 42.5 } });
analytics.group({ userId: "user_42", groupId: "acme", traits: { name: "Acme" } });
await analytics.closeAndFlush({ timeout: 10000 });
console.log(JSON.stringify({ errors }));
