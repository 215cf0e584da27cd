// Copying: `[data-copy]` copies its value, `[data-path]` (keys of JSON) the path.

import { toast } from "./toasts.js";

document.addEventListener("click", async ({ target }) => {
  const copied = target.closest?.("[data-copy], [data-path]");
  if (!copied) return;
  const text = copied.dataset.copy ?? copied.dataset.path;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text);
  }
  toast(copied.dataset.path === undefined ? "Copied" : `Copied ${text}`);
});

// Plain http on an address that is not loopback has no clipboard API.
function copyOldWay(text) {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
