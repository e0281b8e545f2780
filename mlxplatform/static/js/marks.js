// What is drawn over a chart's lines: checkpoints, resume seams and the best point.

/** `u` is a uPlot; marks {checkpoint: [step], resume: [step]}; best {step, value} or null; colours {ink, best, ground}. */
export function marks(u, { checkpoint = [], resume = [] }, best, colours) {
  const pen = u.ctx;
  const { left, top, width, height } = u.bbox;
  const dot = window.devicePixelRatio || 1;
  const x = (step) => u.valToPos(step, "x", true);
  const seen = (step) => step >= u.scales.x.min && step <= u.scales.x.max;
  pen.save();
  pen.beginPath();
  pen.rect(left, top - 8 * dot, width + 8 * dot, height + 12 * dot);
  pen.clip();
  for (const step of resume.filter(seen)) seam(pen, x(step), top, height, dot, colours.ink);
  for (const step of checkpoint.filter(seen)) triangle(pen, x(step), top + height, dot, colours.ink);
  if (best && seen(best.step)) star(pen, x(best.step), u.valToPos(best.value, "y", true), 8 * dot, colours);
  pen.restore();
}

function seam(pen, x, top, height, dot, ink) {
  pen.beginPath();
  pen.setLineDash([2 * dot, 4 * dot]);
  pen.strokeStyle = ink;
  pen.lineWidth = dot;
  pen.moveTo(x, top);
  pen.lineTo(x, top + height);
  pen.stroke();
  pen.setLineDash([]);
}

function triangle(pen, x, bottom, dot, ink) {
  pen.beginPath();
  pen.moveTo(x, bottom - 7 * dot);
  pen.lineTo(x + 4 * dot, bottom);
  pen.lineTo(x - 4 * dot, bottom);
  pen.closePath();
  pen.fillStyle = ink;
  pen.fill();
}

function star(pen, x, y, size, { best, ground }) {
  pen.beginPath();
  for (let i = 0; i < 10; i += 1) {
    const reach = i % 2 ? size * 0.45 : size;
    const turn = (Math.PI * i) / 5 - Math.PI / 2;
    pen.lineTo(x + reach * Math.cos(turn), y + reach * Math.sin(turn));
  }
  pen.closePath();
  pen.lineWidth = size / 3;
  pen.strokeStyle = ground;
  pen.stroke();
  pen.fillStyle = best;
  pen.fill();
}
