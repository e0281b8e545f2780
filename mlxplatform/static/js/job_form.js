// The form of a new job: which settings were changed, back to the default, suggestions, and finding one by a word.

const settings = () => [...document.querySelectorAll("[data-job-form] .setting")];
const controls = (setting) => [...setting.querySelectorAll("[data-default]")];

function isChanged(control) {
  const value = control.type === "checkbox" ? (control.checked ? "on" : "off") : control.value.trim();
  const standard = control.dataset.default.trim();
  if (value === standard || value === "") return false;
  return standard === "" || Number.isNaN(Number(value)) || Number(value) !== Number(standard);
}

function mark() {
  for (const setting of settings()) {
    const changed = controls(setting).some(isChanged);
    setting.toggleAttribute("data-changed", changed);
    const reset = setting.querySelector("[data-reset]");
    if (reset) reset.hidden = !changed;
  }
  for (const count of document.querySelectorAll("[data-changed-count]")) {
    const n = count.closest("details").querySelectorAll(".setting[data-changed]").length;
    count.textContent = n ? `${n} changed` : "";
  }
}

function reset(setting) {
  for (const control of controls(setting)) {
    if (control.type === "checkbox") control.checked = control.dataset.default === "on";
    else control.value = control.dataset.default;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  }
  controls(setting)[0].focus();
}

/** Put values into the controls of these names, as a suggestion asks for. */
function fill(values) {
  for (const [name, value] of Object.entries(values)) {
    for (const control of document.querySelectorAll(`#job-form [name="${CSS.escape(name)}"]:not([type="hidden"])`)) {
      if (control.type === "radio") control.checked = control.value === value;
      else if (control.type === "checkbox") control.checked = value === "on";
      else if (control.value === value) continue;
      else control.value = value;
      control.dispatchEvent(new Event("change", { bubbles: true }));
    }
  }
}

/** Show the settings that hold the word; folds open while there is one. */
function find() {
  const word = document.getElementById("find-setting").value.trim().toLowerCase();
  const onlyChanged = document.getElementById("only-changed").checked;
  const searching = word !== "" || onlyChanged;
  let shown = 0;
  for (const setting of settings()) {
    const fits = setting.dataset.words.includes(word) && (!onlyChanged || setting.hasAttribute("data-changed"));
    setting.hidden = searching && !fits;
    shown += fits;
  }
  for (const block of document.querySelectorAll("[data-job-form] .block")) block.hidden = !block.querySelector(".setting:not([hidden])");
  for (const fold of document.querySelectorAll("[data-job-form] details.fold:has(.setting)")) {
    if (searching) fold.open = Boolean(fold.querySelector(".setting:not([hidden])"));
  }
  document.getElementById("no-setting").hidden = shown > 0;
}

/** Folds that hold the target of a link are opened: the summary of problems links into them. */
function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let fold = target?.closest?.("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target?.focus?.();
}

document.addEventListener("input", (event) => {
  if (event.target.id === "find-setting" || event.target.id === "only-changed") find();
  else if (event.target.closest("[data-job-form]")) mark();
});
document.addEventListener("change", (event) => { if (event.target.closest("[data-job-form]")) mark(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (button) reset(button.closest(".setting"));
  const suggestion = event.target.closest("[data-fill]");
  if (suggestion) fill(JSON.parse(suggestion.dataset.fill));
});
document.addEventListener("htmx:load", (event) => {
  for (const preset of document.querySelectorAll("#plan [data-placeholder]")) {
    document.getElementById(preset.dataset.for)?.setAttribute("placeholder", preset.dataset.placeholder);
  }
  const start = document.getElementById("start-button");
  const plan = document.getElementById("plan");
  if (start && plan?.dataset.complete) start.disabled = plan.dataset.complete !== "true";
  for (const hidden of event.detail.elt.querySelectorAll?.("[data-needs-js]") ?? []) hidden.hidden = false;
  mark();
});
addEventListener("hashchange", reveal);
mark();
reveal();
