// What every page does: CSRF for htmx, local times, theme, dialogs, copying, toasts, title and keys.
import { duration } from "./numbers.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
const all = (selector, root = document) => [...(root.matches?.(selector) ? [root] : []), ...root.querySelectorAll(selector)];

/** Say one sentence to screen readers; at most one every 10 s, the newest wins, urgent ones at once. */
let said = -Infinity;
let waiting = 0;
export function announce(text, urgent = false) {
  const region = document.getElementById("announce");
  if (!region) return;
  clearTimeout(waiting);
  const wait = urgent ? 0 : Math.max(0, said + 10000 - performance.now());
  waiting = setTimeout(() => { said = performance.now(); region.textContent = text; }, wait);
}

/** A passing report of something off-screen. `undo` is a URL that takes a POST. */
export function toast({ text, undo = "", seconds = 10 }) {
  const box = document.createElement("div");
  box.className = "toast";
  const words = document.createElement("p");
  words.textContent = text;
  box.append(words);
  if (undo) {
    box.append(button("Undo", "btn sm undo", async () => {
      const answer = await post(undo);
      if (answer.ok) location.reload();
      else toast({ text: "It could not be undone." });
    }));
  }
  box.append(button("Close", "btn sm", () => box.remove()));
  document.getElementById("toasts")?.append(box);
  announce(text, true);
  let left = setTimeout(() => box.remove(), seconds * 1000);
  box.addEventListener("pointerenter", () => clearTimeout(left));
  box.addEventListener("focusin", () => clearTimeout(left));
  box.addEventListener("pointerleave", () => { left = setTimeout(() => box.remove(), 3000); });
}

function button(text, look, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = look;
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

export function post(url, body = new URLSearchParams()) {
  return fetch(url, { method: "POST", body, headers: { "X-CSRFToken": meta("csrf-token") }, credentials: "same-origin" });
}

/** "3 min ago", "11:05" or the full local time, by the element's data-time. */
export function timeText(date, style, now = new Date()) {
  const clock = date.toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });
  const sameDay = date.toDateString() === now.toDateString();
  const day = date.toLocaleDateString([], { day: "numeric", month: "short", ...(date.getFullYear() === now.getFullYear() ? {} : { year: "numeric" }) });
  if (style === "clock") return sameDay ? clock : `${day}, ${clock}`;
  if (style === "full") return date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  const seconds = (now - date) / 1000;
  if (Math.abs(seconds) < 10) return "just now";
  if (Math.abs(seconds) >= 6 * 86400) return sameDay ? clock : day;
  const coarse = seconds >= 0 ? seconds : -seconds;
  const span = coarse < 60 ? `${Math.round(coarse)}\u00a0s` : coarse < 3600 ? `${Math.round(coarse / 60)}\u00a0min`
    : coarse < 86400 ? `${Math.round(coarse / 3600)}\u00a0h` : `${Math.round(coarse / 86400)}\u00a0d`;
  return seconds >= 0 ? `${span} ago` : `in ${span}`;
}

function showTimes(root = document) {
  for (const element of all("time[datetime][data-time]", root)) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    const text = timeText(date, element.dataset.time);
    if (element.textContent !== text) element.textContent = text;
    element.title = date.toLocaleString([], { dateStyle: "full", timeStyle: "long" });
  }
  for (const element of all("[data-since]", root)) {
    element.textContent = duration((Date.now() - new Date(element.dataset.since)) / 1000);
  }
}

/** Title and favicon follow the element [data-page-progress="0.63"] with data-page-note="14 min" and data-page-state. */
function showProgress() {
  const source = document.querySelector("[data-page-progress]");
  if (!source) return;
  const share = Math.min(1, Math.max(0, Number(source.dataset.pageProgress) || 0));
  const state = source.dataset.pageState ?? "running";
  const marks = { succeeded: "✓", failed: "✕", stopped: "■", paused: "❚❚", queued: "…" };
  document.body.dataset.title ??= document.title;
  const head = marks[state] ?? `${Math.floor(share * 100)}\u00a0%`;
  const note = marks[state] ? "" : source.dataset.pageNote;
  document.title = [head, note, document.body.dataset.title].filter(Boolean).join(" · ");
  drawFavicon(share, state);
}

let drawn = "";
function drawFavicon(share, state) {
  const key = `${Math.round(share * 50)} ${state}`;
  if (key === drawn) return;
  drawn = key;
  const colour = { failed: "#d6382b", succeeded: "#1f9d57", stopped: "#8b857f", paused: "#c98a1b" }[state] ?? "#9b2a72";
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
  const pen = canvas.getContext("2d");
  const arc = (from, to, style) => { pen.beginPath(); pen.arc(16, 16, 12, from, to); pen.strokeStyle = style; pen.lineWidth = 7; pen.stroke(); };
  arc(0, 2 * Math.PI, "#8886");
  const ended = ["failed", "succeeded", "stopped"].includes(state);
  arc(-Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * (ended ? 1 : share), colour);
  document.querySelector('link[rel="icon"]')?.setAttribute("href", canvas.toDataURL());
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax`;
  document.dispatchEvent(new CustomEvent("theme"));
}

function showTheme() {
  for (const choice of all("[data-theme-switch] button")) {
    choice.setAttribute("aria-pressed", String(choice.value === document.documentElement.dataset.theme));
  }
}

function onClick(event) {
  const dialog = event.target.closest("[data-dialog]");
  if (dialog) document.getElementById(dialog.dataset.dialog)?.showModal();
  const theme = event.target.closest("[data-theme-switch] button");
  if (theme) { setTheme(theme.value); showTheme(); }
  const copy = event.target.closest("[data-copy], [data-copy-from]");
  if (copy) {
    const text = copy.dataset.copy || document.querySelector(copy.dataset.copyFrom)?.textContent || location.href;
    navigator.clipboard.writeText(text).then(
      () => toast({ text: copy.dataset.copied ?? "Copied.", seconds: 3 }),
      () => toast({ text: "The browser did not allow copying." }),
    );
  }
  for (const menu of document.querySelectorAll("details.more[open]")) if (!menu.contains(event.target)) menu.open = false;
}

/** A pressed button answers at once: disabled, with its verb in progress (data-busy="Stopping…"). */
function onSubmit(event) {
  const pressed = event.submitter;
  if (!pressed || event.target.method === "dialog" || pressed.formMethod === "dialog") return;
  setTimeout(() => {
    pressed.disabled = true;
    if (pressed.dataset.busy) { pressed.dataset.idle = pressed.textContent; pressed.textContent = pressed.dataset.busy; }
  });
}

function release() {
  for (const pressed of all("button[data-idle]")) { pressed.textContent = pressed.dataset.idle; delete pressed.dataset.idle; pressed.disabled = false; }
}

/** Single keys (data-key="s" on a link, button or field); body[data-keys="off"] switches them off. */
function onKey(event) {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.more[open]")) { menu.open = false; menu.firstElementChild.focus(); }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) event.target.closest("form")?.requestSubmit();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.keys === "off" || document.querySelector("dialog[open]")) return;
  const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!target || target.disabled) return;
  event.preventDefault();
  if (target.matches("input, textarea, select")) target.focus();
  else target.click();
}

function refresh(root = document) {
  showTimes(root);
  showProgress();
  const focus = all("[data-focus]", root)[0];
  if (focus) { focus.focus(); delete focus.dataset.focus; }
  const news = all("[data-announce]", root)[0];
  if (news && news.dataset.announce !== document.body.dataset.announced) {
    document.body.dataset.announced = news.dataset.announce;
    if (root !== document) announce(news.dataset.announce);
  }
}

document.addEventListener("click", onClick);
document.addEventListener("submit", onSubmit);
document.addEventListener("keydown", onKey);
document.addEventListener("htmx:configRequest", (event) => { event.detail.headers["X-CSRFToken"] = meta("csrf-token"); });
document.addEventListener("htmx:afterRequest", release);
document.addEventListener("htmx:load", (event) => refresh(event.detail.elt));
document.addEventListener("htmx:responseError", (event) => toast({ text: `That did not work (status ${event.detail.xhr.status}). Reload the page and try again.` }));
document.addEventListener("htmx:sendError", () => announce("The dashboard cannot be reached."));
document.addEventListener("toast", (event) => toast(event.detail));
addEventListener("pageshow", release);
setInterval(showTimes, 5000);
if (window.Idiomorph) {
  // A swap must not fold what a person unfolded, close a dialog, take what is being typed, or wipe what a script drew.
  // data-keep="key" keeps a whole element, with all that was typed in it, for as long as the key is the same.
  const { defaults } = window.Idiomorph;
  defaults.ignoreActiveValue = true;
  defaults.callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.matches("details, dialog"));
  const kept = (node, fresh) => Boolean(node.dataset?.keep) && node.dataset.keep === fresh.dataset?.keep;
  defaults.callbacks.beforeNodeMorphed = (node, fresh) => !node.matches?.("[data-chart], [data-log]") && !kept(node, fresh);
}
for (const hidden of all("[data-needs-js]")) hidden.hidden = false;
showTheme();
refresh();
