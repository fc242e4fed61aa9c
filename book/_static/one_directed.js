// The One-directed Adaptive loss to take hold of (chapter 6). Plain SVG, no library, works offline.
// Without scripts the page keeps the still figure above it.
"use strict";

// loss, ∂L/∂q and ∂L/∂ν, as madcluster.loss.one_directed_adaptive; a test holds them together
function oneDirected(q, nu) {
  const lambda = -Math.log(nu), g = Math.pow(nu, 1 - nu), s = (1 - g) / (1 - nu);
  if (q >= nu) {
    const f1 = 1 - s * (1 - q), gap = 1 + nu * (nu - 1) - Math.pow(nu, nu);
    const slope = -(g * (1 - nu) * lambda + (g / nu) * gap) / (1 - nu) ** 2;
    return [-Math.log(f1), -s / f1, (slope * (1 - q)) / f1];
  }
  return [-(1 - nu) * Math.log(q), -(1 - nu) / q, Math.log(q)];
}

function crossEntropy(q, nu) {
  return q >= nu ? -Math.log(q) : -Math.log(1 - q);
}

function drawOneDirected(box) {
  const W = 640, H = 290, top = 24, side = 210, left = 44, right = 390, high = 3.2;
  const at = (q) => left + side * q * 1.3, height = (v) => top + side * (1 - Math.min(v, high) / high);
  const state = { q: 0.3, nu: 0.5 };
  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  box.innerHTML = "";
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-labelledby": "od-title" }, box);
  make("title", { id: "od-title" }, svg, "Loss over similarity for one threshold, and the pull on both");
  make("defs", {}, svg).innerHTML =
    '<marker id="od-tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto">' +
    '<path d="M0 0 L8 4 L0 8 z" fill="#009E73"/></marker>';
  const line = (x1, y1, x2, y2, more) => make("line", { x1, y1, x2, y2, stroke: "currentColor", ...more }, svg);
  const label = (x, y, text, more) => make("text", { x, y, fill: "currentColor", "font-size": 12, ...more }, svg, text);
  // left: the loss over q
  line(left, top + side, at(1), top + side);
  line(left, top, left, top + side);
  label(at(0.5), top + side + 32, "similarity q", { "text-anchor": "middle" });
  label(left, top - 8, "loss");
  for (const v of [0, 0.5, 1]) label(at(v), top + side + 15, v, { "text-anchor": "middle", "font-size": 10 });
  for (const v of [0, 1, 2, 3]) label(left - 6, height(v) + 4, v, { "text-anchor": "end", "font-size": 10 });
  const entropy = make("path", { fill: "none", stroke: "#56B4E9", "stroke-width": 1.5, "stroke-dasharray": "5 3" }, svg);
  const curve = make("path", { fill: "none", stroke: "#009E73", "stroke-width": 2.5 }, svg);
  const border = line(0, top, 0, top + side, { stroke: "#CC79A7", "stroke-width": 2, "stroke-dasharray": "3 3" });
  const name = label(0, top + 10, "ν");
  const dot = make("circle", { r: 5, fill: "currentColor" }, svg);
  label(at(1) - 4, top + 12, "one-directed", { "text-anchor": "end", "font-size": 11 });
  label(at(1) - 4, top + 27, "cross-entropy, dashed", { "text-anchor": "end", "font-size": 11 });
  // right: the square of q and ν, with the pull at the point
  const x = (q) => right + side * q, y = (nu) => top + side * (1 - nu);
  const square = make("rect", { x: right, y: top, width: side, height: side, fill: "transparent", stroke: "currentColor" }, svg);
  square.style.cursor = "crosshair";
  line(x(0), y(0), x(1), y(1), { "stroke-opacity": 0.35 });
  label(x(0.5), top + side + 32, "similarity q", { "text-anchor": "middle" });
  label(right, top - 8, "threshold ν: drag the point");
  for (const v of [0, 0.5, 1]) {
    label(x(v), top + side + 15, v, { "text-anchor": "middle", "font-size": 10 });
    label(right - 6, y(v) + 4, v, { "text-anchor": "end", "font-size": 10 });
  }
  const pull = make("line", { stroke: "#009E73", "stroke-width": 3, "marker-end": "url(#od-tip)" }, svg);
  const grip = make("circle", { r: 7, fill: "currentColor", "pointer-events": "none" }, svg);

  const controls = document.createElement("div");
  controls.className = "controls";
  const said = document.createElement("p");
  said.setAttribute("aria-live", "polite");
  const inputs = {};
  for (const [key, text] of [["q", "similarity q"], ["nu", "threshold ν"]]) {
    const field = document.createElement("label");
    field.append(text + " ");
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0.02, max: 0.98, step: 0.01, value: state[key] });
    input.addEventListener("input", () => { state[key] = Number(input.value); show(); });
    field.append(input);
    controls.append(field);
    inputs[key] = input;
  }
  box.append(controls, said);

  function show() {
    const { q, nu } = state, [value, byQ, byNu] = oneDirected(q, nu);
    const points = (f) => {
      let path = "", before = null;
      for (let i = 2; i <= 199; i++) {
        const v = i / 200, jump = before !== null && (before < nu) !== (v < nu) && f === crossEntropy;
        path += `${path === "" || jump ? "M" : "L"}${at(v).toFixed(1)} ${height(f(v, nu)).toFixed(1)}`;
        before = v;
      }
      return path;
    };
    curve.setAttribute("d", points((v, n) => oneDirected(v, n)[0]));
    entropy.setAttribute("d", points(crossEntropy));
    for (const end of ["x1", "x2"]) border.setAttribute(end, at(nu));
    name.setAttribute("x", at(nu) + 5);
    dot.setAttribute("cx", at(q)); dot.setAttribute("cy", height(value));
    grip.setAttribute("cx", x(q)); grip.setAttribute("cy", y(nu));
    const size = Math.hypot(byQ, byNu), length = 60 * Math.min(1, 0.25 + size / 4) / size;
    pull.setAttribute("x1", x(q)); pull.setAttribute("y1", y(nu));
    pull.setAttribute("x2", x(q) - byQ * length); pull.setAttribute("y2", y(nu) + byNu * length);
    inputs.q.value = q; inputs.nu.value = nu;
    const other = q >= nu ? 1 / q : -1 / (1 - q);
    said.textContent =
      `At q = ${q.toFixed(2)} and ν = ${nu.toFixed(2)} the loss is ${value.toFixed(3)}. It pulls q up by ` +
      `${(-byQ).toFixed(2)} and ν up by ${(-byNu).toFixed(2)}. Cross-entropy would pull q ` +
      `${other > 0 ? "up" : "down"} by ${Math.abs(other).toFixed(2)}.`;
  }
  const drag = (event) => {
    const r = square.getBoundingClientRect(), keep = (v) => Math.min(0.98, Math.max(0.02, v));
    state.q = keep((event.clientX - r.left) / r.width);
    state.nu = keep(1 - (event.clientY - r.top) / r.height);
    show();
  };
  square.addEventListener("pointerdown", (event) => { square.setPointerCapture(event.pointerId); drag(event); });
  square.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  square.style.touchAction = "none";
  show();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".one-directed").forEach(drawOneDirected);
});
