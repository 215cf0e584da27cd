// The log: rows that arrive (`htmx-ext-sse` brings them), pausing, and the event beside the list on wide screens.

import htmx from "htmx.org";

// Rows on a live page; the oldest go, "Older" has them.
const MAXIMUM_ROWS = 200;
const WIDE = matchMedia("(min-width: 1100px)");

export function enhance(rows) {
  if (rows.dataset.stream === undefined || rows.hasAttribute("sse-connect")) return;
  const toggle = document.querySelector("[data-live]");
  const more = document.querySelector("[data-show-new]");
  const waiting = new Map();
  let isPaused = false;

  const isAway = () => window.scrollY > 140 || document.activeElement?.closest("[data-filters]");
  const show = () => {
    for (const html of waiting.values()) put(rows, html);
    waiting.clear();
    tell();
  };
  const tell = () => {
    const fresh = [...waiting.keys()].filter((id) => !document.getElementById(`log-${id}`)).length;
    more.hidden = fresh === 0;
    more.textContent = `${fresh} new ${fresh === 1 ? "event" : "events"}`;
  };
  const setPaused = (paused) => {
    isPaused = paused;
    toggle.setAttribute("aria-pressed", !paused);
    toggle.querySelector("[data-live-label]").textContent = paused ? "Paused" : "Live";
    if (!paused) show();
  };

  rows.addEventListener("htmx:sseBeforeMessage", (event) => {
    event.preventDefault();
    const { data, lastEventId } = event.detail;
    const isShown = document.getElementById(`log-${lastEventId}`) !== null;
    // Rows that are there change in place; new ones would move what is being read.
    if (isPaused || (!isShown && isAway())) {
      waiting.set(lastEventId, data);
      tell();
    } else put(rows, data);
  });
  toggle.addEventListener("click", () => setPaused(!isPaused));
  more.addEventListener("click", () => {
    setPaused(false);
    window.scrollTo({ top: 0 });
  });
  document.addEventListener("scroll", () => !isPaused && waiting.size && !isAway() && show(), { passive: true });
  document.addEventListener("focusout", () => setTimeout(() => !isPaused && waiting.size && !isAway() && show()));
  // Connected only now, so that nothing arrives before it is listened for.
  for (const [name, value] of [["hx-ext", "sse"], ["sse-connect", rows.dataset.stream], ["sse-swap", "log"]]) {
    rows.setAttribute(name, value);
  }
  htmx.process(rows);
}

function put(rows, html) {
  const parsed = document.createElement("template");
  parsed.innerHTML = html;
  const id = parsed.content.querySelector("[data-log]").dataset.log;
  const shown = document.getElementById(`log-${id}`);
  if (shown) {
    const isChosen = shown.classList.contains("chosen");
    htmx.swap(shown, html, { swapStyle: "outerHTML", swapDelay: 0, settleDelay: 0 });
    document.getElementById(`log-${id}`).classList.toggle("chosen", isChosen);
    return;
  }
  // Ids are ordered by time.
  const older = [...rows.children].find((row) => row.dataset.log < id);
  if (!older && rows.children.length) return;
  htmx.swap(older ?? rows, html, { swapStyle: older ? "beforebegin" : "afterbegin", swapDelay: 0, settleDelay: 0 });
  document.getElementById(`log-${id}`)?.classList.add("log-arrived");
  while (rows.children.length > MAXIMUM_ROWS) rows.lastElementChild.remove();
}

// The event beside the list.

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-event-link]");
  const panel = document.getElementById("event-panel");
  if (event.target.closest?.("[data-close-panel]")) close(panel);
  if (!link || !panel || !WIDE.matches || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  choose(link.closest("tr"));
  htmx.ajax("GET", link.href, { target: panel, swap: "innerHTML" });
});
document.addEventListener("keydown", (event) => {
  const panel = document.getElementById("event-panel");
  if (event.key !== "Escape" || !panel?.firstElementChild || document.querySelector("dialog[open], details.menu[open]")) return;
  close(panel);
});

function choose(row) {
  document.querySelector("tr.chosen")?.classList.remove("chosen");
  row?.classList.add("chosen");
}

function close(panel) {
  const link = document.querySelector("tr.chosen [data-event-link]");
  panel.replaceChildren();
  choose(null);
  link?.focus();
}
