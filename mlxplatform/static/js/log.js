// The log: templates/_log.html draws the frame. Pages by byte offset, so that nothing is lost or doubled:
//   GET <data-url>?from=<offset>[&before=1] → {"from": 0, "next": 4096, "size": 8192, "text": "whole lines\n"}
// A negative `from` counts from the end; before=1 asks for the page that ends at `from`. A live `log` frame
// is the doorbell to read on from `next`; without data-url the frames' own messages are shown.
import { ansi, fold } from "./ansi.js";

const KEEP = 3000; // lines in the page; the oldest go when more come
const TAIL = 65536; // bytes of the first look
const PAUSE = 400; // ms between two readings
const logs = new Map(); // root element → Log

class Log {
  constructor(root) {
    this.root = root;
    this.view = root.querySelector(".lines");
    this.fresh = root.querySelector('[data-act="fresh"]');
    this.follow = true;
    this.unseen = 0;
    this.next = null; // byte offset of what is not read yet
    this.first = null; // byte offset of the first line shown
    this.timer = 0;
    this.view.addEventListener("scroll", () => this.scrolled());
    root.addEventListener("click", (event) => this.act(event.target.closest("[data-act]")));
    const search = root.querySelector('input[type="search"]');
    search.addEventListener("input", () => this.search(search.value));
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); this.step(event.shiftKey ? -1 : 1); } });
    if (root.dataset.url) this.read(-TAIL);
  }

  act(button) {
    const name = button?.dataset.act;
    if (name === "older") this.older();
    if (name === "wrap") button.setAttribute("aria-pressed", String(this.root.classList.toggle("wrap")));
    if (name === "follow") this.setFollow(!this.follow);
    if (name === "fresh") this.setFollow(true);
  }

  async fetch(from, before = false) {
    const url = new URL(this.root.dataset.url, location.href);
    url.searchParams.set("from", from);
    if (before) url.searchParams.set("before", 1);
    const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer.json();
  }

  /** Read on from `from` until the end; one reading at a time, a doorbell meanwhile is remembered. */
  async read(from = this.next ?? -TAIL) {
    if (this.reading) { this.again = true; return; }
    this.reading = true;
    try {
      const page = await this.fetch(from);
      if (page.size < (this.next ?? 0)) { this.restart(); return; }
      if (this.next === null) { this.first = page.from; this.olderButton(); }
      this.next = page.next;
      this.append(lines(page.text));
      this.note("");
      this.again ||= page.next < page.size && page.text !== "";
    } catch (error) {
      this.note(`The log could not be read (${error.message}).`);
    } finally {
      this.reading = false;
    }
    if (this.again) { this.again = false; this.ring(); }
  }

  /** A shorter file is another one: a new attempt began its own log. */
  restart() {
    this.view.replaceChildren();
    this.next = null;
    this.ring();
  }

  /** The doorbell: read soon, together with whatever else comes within the pause. */
  ring() {
    if (this.timer) return;
    this.timer = setTimeout(() => { this.timer = 0; this.read(); }, PAUSE);
  }

  async older() {
    const page = await this.fetch(this.first, true).catch((error) => { this.note(`Not read (${error.message}).`); return null; });
    if (!page) return;
    this.setFollow(false);
    const height = this.view.scrollHeight;
    this.first = page.from;
    this.view.prepend(...lines(page.text).map(draw));
    this.view.scrollTop += this.view.scrollHeight - height;
    this.olderButton();
  }

  olderButton() { this.root.querySelector('[data-act="older"]').disabled = !(this.first > 0); }

  /** A frame of the socket. */
  live(frame) {
    if (this.root.dataset.url) this.ring();
    else this.append([{ text: frame.message, level: frame.level }]);
  }

  append(rows) {
    if (rows.length === 0) return;
    for (const row of rows.slice(-KEEP)) this.put(row);
    while (this.follow && this.view.childElementCount > KEEP) this.view.firstElementChild.remove();
    if (this.follow) this.toEnd();
    else {
      this.unseen += rows.length;
      this.fresh.hidden = false;
      this.fresh.textContent = `↓ ${this.unseen} new ${this.unseen === 1 ? "line" : "lines"}`;
    }
    if (this.term) this.search(this.term);
  }

  put(row) {
    const before = this.view.lastElementChild;
    if (before && before.dataset.text === row.text && row.text) {
      before.dataset.times = Number(before.dataset.times ?? 1) + 1;
      let mark = before.querySelector(".times");
      if (!mark) before.append((mark = Object.assign(document.createElement("span"), { className: "times faint" })));
      mark.textContent = `  × ${before.dataset.times}`;
    } else this.view.append(draw(row));
  }

  setFollow(on) {
    this.follow = on;
    this.root.querySelector('[data-act="follow"]').setAttribute("aria-pressed", String(on));
    if (!on) return;
    this.unseen = 0;
    this.fresh.hidden = true;
    this.toEnd();
  }

  toEnd() { this.view.scrollTop = this.view.scrollHeight; }

  scrolled() {
    const atEnd = this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight < 24;
    if (atEnd !== this.follow) this.setFollow(atEnd);
  }

  search(term) {
    this.term = term.toLowerCase();
    this.found = [];
    for (const line of this.view.children) {
      line.classList.remove("found");
      if (this.term && line.dataset.text.toLowerCase().includes(this.term)) this.found.push(line);
    }
    this.at = -1;
    if (this.term) for (const line of this.found) line.classList.add("found");
    this.note(this.term ? `${this.found.length} ${this.found.length === 1 ? "line" : "lines"} found` : "");
  }

  step(by) {
    if (!this.found?.length) return;
    this.at = (this.at + by + this.found.length) % this.found.length;
    this.setFollow(false);
    this.found[this.at].scrollIntoView({ block: "center" });
    this.note(`${this.at + 1} of ${this.found.length}`);
  }

  note(text) { this.root.querySelector(".count").textContent = text; }
}

/** Whole lines of a page as rows; the empty piece behind the last line break is none. */
function lines(text) {
  const rows = text.split("\n");
  if (rows.at(-1) === "") rows.pop();
  return rows.map((row) => ({ text: fold(row) }));
}

/** One line: text nodes and classes only, whatever it contains. */
function draw({ text, level }) {
  const line = document.createElement("div");
  line.className = "line";
  const pieces = ansi(text);
  line.dataset.text = pieces.map((piece) => piece.text).join("");
  const word = level ?? (/^\s*(error|fatal|traceback)\b/i.test(line.dataset.text) ? "error" : /^\s*warn(ing)?\b/i.test(line.dataset.text) ? "warning" : "");
  if (word === "error" || word === "warning") line.classList.add(word);
  for (const piece of pieces) {
    if (!piece.look) line.append(piece.text);
    else line.append(Object.assign(document.createElement("span"), { className: piece.look, textContent: piece.text }));
  }
  return line;
}

function scan() {
  for (const root of logs.keys()) if (!root.isConnected) logs.delete(root);
  for (const root of document.querySelectorAll("[data-log]")) if (!logs.has(root)) logs.set(root, new Log(root));
}

document.addEventListener("live:log", ({ detail }) => { for (const log of logs.values()) if (log.root.dataset.job === detail.job) log.live(detail); });
document.addEventListener("live:state", ({ detail }) => { for (const log of logs.values()) if (log.root.dataset.job === detail.job && log.root.dataset.url) log.ring(); });
// What libraries print rings no bell: while lines may still come, look every few seconds.
setInterval(() => { if (!document.hidden) for (const log of logs.values()) if ("live" in log.root.dataset && log.root.dataset.url) log.ring(); }, 3000);
document.addEventListener("htmx:load", scan);
scan();
