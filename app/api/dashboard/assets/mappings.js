// The editor of a mapping: kinds of values, results beside the fields, unsaved changes, and paths from the sample, which
// are suggested while somebody types and put in by a click. `paths.js` has the list of suggestions.

import htmx from "htmx.org";
import { insertPath } from "./paths.js";

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
let isChanged = false;
let lastField = null;

export function enhance(element) {
  if (element.matches("[data-mapping-form]")) enhanceForm(element);
  if (element.matches("[data-sample]")) enhanceSample(element);
}

function enhanceForm(form) {
  const save = form.querySelector("[data-save]");
  const note = (changed) => {
    isChanged = changed;
    if (save) save.disabled = !changed;
  };
  note(form.dataset.changed !== undefined);
  // A new form that nobody typed in is nothing to lose.
  if (!form.querySelector('[name="version"]').value) isChanged = false;
  form.addEventListener("input", () => note(true));
  form.addEventListener("change", ({ target }) => target.matches("[data-mode]") && changeMode(target));
  form.querySelector("#action_type").addEventListener("change", (event) => {
    note(true);
    // The fields come first, then they are evaluated.
    event.stopPropagation();
  });
  form.addEventListener("focusin", ({ target }) => {
    if (target.matches("[data-paths]")) lastField = target;
  });
  form.addEventListener("keydown", (event) => {
    const isOneLine = event.target.matches("[data-paths]") && modeOf(event.target).value !== "json";
    if (event.key !== "Enter" || event.defaultPrevented || !isOneLine) return;
    event.preventDefault();
    form.requestSubmit(save);
  });
  form.addEventListener("htmx:beforeOnLoad", ({ detail }) => {
    if (detail.xhr.getResponseHeader("HX-Redirect")) isChanged = false;
  });
  document.querySelector("[data-discard]")?.addEventListener("click", () => (isChanged = false));
}

window.addEventListener("beforeunload", (event) => isChanged && event.preventDefault());
document.addEventListener("htmx:beforeOnLoad", ({ detail }) => {
  if (detail.xhr.getResponseHeader("HX-Redirect")) isChanged = false;
});

// Results of the last evaluation, beside the fields that are still there.
htmx.onLoad((root) => {
  const found = root.matches?.("[data-results]") ? root : root.querySelector?.("[data-results]");
  for (const each of found?.children ?? []) {
    const result = document.getElementById(each.dataset.for);
    if (!result) continue;
    result.replaceChildren(...each.childNodes);
    const field = document.getElementById(each.dataset.for.replace(/-result$/, ""));
    if (result.querySelector(".error")) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
});

function enhanceSample(sample) {
  const choice = sample.querySelector("#sample-choice");
  for (const option of choice?.querySelectorAll("[data-time]") ?? []) {
    option.textContent = `Received ${DATE.format(new Date(option.dataset.time))}`;
  }
  for (const button of sample.querySelectorAll("[data-sample-step]")) {
    const next = choice.selectedIndex + Number(button.dataset.sampleStep);
    button.disabled = next < 0 || next >= choice.options.length;
    button.addEventListener("click", () => {
      choice.selectedIndex = next;
      choice.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
  sample.addEventListener("click", ({ target }) => {
    const picked = target.closest("[data-pick]");
    if (!picked) return;
    const fields = [...document.querySelectorAll("[data-paths]")];
    const field = lastField?.isConnected ? lastField : fields.find((each) => !each.value);
    if (!field) return;
    const mode = modeOf(field);
    if (mode.value === "fixed") mode.value = "path";
    insertPath(field, mode.value, picked.dataset.pick);
  });
}

const modeOf = (field) => field.parentElement.querySelector("[data-mode]");

// What stands in a field means the same in its new kind, where that can be.
function changeMode(mode) {
  const field = mode.parentElement.querySelector("[data-paths]");
  const before = mode.dataset.before ?? [...mode.options].find((each) => each.defaultSelected)?.value;
  mode.dataset.before = mode.value;
  if (!field.value.trim()) return;
  if (mode.value === "json") {
    field.value = JSON.stringify(before === "fixed" ? { value: field.value } : field.value);
  } else if (before === "json") field.value = plain(field.value);
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

function plain(text) {
  try {
    const parsed = JSON.parse(text);
    if (typeof parsed === "string") return parsed;
    return typeof parsed?.value === "string" ? parsed.value : text;
  } catch {
    return text;
  }
}
