// The scripts of every page. Larger parts are loaded by the pages that use them.

import htmx from "htmx.org";
import "htmx-ext-sse";
import "./clipboard.js";
import "./dialogs.js";
import "./keep.js";
import "./keyboard.js";
import "./layout.js";
import { announceStored, toast } from "./toasts.js";
import "./times.js";

// The strict policy allows neither evaluation nor inline styles, and pages with other people's data are not kept.
Object.assign(htmx.config, {
  allowEval: false,
  includeIndicatorStyles: false,
  historyCacheSize: 0,
  refreshOnHistoryMiss: true,
  selfRequestsOnly: true,
  defaultSwapStyle: "outerHTML",
  // Without `style`, which the policy forbids to copy.
  attributesToSettle: ["class", "width", "height"],
  // A form with bad input comes back with what is wrong with it.
  responseHandling: [
    { code: "204", swap: false },
    { code: "[23]..", swap: true },
    { code: "4(00|12|22)", swap: true },
    { code: "[45]..", swap: false, error: true },
  ],
});

document.addEventListener("htmx:sendError", () => toast("Doorbell cannot be reached", "error"));
document.addEventListener("htmx:configRequest", ({ detail }) => {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  if (token) detail.headers["X-CSRF-Token"] = token;
});

// Parts that only some pages have.
const parts = {
  "[data-editor]": () => import("./editor.js"),
  "[data-chart]": () => import("./charts.js"),
  "[data-filters]": () => import("./filters.js"),
  "#log-rows": () => import("./logs.js"),
  "[data-mapping-form], [data-sample]": () => import("./mappings.js"),
  "[data-chart-for]": () => import("./charts.js").then(({ update }) => ({ enhance: update })),
};
function enhance(root) {
  for (const [selector, load] of Object.entries(parts)) {
    const found = [...root.querySelectorAll(selector)];
    if (root.matches?.(selector)) found.push(root);
    if (found.length) load().then(({ enhance }) => found.forEach(enhance));
  }
}
enhance(document);
htmx.onLoad(enhance);
announceStored();
