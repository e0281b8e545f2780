// Terminal output as harmless pieces: colours become class names, every other escape goes.
// The control characters are the subject here.
/* eslint-disable no-control-regex */

const LONGEST = 20000; // characters of one line that are shown
const ESCAPE = /\u001b\[([0-9;:]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[@-Z\\-_]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** What a terminal shows of a line that was written over with carriage returns: the last version. */
export function fold(line) {
  const parts = line.replace(/\r+$/, "").split("\r");
  const last = parts.at(-1);
  return last.length > LONGEST ? `${last.slice(0, LONGEST)} … (${last.length - LONGEST} more characters)` : last;
}

/** Pieces {text, look}: `look` is a list of classes ("ansi-1 ansi-bold") or empty. */
export function ansi(text) {
  const pieces = [];
  let look = { colour: null, bold: false, dim: false };
  let from = 0;
  const push = (part) => { if (part) pieces.push({ text: part, look: classes(look) }); };
  for (const match of text.matchAll(ESCAPE)) {
    push(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[1] !== undefined) look = apply(look, match[1]);
  }
  push(text.slice(from));
  return pieces;
}

function classes({ colour, bold, dim }) {
  return [colour === null ? "" : `ansi-${colour}`, bold ? "ansi-bold" : "", dim ? "ansi-dim" : ""].filter(Boolean).join(" ");
}

function apply(look, codes) {
  const made = { ...look };
  const list = codes.split(/[;:]/).map(Number);
  for (let i = 0; i < list.length; i += 1) {
    const code = list[i];
    if (code === 0) Object.assign(made, { colour: null, bold: false, dim: false });
    else if (code === 1) made.bold = true;
    else if (code === 2) made.dim = true;
    else if (code === 22) Object.assign(made, { bold: false, dim: false });
    else if (code === 39) made.colour = null;
    else if (code >= 30 && code <= 37) made.colour = code - 30;
    else if (code >= 90 && code <= 97) made.colour = code - 90;
    else if (code === 38 || code === 48) i += list[i + 1] === 5 ? 2 : 4; // 256 and true colours are left out
  }
  return made;
}
