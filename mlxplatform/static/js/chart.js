// A chart of one or more metrics: templates/_chart.html draws the frame, this fills it with uPlot.
// Data: GET <data-url>?keys=a,b&n=1500[&from=&to=]
//   → {"seq": 12, "marks": {"checkpoint": [step], "resume": [step]}, "a": {"step": [], "min": [], "max": [], "last": []}, …}
import { Series, align, positive, smooth } from "./series.js";
import { formats, count } from "./numbers.js";
import { colour, legendItem, lines, options, readView, table, wait, writeView } from "./chart_parts.js";
import { marks } from "./marks.js";

const POINTS = 1500; // buckets asked for: about two per pixel column
const charts = new Map(); // root element → Chart

class Chart {
  constructor(root) {
    this.root = root;
    this.host = root.querySelector(".host");
    this.set = root.dataset;
    this.keys = this.set.keys.split(",");
    this.names = this.set.names?.split("|") ?? this.keys;
    this.write = formats[this.set.format] ?? formats.signif;
    this.series = new Map(this.keys.map((key) => [key, new Series()]));
    this.marks = {};
    this.hidden = new Set();
    this.seq = 0;
    this.loads = 0;
    Object.assign(this, readView(root.id, this.set));
    this.tools();
    this.size = new ResizeObserver(() => this.plot?.setSize({ width: this.host.clientWidth, height: this.height }));
    this.size.observe(this.host);
    this.load();
  }

  get height() { return this.host.classList.contains("tall") ? 280 : 160; }
  writeUrl() {
    const plain = this.weight === Number(this.set.smooth ?? 0) && !this.log && !this.zoom;
    writeView(this.root.id, plain ? null : this);
  }

  tools() {
    const act = (name) => this.root.querySelector(`[data-act="${name}"]`);
    this.root.querySelector(".tools").hidden = false;
    const slider = act("smooth");
    const show = () => { slider.nextElementSibling.textContent = this.weight.toFixed(2); };
    if (slider) { slider.value = this.weight; show(); }
    slider?.addEventListener("input", () => { this.weight = Number(slider.value); show(); this.draw(); });
    slider?.addEventListener("change", () => this.writeUrl());
    const log = act("log");
    const pressed = () => log?.setAttribute("aria-pressed", String(this.log));
    pressed();
    log?.addEventListener("click", () => {
      this.log = !this.log;
      pressed();
      this.writeUrl();
      this.rebuild();
    });
    this.resetButton = act("reset");
    this.resetButton.addEventListener("click", () => this.setZoom(null));
    act("closer").addEventListener("click", () => this.closer());
    this.root.querySelector("details.plain").addEventListener("toggle", () => this.table());
  }

  async load() {
    const mine = ++this.loads;
    this.waiting ??= []; // live frames wait until the data they build on is here
    const url = new URL(this.set.url, location.href);
    url.searchParams.set("keys", this.keys.join(","));
    url.searchParams.set("n", POINTS);
    if (this.zoom) { url.searchParams.set("from", Math.floor(this.zoom[0])); url.searchParams.set("to", Math.ceil(this.zoom[1])); }
    try {
      const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const data = await answer.json();
      if (mine === this.loads) this.take(data);
    } catch (error) {
      if (mine === this.loads) this.failed(error);
    }
  }

  failed(error) {
    this.release();
    if (this.plot) return; // the old picture stands; the next zoom or reload asks again
    const again = Object.assign(document.createElement("button"), { type: "button", className: "btn sm", textContent: "Try again" });
    again.addEventListener("click", () => { this.wait("Loading…"); this.load(); });
    this.wait(`The chart could not be loaded (${error.message}). `).append(again);
  }

  wait(text) { return wait(this.host, text); }

  take(data) {
    this.seq = data.seq ?? 0;
    this.marks = data.marks ?? {};
    for (const key of this.keys) this.series.get(key).load(data[key] ?? {});
    this.release();
    this.rebuild();
  }

  release() {
    const early = this.waiting ?? [];
    this.waiting = null;
    for (const frame of early) this.live(frame);
  }

  /** A frame of the socket; what the loaded data already holds is passed over. */
  live(frame) {
    if (this.waiting) { this.waiting.push(frame); return; }
    if (frame.seq <= this.seq) return;
    this.seq = frame.seq;
    if (frame.t === "truncate") {
      for (const series of this.series.values()) series.truncate(frame.step);
      this.marks.resume = [...(this.marks.resume ?? []), frame.step];
      this.marks.checkpoint = (this.marks.checkpoint ?? []).filter((step) => step <= frame.step);
    } else if (frame.t === "metric") {
      for (const key of this.keys) if (key in frame.values) this.series.get(key).put(frame.step, frame.values[key]);
    } else if (frame.checkpoint !== undefined) {
      this.marks.checkpoint = [...(this.marks.checkpoint ?? []), frame.checkpoint.step];
    }
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      if (this.plot) this.draw();
      else this.rebuild();
    });
  }

  /** For the first key smoothed (or only) line, raw, max and min; for the others one line each. */
  columns() {
    const fit = this.log ? positive : (values) => values;
    return this.keys.flatMap((key, i) => {
      const { step, min, max, last } = this.series.get(key);
      if (i > 0) return [{ step, values: fit(last) }];
      const main = this.weight ? smooth(step, last, this.weight) : last;
      return [main, last, max, min].map((values) => ({ step, values: fit(values) }));
    });
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.keys.some((key) => this.series.get(key).size)) {
      this.wait("No points yet. They appear here while the job runs.");
      this.legend();
      return;
    }
    this.host.replaceChildren();
    const on = {
      range: () => this.range(),
      cursor: () => this.legend(),
      select: (from, to) => this.setZoom([from, to]),
      draw: (u) => marks(u, this.marks, this.star(), { ink: colour("ink-3"), best: colour("accent"), ground: colour("surface") }),
    };
    const series = lines(this.keys, this.hidden, this.weight > 0);
    const tick = (y) => (this.set.format === "loss" ? String(Number(y.toPrecision(4))) : this.write(y));
    const given = { width: this.host.clientWidth, height: this.height, log: this.log, tick, series, on };
    this.plot = new window.uPlot(options(given), align(this.columns()), this.host);
    this.plot.over.addEventListener("dblclick", () => this.setZoom(null));
    this.plot.root.querySelector("canvas").setAttribute("role", "img");
    this.draw();
  }

  star() { return this.set.best ? this.series.get(this.set.best)?.best(this.set.better !== "more") : null; }

  /** What x shows: the zoom, or everything, so that the right edge follows the newest point. */
  range() {
    if (this.zoom) return this.zoom;
    const ends = [...this.series.values()].filter((s) => s.size).map((s) => [s.step[0], s.step[s.size - 1]]);
    const high = Math.max(...ends.map((end) => end[1]), 1);
    return [Math.min(...ends.map((end) => end[0]), high - 1, 1), high];
  }

  /** The button's twin of dragging: half of what is seen, at the right edge if that is the newest. */
  closer() {
    if (!this.plot) return;
    const { min, max } = this.plot.scales.x;
    if (max - min < 4) return;
    const quarter = (max - min) / 4;
    this.setZoom(this.zoom ? [min + quarter, max - quarter] : [max - 2 * quarter, max]);
  }

  setZoom(zoom) {
    this.zoom = zoom;
    this.plot?.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.writeUrl();
    this.draw();
    this.load(); // finer buckets for what is seen now, or all of them again
  }

  draw() {
    this.resetButton.disabled = !this.zoom;
    if (!this.plot) return;
    this.plot.series[2].show = this.weight > 0 && !this.hidden.has(this.keys[0]);
    this.plot.setData(align(this.columns()));
    this.legend();
    this.table();
    this.say();
  }

  legend() {
    const list = this.root.querySelector(".legend");
    const at = this.plot?.cursor.idx ?? null;
    this.keys.forEach((key, i) => {
      const item = list.children[i] ?? list.appendChild(legendItem(this.names[i], i, true, () => this.toggle(key)));
      const value = at === null ? this.series.get(key).last.at(-1) : this.plot.data[i === 0 ? 1 : i + 4][at];
      item.querySelector("b").textContent = this.write(value);
    });
  }

  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    this.rebuild();
    return !this.hidden.has(key);
  }

  say() {
    const star = this.star();
    const words = this.keys.map((key, i) => `${this.names[i]} ${this.write(this.series.get(key).last.at(-1))}`).join(", ");
    const best = star ? `; best ${this.write(star.value)} at step ${count(star.step)}` : "";
    this.plot.root.querySelector("canvas").setAttribute("aria-label", `${this.set.title}: now ${words}${best}`);
    const lost = this.log && this.keys.some((key) => this.series.get(key).last.some((v) => v !== null && v <= 0));
    this.root.querySelector(".note").hidden = !lost;
  }

  table() {
    const fold = this.root.querySelector("details.plain");
    if (!fold.open) return;
    const [steps, ...rows] = align(this.keys.map((key) => ({ step: this.series.get(key).step, values: this.series.get(key).last })));
    fold.querySelector(".table-box").replaceChildren(table(this.names, steps, rows, this.write));
  }

  destroy() {
    this.size.disconnect();
    this.plot?.destroy();
  }
}

function scan() {
  for (const [root, chart] of charts) if (!root.isConnected) { chart.destroy(); charts.delete(root); }
  for (const root of document.querySelectorAll("[data-chart]")) if (!charts.has(root)) charts.set(root, new Chart(root));
}

for (const name of ["metric", "truncate", "state", "snapshot"]) {
  document.addEventListener(`live:${name}`, ({ detail }) => {
    for (const chart of charts.values()) {
      if (chart.set.job !== detail.job) continue;
      if (name === "snapshot") chart.load();
      else chart.live(detail);
    }
  });
}
const redraw = () => { for (const chart of charts.values()) if (chart.plot) chart.rebuild(); };
document.addEventListener("theme", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
document.addEventListener("htmx:load", scan);
scan();
