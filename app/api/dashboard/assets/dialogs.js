// Dialogs: `[data-dialog="id"]` opens one, `[data-close]` inside closes it; one that arrives with `data-open` opens by
// itself and goes when it is closed. Menus (`details.menu`) close when something else is clicked, and on Escape.

import htmx from "htmx.org";

document.addEventListener("click", ({ target }) => {
  const opener = target.closest?.("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog)?.showModal();
  if (target.closest?.("[data-close]")) target.closest("dialog")?.close();
  // A click beside a dialog is one on its backdrop.
  if (target instanceof HTMLDialogElement && target.dataset.open !== undefined) target.close();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

function open(root) {
  for (const dialog of root.querySelectorAll("dialog[data-open]:not([open])")) show(dialog);
  if (root.matches?.("dialog[data-open]:not([open])")) show(root);
}

function show(dialog) {
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.dataset.closedUrl) history.replaceState(null, "", dialog.dataset.closedUrl);
    dialog.remove();
  });
}

htmx.onLoad(open);
document.addEventListener("DOMContentLoaded", () => open(document));
