// Shortcuts: `/` to search, `g` and a letter to go somewhere, `e` and a number for an environment, `?` for this list.
// Links name theirs in `data-shortcut`, for example "g s".

let first = "";
let forgetting = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "/") return act(event, () => document.querySelector("[data-search]")?.focus());
  if (event.key === "?") return act(event, () => document.getElementById("shortcuts")?.showModal());
  if (first) {
    const link = document.querySelector(`[data-shortcut="${CSS.escape(`${first} ${event.key}`)}"]`);
    first = "";
    if (link) return act(event, () => link.click());
  }
  if (event.key === "g" || event.key === "e") {
    first = event.key;
    clearTimeout(forgetting);
    forgetting = setTimeout(() => (first = ""), 1500);
  }
});

function act(event, what) {
  event.preventDefault();
  what();
}

function isTyping(target) {
  return target.isContentEditable || target.closest?.("input, textarea, select, [data-editor]");
}
