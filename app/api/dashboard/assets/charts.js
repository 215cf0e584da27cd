// Charts over time: `<div data-chart>` with a `<script type="application/json">` inside:
// {"times": [seconds], "series": [{"label", "tone", "dash", "values": [...]}], "unit": "events", "stacked": true}.
// `<script type="application/json" data-chart-for="name">` that arrives later is new data for `<div data-chart="name">`.

import uPlot from "uplot";

const HEIGHT = 180;
const number = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact" });
const updates = new WeakMap();

export function enhance(element) {
  if (element.dataset.drawn !== undefined) return;
  element.dataset.drawn = "";
  let data = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
  let chart = draw(element, data);
  const redraw = () => {
    chart.destroy();
    chart = draw(element, data);
  };
  updates.set(element, (newer) => {
    const isSame = shape(newer) === shape(data);
    data = newer;
    if (isSame) chart.replace(data);
    else redraw();
  });
  document.addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(([{ contentRect }]) => chart.setSize({ width: Math.max(200, contentRect.width), height: HEIGHT })).observe(element);
}

export function update(script) {
  const element = document.querySelector(`[data-chart="${script.dataset.chartFor}"]`);
  updates.get(element)?.(JSON.parse(script.textContent));
}

// Charts with the same lines take new numbers without being drawn anew.
function shape({ series, stacked }) {
  return JSON.stringify([stacked, series.map(({ label }) => label)]);
}

function draw(element, { times, series, unit = "", stacked = false }) {
  const colour = (name) => resolved(element, name);
  let shown = series;
  const heightsOf = (each) => (stacked ? stack(each.map(({ values }) => values)) : each.map(({ values }) => values));
  const text = colour("--text-faint");
  const line = colour("--line");
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui" };
  // The upper layers are drawn first, so that each lower one covers its part.
  const order = series.map((_, position) => position).reverse();
  const columns = (moments, each) => [moments, ...order.map((position) => heightsOf(each)[position])];
  const chart = new uPlot(
    {
      width: Math.max(200, element.clientWidth),
      height: HEIGHT,
      cursor: { points: { size: 6 }, drag: { setScale: false } },
      legend: { live: true },
      scales: { y: { range: (_, minimum, maximum) => [0, Math.max(1, maximum * 1.08)] } },
      axes: [axis, { ...axis, size: (_, labels) => room(labels), values: (_, ticks) => ticks.map((tick) => tickText(tick, unit)) }],
      series: [
        {},
        ...order.map((position) => ({
          label: series[position].label,
          stroke: colour(`--${series[position].tone}`),
          fill: stacked ? colour(`--${series[position].tone}`) : undefined,
          paths: stacked ? uPlot.paths.bars({ size: [0.8, 40] }) : undefined,
          width: stacked ? 0 : 1.75,
          dash: series[position].dash,
          spanGaps: true,
          points: { show: !stacked, size: 4 },
          value: (_, __, ___, index) => (index === null ? "" : `${number.format(shown[position].values[index] ?? 0)} ${unit}`),
        })),
      ],
    },
    columns(times, series),
    element,
  );
  chart.replace = (newer) => {
    shown = newer.series;
    chart.setData(columns(newer.times, newer.series));
  };
  return chart;
}

// The axis has little room: `1.5K`, and of milliseconds `75 s`.
function tickText(tick, unit) {
  if (unit !== "ms") return short.format(tick);
  return tick < 1000 ? `${short.format(tick)} ms` : `${short.format(tick / 1000)} s`;
}

// Pixels for the longest label and the tick beside it.
function room(labels) {
  return 20 + 7 * Math.max(4, ...(labels ?? []).map((label) => label.length));
}

function stack(values) {
  let below = [];
  return values.map((layer) => (below = layer.map((value, index) => (value ?? 0) + (below[index] ?? 0))));
}

// A canvas knows no light-dark(): the browser computes the colour for it.
function resolved(element, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
