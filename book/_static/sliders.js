// Figures with sliders (chapters 3, 10, 11 and 13). Plain SVG, no library, works offline.
// A cell writes the numbers into the page (madcluster.study.plots.sliders). Without scripts the sentence
// in their place stays, and the still figure above it. What is computed here, a test holds to the package.
"use strict";

const COLORS = { // those of madcluster.study.plots
  signal: "#0072B2", score: "currentColor", anomaly: "#D55E00", threshold: "#CC79A7",
  center: "#E69F00", baseline: "#56B4E9", madcluster: "#009E73",
};

// precision, recall, F1 and point-adjusted F1 of the steps above a threshold
function atThreshold(scores, labels, threshold) {
  let hits = 0, flagged = 0, positives = 0, granted = 0, stop = 0;
  for (let i = 0; i < scores.length; i++) {
    const predicted = scores[i] > threshold;
    flagged += predicted;
    positives += labels[i];
    hits += predicted && labels[i];
    if (labels[i] && i >= stop) { // an event begins: one flag in it grants all of it
      let found = false;
      for (stop = i; stop < labels.length && labels[stop]; stop++) found ||= scores[stop] > threshold;
      if (found) granted += stop - i;
    }
  }
  return {
    precision: hits / Math.max(flagged, 1), recall: hits / positives, f1: (2 * hits) / (flagged + positives),
    adjusted: (2 * granted) / (granted + flagged - hits + positives), flagged,
  };
}

// labels with a buffer of floor(window / 2) steps that fades by the root, cut at 1
function softLabels(labels, window) {
  const half = Math.floor(window / 2), soft = Array.from(labels, Number), events = [];
  labels.forEach((one, i) => {
    if (one && !labels[i - 1]) events.push([i, i]);
    if (one) events.at(-1)[1] = i;
  });
  return soft.map((hard, i) => Math.min(1, events.reduce((sum, [first, last]) => {
    const far = Math.max(first - i, i - last);
    return sum + (far >= 1 && far <= half ? Math.sqrt(1 - far / window) : 0);
  }, hard)));
}

// centered mean over some rows; at the ends over those that are there
function centeredMean(scores, rows) {
  const after = Math.floor((rows - 1) / 2), before = rows - 1 - after;
  return scores.map((_, i) => {
    const part = scores.slice(Math.max(0, i - before), i + after + 1);
    return part.reduce((sum, v) => sum + v, 0) / part.length;
  });
}

// mean distance, similarity and loss of α h (n d) to the center c (d), which shrinks along or stays
function shrunk(h, c, alpha, along, nu) {
  const center = c.map((v) => (along ? alpha * v : v)), size = Math.hypot(...center);
  const sum = { distance: 0, similarity: 0, loss: 0 };
  for (const row of h) {
    const x = row.map((v) => alpha * v), product = x.reduce((s, v, j) => s + v * center[j], 0);
    const q = (1 + product / (Math.hypot(...x) * size)) / 2;
    sum.distance += x.reduce((s, v, j) => s + (v - center[j]) ** 2, 0) / h.length;
    sum.similarity += q / h.length;
    sum.loss += oneDirected(q, nu)[0] / h.length; // of one_directed.js
  }
  return sum;
}

function element(name, attributes, parent, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// a square of axes: x and y turn values into places
function panel(box, { title, x, y, xLabel, yLabel = "", xTicks = [], yTicks = [], left = 40, logX, logY }) {
  const W = 340, H = 250, top = 20, right = W - 16, bottom = H - 38;
  const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, box);
  const scale = ([low, high], [from, to], log) => {
    const f = log ? Math.log : Number;
    return (v) => from + ((to - from) * (f(Math.min(high, Math.max(low, v))) - f(low))) / (f(high) - f(low));
  };
  const made = { svg, x: scale(x, [left, right], logX), y: scale(y, [bottom, top], logY), top, bottom, left, right };
  made.line = (more) => element("path", { fill: "none", stroke: "currentColor", "stroke-width": 1.5, ...more }, svg);
  made.text = (at, to, text, more) => element("text", { x: at, y: to, fill: "currentColor", "font-size": 11, ...more }, svg, text);
  made.line({ d: `M${left} ${top}V${bottom}H${right}`, "stroke-width": 1 });
  made.text((left + right) / 2, H - 6, xLabel, { "text-anchor": "middle" });
  made.text(left, top - 8, yLabel);
  for (const v of xTicks) made.text(made.x(v), bottom + 14, v, { "text-anchor": "middle", "font-size": 10 });
  for (const v of yTicks) made.text(left - 5, made.y(v) + 3, v, { "text-anchor": "end", "font-size": 10 });
  made.path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${made.x(a).toFixed(1)} ${made.y(b).toFixed(1)}`).join("");
  made.band = (from, to, more) => element("rect", {
    x: made.x(from), y: top, width: Math.max(1, made.x(to) - made.x(from)), height: bottom - top, ...more }, svg);
  // names of lines above the axes, each after a piece of its line
  made.legend = (names) => names.reduce((place, [name, more]) => {
    made.line({ d: `M${place} ${top - 10}h18`, ...more });
    made.text(place + 22, top - 6, name, { "font-size": 10 });
    return place + 34 + 5.5 * name.length;
  }, left);
  return made;
}

// the parts of a figure: panels, controls below them, and a sentence that is read out when it changes
function frame(box) {
  const panels = document.createElement("div"), controls = document.createElement("div"), said = document.createElement("p");
  panels.className = "panels";
  controls.className = "controls";
  said.setAttribute("aria-live", "polite");
  box.replaceChildren(panels, controls, said);
  const field = (text, input) => {
    const label = document.createElement("label");
    label.append(`${text} `, input);
    controls.append(label);
    return input;
  };
  return {
    panels, said,
    slider: (text, range, inWords, changed) => {
      const input = field(text, document.createElement("input"));
      Object.assign(input, { type: "range", ...range });
      input.tell = () => input.setAttribute("aria-valuetext", inWords(Number(input.value)));
      input.addEventListener("input", changed);
      return input;
    },
    choice: (text, names, changed) => {
      const select = field(text, document.createElement("select"));
      for (const name of names) select.append(new Option(name));
      select.addEventListener("change", changed);
      return select;
    },
  };
}

const FIGURES = {
  // chapter 10: {labels: [0 or 1], scores: {name: [number]}}
  threshold(box, { labels, scores }) {
    const { panels, said, slider, choice } = frame(box), n = labels.length;
    let left, right, cut, marks, marker, levels, curves;
    const which = choice("score", Object.keys(scores), () => { draw(); show(); });
    const input = slider("threshold", { min: 0, max: 200, value: 120 }, (v) => levels[v].toPrecision(2), () => show());
    const lines = [["F1", "f1", { stroke: COLORS.madcluster, "stroke-width": 2.5 }],
      ["precision", "precision", { stroke: COLORS.signal, "stroke-dasharray": "6 3" }],
      ["recall", "recall", { stroke: COLORS.center, "stroke-dasharray": "2 3" }],
      ["adjusted F1", "adjusted", { stroke: COLORS.anomaly, "stroke-dasharray": "8 3 2 3" }]];
    function draw() { // what does not move while the threshold does
      const values = scores[which.value], high = values.reduce((a, b) => Math.max(a, b)), sorted = [...values].sort((a, b) => a - b);
      // half of the slider for the highest tenth, where alarms are
      levels = Array.from({ length: 201 }, (_, i) => sorted[Math.min(n - 1, Math.floor(n * (i <= 100 ? 0.009 * i : 1 - 0.1 * (2 - i / 100) ** 3)))]);
      curves = levels.map((level) => atThreshold(values, labels, level));
      panels.replaceChildren();
      left = panel(panels, { title: "The score over time, events shaded, with the threshold", x: [0, n], y: [0, 1.02 * high],
        xLabel: "time step", yLabel: "score", xTicks: [0, n / 2, n], yTicks: [0, Number((high / 2).toPrecision(1))] });
      for (let i = 0, j; i < n; i = j + 1) {
        for (j = i; labels[j]; j++);
        if (j > i) left.band(i, j, { fill: COLORS.anomaly, "fill-opacity": 0.2 });
      }
      left.line({ d: left.path(values.map((v, i) => [i, v])), "stroke-width": 0.6 });
      marks = [COLORS.anomaly, COLORS.madcluster].map((stroke) => left.line({ stroke, "stroke-width": 8 }));
      cut = left.line({ stroke: COLORS.threshold, "stroke-width": 2 });
      right = panel(panels, { title: "Precision, recall, F1 and adjusted F1 along the slider", x: [0, 200], y: [0, 1], xLabel: "slider, to higher thresholds",
        yTicks: [0, 0.5, 1] });
      for (const [, key, style] of lines) right.line({ d: right.path(curves.map((c, i) => [i, c[key]])), ...style });
      right.legend(lines.map(([name, , style]) => [name, style]));
      marker = right.line({ stroke: COLORS.threshold, "stroke-width": 2 });
    }
    function show() {
      const at = Number(input.value), level = levels[at], c = curves[at], values = scores[which.value];
      input.tell();
      cut.setAttribute("d", `M${left.left} ${left.y(level)}H${left.right}`);
      marker.setAttribute("d", `M${right.x(at)} ${right.top}V${right.bottom}`);
      const below = left.bottom - 5; // false and true flags as marks along the time axis
      marks.forEach((mark, truth) => mark.setAttribute("d", values.map((v, i) =>
        (v > level && labels[i] === truth ? `M${left.x(i).toFixed(1)} ${below - 9 * truth}h0.6` : "")).join("")));
      said.textContent = `Above ${level.toPrecision(3)} lie ${c.flagged} of ${n} steps: precision ${c.precision.toFixed(2)}, ` +
        `recall ${c.recall.toFixed(2)}, F1 ${c.f1.toFixed(2)}. Point adjustment makes it ${c.adjusted.toFixed(2)}.`;
    }
    draw();
    show();
  },

  // chapter 11: {labels, score, first, delays, windows, names, values: [delay][window][name]}; the score begins before the labels
  delay(box, { labels, score, before, delays, windows, names, values }) {
    const { panels, said, slider } = frame(box), n = labels.length;
    const left = panel(panels, { title: "A part of the series: its labels with buffers, and the delayed score", x: [0, n], y: [-0.6, 1.7],
      xLabel: "time step", xTicks: [0, n / 2], yTicks: [0, 1] });
    const buffer = left.line({ fill: COLORS.anomaly, "fill-opacity": 0.3, stroke: "none" });
    labels.forEach((one, i) => { if (one) left.band(i, i + 1, { fill: COLORS.anomaly, "fill-opacity": 0.15 }); });
    const line = left.line({ "stroke-width": 1.2 });
    const right = panel(panels, { title: "The value of every metric", x: [0, 1], y: [0, names.length], xLabel: "value; the mark is without delay", xTicks: [0, 0.5, 1], left: 130 });
    const rows = names.map((name, i) => {
      const middle = right.y(names.length - i - 0.5);
      right.text(right.left - 5, middle + 3, name, { "text-anchor": "end", "font-size": 10 });
      return [element("rect", { x: right.left, y: middle - 5, height: 10, fill: COLORS.madcluster }, right.svg),
        right.line({ "stroke-width": 2 }), middle];
    });
    const zero = delays.indexOf(0);
    const late = slider("delay", { min: 0, max: delays.length - 1, value: zero }, (v) => `${delays[v]} steps`, () => show());
    const wide = slider("window", { min: 0, max: windows.length - 1, value: Math.floor(windows.length / 2) }, (v) => `${windows[v]} steps`, () => show());
    function show() {
      const delay = delays[late.value], window = windows[wide.value];
      late.tell();
      wide.tell();
      const soft = softLabels(labels, window), here = values[late.value][wide.value], onTime = values[zero][wide.value];
      buffer.setAttribute("d", `${left.path([[0, 0], ...soft.map((v, i) => [i + 0.5, v]), [n, 0]])}Z`);
      line.setAttribute("d", left.path(labels.map((_, i) => [i + 0.5, score[before + i - delay]])));
      rows.forEach(([bar, mark, middle], i) => {
        bar.setAttribute("width", Math.max(0, right.x(here[i]) - right.left));
        mark.setAttribute("d", `M${right.x(onTime[i])} ${middle - 7}v14`);
      });
      const told = ["F1", "VUS-PR", "Affiliation precision"].map((name) => `${name} ${here[names.indexOf(name)].toFixed(2)}`);
      said.textContent = `${delay === 0 ? "On time" : `${Math.abs(delay)} steps ${delay > 0 ? "late" : "early"}`}, ` +
        `window ${window}: ${told.join(", ")}.`;
    }
    show();
  },

  // chapter 13: {labels, scores: {name: [number]}, before, widths, values: [width][name]}; the scores begin before the labels
  smoothing(box, { labels, scores, before, widths, values }) {
    const { panels, said, slider, choice } = frame(box), n = labels.length, names = Object.keys(scores);
    const styles = [COLORS.baseline, COLORS.signal, COLORS.center, COLORS.madcluster].map((stroke, i) => (
      { stroke, "stroke-width": 2, "stroke-dasharray": ["", "6 3", "2 3", "8 3 2 3"][i] }));
    let left, line, marks;
    const which = choice("score", names, () => { draw(); show(); });
    const input = slider("rows of the mean", { min: 0, max: widths.length - 1, value: 0 }, (v) => `${widths[v]} rows`, () => show());
    function draw() {
      const raw = scores[which.value].slice(before, before + n);
      panels.replaceChildren();
      left = panel(panels, { title: "A part of the series, events shaded, with the score before and after the mean", x: [0, n], y: [0, Math.max(...raw)],
        xLabel: "time step", yLabel: which.value, xTicks: [0, n / 2] });
      labels.forEach((one, i) => { if (one) left.band(i, i + 1, { fill: COLORS.anomaly, "fill-opacity": 0.2 }); });
      left.line({ d: left.path(raw.map((v, i) => [i + 0.5, v])), "stroke-width": 0.6, "stroke-opacity": 0.5 });
      line = left.line({ stroke: styles[names.indexOf(which.value)].stroke, "stroke-width": 2 });
      const flat = values.flat(), right = panel(panels, { title: "VUS-PR of every score over the rows of the mean", x: [0, widths.length - 1],
        y: [Math.min(...flat) - 0.02, Math.max(...flat) + 0.02], xLabel: "rows of the mean", left: 56,
        yTicks: [Math.min(...flat), Math.max(...flat)].map((v) => Number(v.toFixed(2))) });
      widths.forEach((width, i) => right.text(right.x(i), right.bottom + 14, width, { "text-anchor": "middle", "font-size": 10 }));
      right.text(14, 130, "VUS-PR", { transform: "rotate(-90 14 130)", "text-anchor": "middle" });
      right.legend(names.map((name, i) => [name, styles[i]]));
      names.forEach((name, j) => right.line({ d: right.path(values.map((row, i) => [i, row[j]])), ...styles[j] }));
      marks = names.map((name, j) => [element("circle", { r: 4, fill: styles[j].stroke }, right.svg), j, right]);
    }
    function show() {
      const at = Number(input.value), mean = centeredMean(scores[which.value], widths[at]).slice(before, before + n);
      input.tell();
      line.setAttribute("d", left.path(mean.map((v, i) => [i + 0.5, v])));
      for (const [dot, j, right] of marks) { dot.setAttribute("cx", right.x(at)); dot.setAttribute("cy", right.y(values[at][j])); }
      said.textContent = `${which.value}, ${widths[at] === 1 ? "as it is" : `a mean over ${widths[at]} rows`}. VUS-PR: ` +
        `${names.map((name, j) => `${name} ${values[at][j].toFixed(2)}`).join(", ")}.`;
    }
    draw();
    show();
  },

  // chapter 3: {h (n d), c (d), plane (2 d), nu}
  shrink(box, { h, c, plane, nu }) {
    const { panels, said, slider, choice } = frame(box);
    const onto = (v) => plane.map((axis) => axis.reduce((s, a, j) => s + a * v[j], 0));
    const points = h.map(onto), star = onto(c), most = 1.1 * Math.max(...[...points, star].flat().map(Math.abs));
    const left = panel(panels, { title: "Embeddings and center in a plane, at one scale", x: [-most, most], y: [-most, most], xLabel: "first component", yLabel: "second component" });
    left.line({ d: left.path([[-most, 0], [most, 0]]) + left.path([[0, -most], [0, most]]), "stroke-opacity": 0.25, "stroke-width": 1 });
    const dots = points.map(() => element("circle", { r: 2, fill: "currentColor", "fill-opacity": 0.6 }, left.svg));
    const center = left.text(0, 0, "★", { fill: COLORS.center, "font-size": 20, "text-anchor": "middle", stroke: "black", "stroke-width": 0.5 });
    const alphas = Array.from({ length: 81 }, (_, i) => 10 ** (i / 80 - 1));
    const kinds = [["D", (s) => s.distance, { stroke: COLORS.signal, "stroke-dasharray": "6 3" }], ["L", (s) => s.loss, { stroke: COLORS.center, "stroke-dasharray": "2 3" }],
      ["D + L", (s) => s.distance + s.loss, { stroke: COLORS.madcluster, "stroke-width": 2.5 }], ["similarity q", (s) => s.similarity, { stroke: COLORS.threshold, "stroke-dasharray": "8 3 2 3" }]];
    const all = [true, false].flatMap((along) => alphas.map((alpha) => shrunk(h, c, alpha, along, nu)));
    const high = Math.max(...all.map((s) => Math.max(s.distance + s.loss, 1)));
    const low = Math.min(...all.map((s) => Math.min(s.distance, s.loss)));
    const right = panel(panels, { title: "Means of distance, loss and similarity over α", x: [0.1, 1], y: [low, 1.2 * high], logX: true, logY: true,
      xLabel: "α; both axes are logarithmic", xTicks: [0.1, 0.3, 1], yTicks: [1, 0.1, 0.01, 0.001, 0.0001].filter((v) => v >= low && v <= high) });
    const lines = kinds.map(([, , style]) => right.line(style));
    right.legend(kinds.map(([name, , style]) => [name, style]));
    const marker = right.line({ "stroke-opacity": 0.6 });
    const held = choice("the center", ["shrinks along", "stays"], () => show());
    const input = slider("α", { min: 0, max: 80, value: 80 }, (v) => alphas[v].toFixed(2), () => show());
    function show() {
      const along = held.value === "shrinks along", at = Number(input.value), alpha = alphas[at], path = all.slice(along ? 0 : 81, along ? 81 : 162), s = path[at];
      input.tell();
      points.forEach(([a, b], i) => { dots[i].setAttribute("cx", left.x(alpha * a)); dots[i].setAttribute("cy", left.y(alpha * b)); });
      const size = along ? alpha : 1;
      center.setAttribute("x", left.x(size * star[0]));
      center.setAttribute("y", left.y(size * star[1]) + 6);
      lines.forEach((line, i) => line.setAttribute("d", right.path(path.map((v, j) => [alphas[j], kinds[i][1](v)]))));
      marker.setAttribute("d", `M${right.x(alpha)} ${right.top}V${right.bottom}`);
      said.textContent = `At α = ${alpha.toFixed(2)}, and a center that ${held.value}: mean D ${s.distance.toPrecision(2)}, mean q ${s.similarity.toFixed(3)}, mean L ${s.loss.toPrecision(3)}, ` +
        `mean (D + L) ${(s.distance + s.loss).toPrecision(3)}.`;
    }
    show();
  },
};

function drawSliders() {
  for (const box of document.querySelectorAll(".sliders")) {
    const data = box.querySelector("script[type='application/json']");
    if (data) FIGURES[box.dataset.figure](box, JSON.parse(data.textContent));
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawSliders);
else drawSliders();
