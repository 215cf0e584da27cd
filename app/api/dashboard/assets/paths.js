// Paths of the sample, suggested in fields (`textarea[data-paths]`): the whole of a path, or within JSON the text between
// quotes that the caret is in.

const MAXIMUM_SHOWN = 40;
let list = null;

document.addEventListener("input", ({ target, isTrusted }) => isTrusted && target.matches?.("[data-paths]") && open(target));
document.addEventListener("focusout", ({ target }) => target.matches?.("[data-paths]") && close());
document.addEventListener("keydown", (event) => {
  if (!event.target.matches?.("[data-paths]")) return;
  if (!list) {
    if (event.key === "ArrowDown" && modeOf(event.target) !== "json") act(event, () => open(event.target));
    return;
  }
  if (event.key === "ArrowDown") act(event, () => select(1));
  else if (event.key === "ArrowUp") act(event, () => select(-1));
  else if (event.key === "Escape") act(event, close);
  else if (event.key === "Enter" || event.key === "Tab") {
    const chosen = list.querySelector('[aria-selected="true"]');
    if (chosen) act(event, () => choose(event.target, chosen));
    else close();
  }
});

function act(event, what) {
  event.preventDefault();
  event.stopPropagation();
  what();
}

const modeOf = (field) => field.parentElement.querySelector("[data-mode]").value;

// All paths there are, with the value at each; those into lists also for all entries at once.
function candidates() {
  const found = new Map();
  for (const element of document.querySelectorAll("#sample [data-pick]")) {
    const path = element.dataset.pick;
    const preview = element.classList.contains("json-key") ? "" : element.textContent;
    if (preview || !found.has(path)) found.set(path, preview);
    const projected = path.replace(/\.\d+(?=\.|$)/g, ".*");
    if (projected !== path && !found.has(projected)) found.set(projected, "of all entries");
  }
  return [...found];
}

// Where the text that is completed begins and ends; null where there is none.
function token(field, mode) {
  if (mode === "fixed") return null;
  if (mode === "path") return [0, field.value.length];
  const before = field.value.slice(0, field.selectionStart);
  const quotes = [...before.matchAll(/(?<!\\)"/g)].map((match) => match.index);
  if (quotes.length % 2 === 0) return null;
  const end = field.value.slice(field.selectionStart).search(/(?<!\\)"|\n|$/);
  return [quotes.at(-1) + 1, field.selectionStart + end];
}

function open(field) {
  close();
  const range = token(field, modeOf(field));
  if (!range) return;
  const typed = field.value.slice(...range).toLowerCase();
  const matching = candidates()
    .filter(([path]) => path.toLowerCase().includes(typed) && path.toLowerCase() !== typed)
    .sort(([a], [b]) => b.toLowerCase().startsWith(typed) - a.toLowerCase().startsWith(typed))
    .slice(0, MAXIMUM_SHOWN);
  if (!matching.length) return;
  list = document.createElement("ul");
  list.className = "paths";
  list.id = "paths";
  list.role = "listbox";
  list.ariaLabel = "Paths of the sample";
  list.append(...matching.map(item));
  list.addEventListener("mousedown", (event) => {
    const chosen = event.target.closest("li");
    if (chosen) act(event, () => choose(field, chosen));
  });
  field.after(list);
  field.setAttribute("aria-controls", list.id);
}

function item([path, preview], number) {
  const element = document.createElement("li");
  element.role = "option";
  element.id = `path-${number}`;
  element.dataset.value = path;
  for (const [text, name] of [[path, ""], [preview, "preview"]]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    element.append(part);
  }
  return element;
}

function select(step) {
  const items = [...list.children];
  const at = items.findIndex((each) => each.ariaSelected === "true");
  const next = (at + step + items.length + (at < 0 && step < 0 ? 1 : 0)) % items.length;
  if (at >= 0) items[at].ariaSelected = "false";
  items[next].ariaSelected = "true";
  items[next].scrollIntoView({ block: "nearest" });
  list.previousElementSibling.setAttribute("aria-activedescendant", items[next].id);
}

function choose(field, element) {
  insertPath(field, modeOf(field), element.dataset.value);
  close();
}

function close() {
  list?.previousElementSibling.removeAttribute("aria-controls");
  list?.previousElementSibling.removeAttribute("aria-activedescendant");
  list?.remove();
  list = null;
}

export function insertPath(field, mode, path) {
  const range = token(field, mode);
  if (range) {
    const text = mode === "json" ? JSON.stringify(path).slice(1, -1) : path;
    field.setRangeText(text, ...range, "end");
  } else field.setRangeText(JSON.stringify(path), field.selectionStart, field.selectionEnd, "end");
  field.focus();
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
