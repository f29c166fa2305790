// Charts as inline SVG: bars that are stacked, and lines with gaps. Each has a sentence for who can't see it; the
// numbers themselves stand in a table beside it. Knows nothing of what is shown.
"use strict";

const charts = (() => {
  const HEIGHT = 200, LEFT = 68, RIGHT = 8, TOP = 8, BOTTOM = 22, NARROWEST = 240;
  const high = HEIGHT - TOP - BOTTOM;

  // As wide as there is room, so that letters keep their size.
  const room = (place) => Math.max(NARROWEST, place.clientWidth);

  function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function frame(width, most, label, ends, sentence) {
    const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": sentence });
    for (const share of [0, 0.5, 1]) {
      const y = TOP + high * (1 - share);
      svg.append(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      svg.append(element("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, label(most * share)));
    }
    svg.append(element("text", { x: LEFT, y: HEIGHT - 6 }, ends[0]));
    svg.append(element("text", { x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, ends[1]));
    return svg;
  }

  // `rows` have as many numbers each as there are classes; the first lies at the bottom.
  function bars(place, { rows, classes, most, label, ends, sentence }) {
    const width = room(place), svg = frame(width, most, label, ends, sentence);
    const step = (width - LEFT - RIGHT) / rows.length, wide = Math.max(1, step * 0.75);
    rows.forEach((row, at) => {
      let y = TOP + high;
      row.forEach((number, which) => {
        const tall = (number / most) * high;
        if (tall <= 0) return;
        y -= tall;
        const x = LEFT + at * step + (step - wide) / 2;
        svg.append(element("rect", { class: classes[which], x, y, width: wide, height: tall, rx: 1 }));
      });
    });
    place.replaceChildren(svg);
  }

  // `null` is a gap; a lone point is a short dash.
  function lines(place, { rows, classes, most, label, ends, sentence }) {
    const width = room(place), svg = frame(width, most, label, ends, sentence);
    const step = (width - LEFT - RIGHT) / rows.length;
    classes.forEach((name, which) => {
      let path = "", drawing = false;
      rows.forEach((row, at) => {
        if (row[which] === null) { drawing = false; return; }
        const x = (LEFT + (at + 0.5) * step).toFixed(1), y = (TOP + high * (1 - row[which] / most)).toFixed(1);
        path += drawing ? `L${x} ${y}` : `M${x} ${y}h2`;
        drawing = true;
      });
      if (path) svg.append(element("path", { class: name, d: path }));
    });
    place.replaceChildren(svg);
  }

  // A share of a whole; the words beside it say the same.
  function meter(share) {
    const svg = element("svg", { class: "meter", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(element("rect", { class: "grid", width: 100, height: 6 }));
    svg.append(element("rect", { class: "one", width: Math.min(100, share * 100), height: 6 }));
    return svg;
  }

  return { bars, lines, meter };
})();
