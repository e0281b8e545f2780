// How numbers are written: the twin of templatetags/numbers.py, tested with the same table.
const MISSING = "\u2013";
const NBSP = "\u00a0";
const MINUS = "\u2212";

/** The finite number in `value`, else null. The journal's words "nan" and "inf" are not finite. */
export function finite(value) {
  if (value === null || value === undefined || value === "" || typeof value === "boolean") return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

function unusual(value) {
  if (value === null || value === undefined || value === "") return MISSING;
  const word = String(value).toLowerCase();
  if (word === "nan") return "NaN";
  if (word === "inf" || word === "infinity") return "\u221e";
  if (word === "-inf" || word === "-infinity") return MINUS + "\u221e";
  return MISSING;
}

function fixed(number, places) {
  const [whole, part] = Math.abs(number).toFixed(places).split(".");
  const text = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",") + (part ? `.${part}` : "");
  return number < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

const wrap = (write) => (value, ...rest) => {
  const number = finite(value);
  return number === null ? unusual(value) : write(number, ...rest);
};

export const loss = wrap((x) => fixed(x, 4));
export const perplexity = wrap((x) => fixed(x, 2));
export const percent = wrap((x, places = 1) => fixed(x * 100, places) + NBSP + "%");
export const count = wrap((x) => fixed(x, 0));
export const speed = wrap((x) => fixed(x, Math.abs(x) >= 100 ? 0 : 1));

export const rate = wrap((x) => {
  if (x === 0) return "0";
  const [mantissa, exponent] = Math.abs(x).toExponential(2).split("e");
  return (x < 0 ? MINUS : "") + mantissa.replace(/0$/, "") + "e" + Number(exponent);
});

export const signif = wrap((x) => {
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size < 0.001 || size >= 1e9) return rate(x);
  return fixed(x, Math.max(0, 2 - Math.floor(Math.log10(size))));
});

export const compact = wrap((x) => {
  const size = Math.abs(x);
  if (size >= 1e9) return fixed(x / 1e9, 2) + NBSP + "B";
  if (size >= 1e6) return fixed(x / 1e6, 2) + NBSP + "M";
  if (size >= 1e4) return fixed(x / 1e3, 1) + NBSP + "k";
  return fixed(x, 0);
});

const sized = (base) => wrap((x) => {
  for (const [power, unit, places] of [[4, "TB", 2], [3, "GB", 1], [2, "MB", 0], [1, "kB", 0]]) {
    if (Math.abs(x) >= base ** power) return fixed(x / base ** power, places) + NBSP + unit;
  }
  return fixed(x, 0) + NBSP + "B";
});
export const memory = sized(1024);
export const disk = sized(1000);

export const duration = wrap((x) => {
  if (x < 0) return MISSING;
  if (x < 9.95) return fixed(x, 1).replace(/\.0$/, "") + NBSP + "s";
  let seconds = Math.floor(x + 0.5);
  if (seconds < 60) return seconds + NBSP + "s";
  const two = (n) => String(n).padStart(2, "0");
  let minutes = Math.floor(seconds / 60);
  seconds %= 60;
  if (minutes < 10) return `${minutes}${NBSP}min ${two(seconds)}${NBSP}s`;
  if (seconds >= 30) minutes += 1;
  if (minutes < 60) return minutes + NBSP + "min";
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}${NBSP}h ${two(minutes % 60)}${NBSP}min`;
  return `${Math.floor(hours / 24)}${NBSP}d ${two(hours % 24)}${NBSP}h`;
});

export const signed = wrap((x, places = 4) => {
  const text = fixed(x, places);
  return text.startsWith(MINUS) || !/[1-9]/.test(text) ? text : "+" + text;
});

/** The formats by name, for data-format="loss". */
export const formats = { loss, perplexity, percent, rate, signif, count, compact, speed, memory, disk, duration, signed };
