// The numbers behind a chart, without the page: series keyed by step, smoothing, alignment.
import { finite } from "./numbers.js";

/** One metric: points in order of step; a step that comes again replaces its point. */
export class Series {
  constructor() { this.load({}); }

  get size() { return this.step.length; }

  /** Take the server's rollup {step, min, max, last} in place of all there was. */
  load({ step = [], min, max, last = [] }) {
    this.step = step.map(Number);
    this.last = last.map(finite);
    this.min = (min ?? last).map(finite);
    this.max = (max ?? last).map(finite);
  }

  put(step, value) {
    const number = finite(value);
    let at = this.size;
    while (at > 0 && this.step[at - 1] > step) at -= 1;
    const known = at > 0 && this.step[at - 1] === step;
    for (const column of [this.min, this.max, this.last]) column.splice(known ? at - 1 : at, known ? 1 : 0, number);
    if (!known) this.step.splice(at, 0, step);
  }

  /** Forget what comes after `step`: the job was resumed there. */
  truncate(step) {
    let end = this.size;
    while (end > 0 && this.step[end - 1] > step) end -= 1;
    for (const column of [this.step, this.min, this.max, this.last]) column.length = end;
  }

  best(lowest = true) {
    let at = -1;
    for (let i = 0; i < this.size; i += 1) {
      if (this.last[i] === null) continue;
      if (at < 0 || (lowest ? this.last[i] < this.last[at] : this.last[i] > this.last[at])) at = i;
    }
    return at < 0 ? null : { step: this.step[at], value: this.last[at] };
  }
}

/**
 * Exponential moving average without the pull towards zero at the start (Kingma & Ba 2015, §3).
 * `weight` 0…0.99 is the memory per `unit` of step, so that thinned points are smoothed as much as dense
 * ones; the unit is the smallest distance unless given. Points without a value stay without one.
 */
export function smooth(steps, values, weight, unit = 0) {
  if (!(weight > 0)) return values.slice();
  let gap = unit;
  if (!gap) for (let i = 1; i < steps.length; i += 1) gap = gap ? Math.min(gap, steps[i] - steps[i - 1]) : steps[i] - steps[i - 1];
  let sum = 0;
  let mass = 0;
  let before = null;
  return values.map((value, i) => {
    if (value === null || value === undefined) return value;
    const keep = before === null ? 0 : weight ** ((steps[i] - before) / (gap || 1));
    before = steps[i];
    sum = keep * sum + (1 - (mass ? keep : weight)) * value;
    mass = keep * mass + (1 - (mass ? keep : weight));
    return sum / mass;
  });
}

/** Columns on one common x axis; `undefined` where a column has no point (the line goes on), null where it breaks. */
export function align(columns) {
  const x = [...new Set(columns.flatMap(({ step }) => step))].sort((a, b) => a - b);
  const at = new Map(x.map((step, i) => [step, i]));
  return [x, ...columns.map(({ step, values }) => {
    const row = new Array(x.length).fill(undefined);
    step.forEach((s, i) => { row[at.get(s)] = values[i]; });
    return row;
  })];
}

/** For a logarithmic scale: what is not positive cannot be drawn. */
export const positive = (values) => values.map((v) => (v === undefined || v > 0 ? v : null));
