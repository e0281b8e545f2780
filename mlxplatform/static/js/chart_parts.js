// The parts of a chart that need no state: colours, uPlot's options, table, legend, address.
import { count } from "./numbers.js";

const probe = document.createElement("span");
probe.hidden = true;

/** A token as a colour that a canvas understands (light-dark() is resolved by the browser). */
export function colour(name, alpha = 1) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  const seen = getComputedStyle(probe).color;
  return alpha === 1 ? seen : seen.replace(/^rgb\((.+)\)$/, `rgba($1, ${alpha})`);
}

const line = (i, extra = {}) => ({
  stroke: colour(`series-${i + 1}`), width: 2, dash: i % 2 ? [6, 4] : undefined, points: { show: false }, ...extra,
});

/** Lines in the order of the columns: the first key's smoothed, raw, max and min, then one per further key. */
export function lines(keys, hidden, smoothed) {
  return keys.flatMap((key, i) => {
    const show = !hidden.has(key);
    if (i > 0) return [line(i, { show, points: { show: /^(val|test)_/.test(key), size: 6, fill: colour(`series-${i + 1}`) } })];
    const edge = line(0, { stroke: "transparent", show });
    return [line(0, { show }), line(0, { width: 1, stroke: colour("series-1", 0.4), show: show && smoothed }), edge, { ...edge }];
  });
}

/** uPlot's options; `on` brings range(), cursor(), select(from, to) and draw(u). */
export function options({ width, height, log, tick, series, on }) {
  const axis = {
    stroke: colour("ink-3"), grid: { stroke: colour("chart-grid"), width: 1 }, ticks: { show: false },
    font: '12px Geist, system-ui, sans-serif',
  };
  return {
    width, height, series: [{}, ...series],
    padding: [8, 12, 0, 0],
    bands: [{ series: [3, 4], fill: colour("series-1", 0.16) }],
    scales: { x: { time: false, range: () => on.range() }, y: log ? { distr: 3 } : {} },
    axes: [
      { ...axis, size: 28, values: (_, ticks) => ticks.map((x) => (Number.isInteger(x) ? count(x) : "")) },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((y) => (y === null ? "" : tick(y))) },
    ],
    cursor: { sync: { key: "steps" }, drag: { x: true, y: false, setScale: false }, points: { size: 7 }, y: false },
    legend: { show: false },
    hooks: {
      setCursor: [() => on.cursor()],
      setSelect: [(u) => {
        const { left, width: wide } = u.select;
        if (wide > 4) on.select(u.posToVal(left, "x"), u.posToVal(left + wide, "x"));
      }],
      draw: [on.draw],
    },
  };
}

/** The newest 200 rows as a table, newest first: the chart for those who do not see it. */
export function table(names, steps, rows, write) {
  const made = document.createElement("table");
  made.className = "data";
  const head = made.createTHead().insertRow();
  for (const name of ["Step", ...names]) {
    head.append(Object.assign(document.createElement("th"), { textContent: name, scope: "col", className: "num" }));
  }
  const body = made.createTBody();
  for (let i = steps.length - 1; i >= Math.max(0, steps.length - 200); i -= 1) {
    const row = body.insertRow();
    const texts = [count(steps[i]), ...rows.map((values) => (values[i] === undefined ? "" : write(values[i])))];
    for (const textContent of texts) Object.assign(row.insertCell(), { className: "num", textContent });
  }
  return made;
}

/** One entry of the legend: a switch with the line's colour, its name and the value under the cursor. */
export function legendItem(name, i, pressed, toggle) {
  const item = document.createElement("li");
  const press = Object.assign(document.createElement("button"), { type: "button" });
  press.setAttribute("aria-pressed", String(pressed));
  press.append(Object.assign(document.createElement("span"), { className: `key key-${i + 1}` }), `${name} `, document.createElement("b"));
  press.addEventListener("click", () => press.setAttribute("aria-pressed", String(toggle())));
  item.append(press);
  return item;
}

/** What stands in the host until there are lines to draw. */
export function wait(host, text) {
  const note = host.querySelector(".wait") ?? host.appendChild(Object.assign(document.createElement("p"), { className: "wait" }));
  note.textContent = text;
  return note;
}

/** The view that the page's address keeps: ?<id>=smoothing~log~from~to */
export function readView(id, set) {
  const [weight, log, from, to] = (new URLSearchParams(location.search).get(id) ?? "").split("~");
  const given = Number(weight || set.smooth || 0);
  return {
    weight: "smooth" in set && given >= 0 && given <= 0.99 ? given : 0,
    log: log === "log",
    zoom: from && Number(to) > Number(from) ? [Number(from), Number(to)] : null,
  };
}

/** Write the view to the address; null is the view that needs no words. */
export function writeView(id, view) {
  const url = new URL(location.href);
  if (view) url.searchParams.set(id, [view.weight, view.log ? "log" : "", ...(view.zoom ?? []).map((x) => Math.round(x))].join("~"));
  else url.searchParams.delete(id);
  history.replaceState(history.state, "", url);
}
