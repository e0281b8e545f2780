// One websocket per page for all its jobs. A frame is {seq, job, t, …}; seq is dense per job.
//
// Markup: <body data-live-url="/ws/live/">, and on any element data-live-job="<uuid>" data-live-seq="<cursor>".
// Each frame becomes the event `live:<t>` with the frame as detail: once on the document, and once, not
// bubbling, on every element of that job (so that hx-trigger="live:state" works without a filter).
// Changes of state of all other jobs come too (the "*" of the subscription), as events on the document only.
// data-live-job="*" gets `live:any` for the state of every job that changes (no cursor, no log, no points).
// Nothing is lost or doubled: seq <= last is dropped, a hole is asked for again, a reconnect resumes at last.

const FIRST = 500; // ms, the first back-off
const CAP = 10000; // ms, the longest back-off
const CHIP = 3000; // ms without a connection before the page says so
const PATIENCE = 3000; // ms to wait for the frames of a hole
const SILENT = 30000; // ms without a beat, from a server that sends beats, before the socket counts as dead
const MOST = 100; // jobs of one page; the server takes no more
const FINAL = { 4401: "signed-out", 4403: "forbidden" };

/**
 * The state machine, without the page. `env` gives url, connect(url) → socket, deliver(frame), status(word),
 * random() → 0…1, now() → ms, later(ms, act) → cancel, and overview: the states of all jobs too.
 */
export class LiveClient {
  constructor(env) {
    this.env = env;
    this.last = new Map(); // job → the seq delivered last
    this.held = new Map(); // job → {frames by seq, cancel}: frames behind a hole that was asked for again
    this.socket = null;
    this.tries = 0;
    this.opened = 0;
    this.beat = 0;
    this.ended = false;
    this.cancelRetry = () => {};
    this.cancelChip = null;
  }

  get open() { return this.socket?.readyState === 1; }

  /** Follow `job` from cursor `seq`. Known jobs keep their cursor. */
  follow(job, seq) {
    if (this.last.has(job)) return;
    this.last.set(job, Number(seq) || 0);
    if (this.open) this.ask([job]);
    else if (!this.socket) this.connect();
  }

  /** Stop following; the server is told. */
  leave(job) {
    this.drop(job);
    if (this.last.delete(job) && this.open) this.socket.send(JSON.stringify({ unsubscribe: [job] }));
  }

  ask(jobs, more = {}) {
    const cursors = Object.fromEntries(jobs.map((job) => [job, this.last.get(job)]).concat(Object.entries(more)));
    this.socket.send(JSON.stringify({ subscribe: cursors }));
  }

  connect() {
    if (this.ended || this.socket) return;
    this.cancelRetry();
    this.cancelChip ??= this.env.later(CHIP, () => this.env.status("reconnecting"));
    const socket = this.env.connect(this.env.url);
    this.socket = socket;
    socket.onopen = () => {
      this.cancelChip?.();
      this.cancelChip = null;
      this.opened = this.env.now();
      this.beat = 0;
      for (const job of [...this.held.keys()]) this.drop(job); // the answer to the cursor below holds them all
      this.ask([...this.last.keys()], this.env.overview ? { "*": 0 } : {});
      this.env.status("live");
    };
    socket.onmessage = (event) => { if (this.socket === socket) this.receive(event.data); };
    socket.onclose = (event) => { if (this.socket === socket) this.closed(event.code); };
  }

  receive(text) {
    const message = JSON.parse(text);
    for (const frame of Array.isArray(message) ? message : [message]) this.accept(frame);
  }

  accept(frame) {
    if (frame.t === "beat") { this.beat = this.env.now(); return; }
    if (frame.topic === "*") { this.env.deliver(frame); return; } // the overview has no cursor: what stands now
    const last = this.last.get(frame.job);
    if (last === undefined && frame.t === "state") this.env.deliver(frame);
    if (last === undefined || frame.seq <= last) return;
    if (frame.seq === last + 1 || frame.t === "snapshot") this.pass(frame);
    else this.hold(frame);
  }

  pass(frame) {
    this.last.set(frame.job, frame.seq);
    this.env.deliver(frame);
    const held = this.held.get(frame.job);
    if (!held) return;
    for (const seq of [...held.frames.keys()]) if (seq <= this.last.get(frame.job)) held.frames.delete(seq);
    const next = held.frames.get(frame.seq + 1);
    if (next) this.pass(next);
    else if (held.frames.size === 0) this.drop(frame.job);
  }

  /** A hole: keep the frame, ask again from the cursor; what has not come after PATIENCE is not coming. */
  hold(frame) {
    let held = this.held.get(frame.job);
    if (!held) {
      held = { frames: new Map(), cancel: this.env.later(PATIENCE, () => this.giveUp(frame.job)) };
      this.held.set(frame.job, held);
      this.ask([frame.job]);
    }
    held.frames.set(frame.seq, frame);
  }

  giveUp(job) {
    const frames = [...(this.held.get(job)?.frames.values() ?? [])].sort((a, b) => a.seq - b.seq);
    this.drop(job);
    for (const frame of frames) if (frame.seq > this.last.get(job)) this.pass(frame);
  }

  drop(job) {
    this.held.get(job)?.cancel();
    this.held.delete(job);
  }

  closed(code) {
    this.socket = null;
    if (FINAL[code]) {
      this.ended = true;
      this.cancelChip?.();
      this.env.status(FINAL[code]);
      return;
    }
    if (this.opened && this.env.now() - this.opened > CAP) this.tries = 0;
    this.opened = 0;
    this.cancelChip ??= this.env.later(CHIP, () => this.env.status("reconnecting"));
    const ceiling = Math.min(CAP, FIRST * 2 ** this.tries++);
    this.cancelRetry = this.env.later(this.env.random() * ceiling, () => this.connect());
  }

  /** The network is back or the tab is seen again: do not sit out the back-off, and doubt a silent socket. */
  wake() {
    if (this.ended || (this.last.size === 0 && !this.env.overview)) return;
    if (this.open && this.beat && this.env.now() - this.beat > SILENT) {
      const dead = this.socket;
      this.socket = null;
      dead.close();
    }
    if (!this.socket) { this.tries = 0; this.connect(); }
  }
}

function showStatus(word) {
  document.body.dataset.live = word;
  const chip = document.getElementById("live-chip");
  if (!chip) return;
  const words = { reconnecting: "Live paused, reconnecting…", "signed-out": "Signed out", forbidden: "No live updates: access ended" };
  chip.hidden = !words[word];
  const text = chip.querySelector("span");
  text.textContent = words[word] ?? "";
  if (word === "signed-out") {
    const link = document.createElement("a");
    link.href = `${document.body.dataset.loginUrl}?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Signed out. Sign in again";
    text.replaceChildren(link);
  }
  document.dispatchEvent(new CustomEvent("live:status", { detail: word }));
}

function deliver(frame) {
  if (frame.topic === "*") {
    const news = new CustomEvent("live:any", { detail: frame });
    for (const element of document.querySelectorAll('[data-live-job="*"]')) element.dispatchEvent(news);
    return;
  }
  const name = `live:${frame.t}`;
  document.dispatchEvent(new CustomEvent(name, { detail: frame }));
  for (const element of document.querySelectorAll(`[data-live-job="${CSS.escape(frame.job)}"]`)) {
    element.dispatchEvent(new CustomEvent(name, { detail: frame }));
  }
}

function start() {
  const url = new URL(document.body.dataset.liveUrl, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const client = new LiveClient({
    url: url.href,
    overview: true,
    connect: (address) => new WebSocket(address),
    deliver,
    status: showStatus,
    random: Math.random,
    now: () => performance.now(),
    later: (ms, act) => { const timer = setTimeout(act, ms); return () => clearTimeout(timer); },
  });
  const scan = () => {
    const here = [...document.querySelectorAll("[data-live-job]")];
    // The lowest cursor of a job wins: whatever a later fragment has already seen is harmless to see again.
    here.sort((a, b) => (Number(a.dataset.liveSeq) || 0) - (Number(b.dataset.liveSeq) || 0));
    for (const element of here.slice(0, MOST)) client.follow(element.dataset.liveJob, element.dataset.liveSeq);
    const jobs = new Set(here.map((element) => element.dataset.liveJob));
    for (const job of [...client.last.keys()]) if (!jobs.has(job)) client.leave(job);
  };
  scan();
  client.connect();
  document.addEventListener("htmx:load", scan);
  addEventListener("online", () => client.wake());
  setInterval(() => { if (client.open) client.wake(); }, SILENT);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) client.wake(); });
}

if (globalThis.document?.body?.dataset.liveUrl) start();
