"use strict";
// Pointing at a figure shows the step and what each line has there. Without it the page is complete.
for (const figure of document.querySelectorAll("figure.chart:not(.map)")) {
  const plot = figure.querySelector(".plot");
  const { lines, marks } = JSON.parse(figure.querySelector("script").textContent);
  let cursor, tip;
  const nearest = (points, place) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < place) low = middle; else high = middle;
    }
    return Math.abs(points[low][0] - place) <= Math.abs(points[high][0] - place) ? points[low] : points[high];
  };
  const row = (text, look) => {
    const line = document.createElement("div");
    line.textContent = text;
    if (look) line.dataset.look = look;
    tip.append(line);
  };
  const show = (event) => {
    const box = plot.getBoundingClientRect();
    const place = Math.min(1000, Math.max(0, 1000 * (event.clientX - box.left) / box.width));
    if (!tip) {
      cursor = plot.appendChild(document.createElement("div"));
      cursor.className = "cursor";
      tip = plot.appendChild(document.createElement("div"));
      tip.className = "tip";
    }
    const points = lines.map((line) => nearest(line.points, place));
    const here = points.reduce((a, b) => Math.abs(a[0] - place) <= Math.abs(b[0] - place) ? a : b);
    cursor.style.left = here[0] / 10 + "%";
    tip.replaceChildren();
    row("step " + here[2].toLocaleString());
    lines.forEach((line, n) => {
      const at = points[n][2] === here[2] ? "" : " (step " + points[n][2].toLocaleString() + ")";
      row((line.name ? line.name + ": " : "") + points[n][3] + figure.dataset.unit + at, line.look);
    });
    for (const [where, text] of marks) if (Math.abs(where - place) < 12) row(text);
    // Beside the line, on the side where there is room, and never beyond the figure.
    const at = here[0] * box.width / 1000, outer = figure.getBoundingClientRect();
    const first = outer.left - box.left + 4, last = outer.right - box.left - tip.offsetWidth - 4;
    const wanted = at + 10 > last ? at - 10 - tip.offsetWidth : at + 10;
    tip.style.left = Math.max(first, Math.min(wanted, last)) + "px";
  };
  const hide = () => {
    if (tip) { tip.remove(); cursor.remove(); tip = cursor = undefined; }
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}

// Pointing at a map shows the nearest sample: its pictures and texts, of all sides.
for (const figure of document.querySelectorAll("figure.map")) {
  const plot = figure.querySelector(".plot"), gallery = figure.closest(".gallery");
  const points = JSON.parse(figure.querySelector("script").textContent);
  const { columns, rows, sides, labels } = JSON.parse(gallery.querySelector("script.samples").textContent);
  let tip, ring;
  const add = (name, text, to) => {
    const made = to.appendChild(document.createElement(name));
    made.textContent = text;
    return made;
  };
  const show = (event) => {
    const box = plot.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const away = points.map((p) => Math.hypot(p[0] * box.width / 1000 - x, p[1] * box.height / 1000 - y));
    const number = away.indexOf(Math.min(...away));
    if (!tip) {
      ring = add("div", "", plot);
      ring.className = "ring";
      tip = add("div", "", plot);
      tip.className = "tip";
    }
    ring.style.left = points[number][0] / 10 + "%";
    ring.style.top = points[number][1] / 10 + "%";
    tip.replaceChildren();
    for (const { sheet } of sides) {
      if (sheet === null) continue;
      const picture = add("i", "", tip);
      picture.className = "thumb";
      picture.style.backgroundImage = "var(--sheet-" + sheet + ")";
      picture.style.backgroundSize = 100 * columns + "% " + 100 * rows + "%";
      const row = Math.floor(number / columns), column = number % columns;
      picture.style.backgroundPosition = 100 * column / (columns - 1) + "% " + 100 * row / Math.max(1, rows - 1) + "%";
    }
    for (const { texts } of sides) if (texts[number]) add("div", texts[number], tip);
    if (labels[number]) add("div", labels[number], tip);
    if (!tip.textContent) add("div", "sample " + number, tip);
    const outer = figure.getBoundingClientRect(), at = points[number][0] * box.width / 1000;
    const first = outer.left - box.left + 4, last = outer.right - box.left - tip.offsetWidth - 4;
    tip.style.left = Math.max(first, Math.min(at + 12 > last ? at - 12 - tip.offsetWidth : at + 12, last)) + "px";
  };
  const hide = () => {
    if (tip) { tip.remove(); ring.remove(); tip = ring = undefined; }
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}
// One sound at a time; a second press stops it.
let playing;
for (const button of document.querySelectorAll("button[data-sound]")) {
  const sound = document.getElementById(button.dataset.sound);
  button.addEventListener("click", () => {
    const again = playing === sound && !sound.paused;
    if (playing) playing.pause();
    if (again) return;
    playing = sound;
    sound.currentTime = 0;
    sound.play().catch(() => { button.disabled = true; button.title = "this browser does not play FLAC"; });
  });
}
