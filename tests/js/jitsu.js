// Sends with @jitsu/js, server to server. Arguments: host, write key.
import { jitsuAnalytics } from "@jitsu/js";

const [host, writeKey] = process.argv.slice(2);
const errors = [];
const analytics = jitsuAnalytics({ host, writeKey, s2s: true });
for (const send of [
  () => analytics.identify("user_42", { email: "ada@example.com", name: "Ada Example" }),
  () => analytics.track("user_signed_up", { plan: "pro" }),
  () => analytics.group("acme", { name: "Acme" }),
]) {
  try {
    await send();
  } catch (error) {
    errors.push(String(error));
  }
}
console.log(JSON.stringify({ errors }));
process.exit(0);
