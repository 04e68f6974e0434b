// Values of figures: the nearest point under the pointer, or by the arrow keys where a figure has the focus.
const tip = element("div", {className: "tip", hidden: true});
tip.setAttribute("role", "status");
(document.querySelector("main") ?? document.body).append(tip);

function hoverable(svg) {
  const drawn = name => document.createElementNS("http://www.w3.org/2000/svg", name);
  const box = svg.viewBox.baseVal;
  let traces, line, dot, here = [0, 0];

  function read() {
    const {map: [a, b, c, d], log, traces: given} = JSON.parse(svg.dataset.values);
    const height = log ? Math.log10 : value => value;
    traces = given.map(([name, x, y, text]) => ({name, text, points: x
      .map((value, number) => ({x: a * value + b, y: c * height(y[number]) + d, epoch: value, value: y[number]}))
      .filter(point => point.value !== null && point.y >= 0 && point.y <= box.height)}))
      .filter(trace => trace.points.length);
    line = svg.appendChild(drawn("polyline"));
    dot = svg.appendChild(drawn("circle"));
    line.setAttribute("class", "hot");
    dot.setAttribute("class", "hot");
    dot.setAttribute("r", 4);
  }

  function show(trace, number) {
    here = [trace, number];
    const one = traces[trace], point = one.points[number];
    line.setAttribute("points", one.points.map(({x, y}) => `${x},${y}`).join(" "));
    dot.setAttribute("cx", point.x);
    dot.setAttribute("cy", point.y);
    svg.classList.add("read");
    tip.textContent = one.text ? `${one.name}: ${one.text}` : `${one.name}, epoch ${point.epoch}: ${point.value}`;
    tip.hidden = false;
    const place = new DOMPoint(point.x, point.y).matrixTransform(svg.getScreenCTM());
    const own = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(place.x + 12, innerWidth - own.width - 16))}px`;
    tip.style.top = `${place.y > own.height + 16 ? place.y - own.height - 10 : place.y + 14}px`;
  }

  function hide() {
    svg.classList.remove("read");
    tip.hidden = true;
  }

  function nearest(event) {
    const matrix = svg.getScreenCTM(), at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let found, least = 30 / matrix.a;
    traces.forEach((trace, t) => trace.points.forEach((point, p) => {
      const distance = Math.hypot(point.x - at.x, point.y - at.y);
      if (distance < least) [found, least] = [[t, p], distance];
    }));
    return found;
  }

  // Left and right: along a line, or from point to point; up and down: to another line.
  function step(key) {
    const [trace, number] = here, move = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1}[key];
    const along = (key === "ArrowLeft" || key === "ArrowRight") && traces[trace].points.length > 1;
    if (!svg.classList.contains("read")) return [trace, number];
    if (along) return [trace, Math.max(0, Math.min(number + move, traces[trace].points.length - 1))];
    const next = (trace + move + traces.length) % traces.length;
    return [next, Math.min(number, traces[next].points.length - 1)];
  }

  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, event => {
    if (!traces) read();
    const found = nearest(event);
    if (found) show(...found); else hide();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    if (!traces) read();
    if (traces.length) show(...step(event.key));
  });
}
document.querySelectorAll("svg[data-values]").forEach(hoverable);
