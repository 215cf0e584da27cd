// Times: "3 min ago" in `<time data-relative>`, the viewer's own zone in the others; the full time on hover.

import htmx from "htmx.org";

const REFRESHED_EVERY = 20000;
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const UNITS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
];

function write(element) {
  const moment = new Date(element.dateTime);
  element.title = full.format(moment);
  const isToday = moment.toDateString() === new Date().toDateString();
  if (element.dataset.relative !== undefined) element.textContent = relative(moment);
  else element.textContent = (isToday ? clock : short).format(moment);
}

function relative(moment) {
  let value = (moment - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(value) < size) return ago.format(Math.round(value), unit);
    value /= size;
  }
  return short.format(moment);
}

function writeAll(root) {
  root.querySelectorAll("time[datetime]").forEach(write);
  if (root.matches?.("time[datetime]")) write(root);
}

writeAll(document);
htmx.onLoad(writeAll);
setInterval(() => document.querySelectorAll("time[data-relative]").forEach(write), REFRESHED_EVERY);
