// Prints what each package exports: they load in this interpreter.
import { Knock } from "@knocklabs/node";
import { Analytics } from "@segment/analytics-node";
import RudderAnalytics from "@rudderstack/rudder-sdk-node";
import { jitsuAnalytics } from "@jitsu/js";

console.log(
  JSON.stringify({
    knock: typeof Knock,
    segment: typeof Analytics,
    rudderstack: typeof RudderAnalytics,
    jitsu: typeof jitsuAnalytics,
  }),
);
