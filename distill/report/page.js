"use strict";
// each figure is {id, kind, series, labels, x, y, share, ...}; kinds: intervals, scatter, bars, lines
const figures = JSON.parse(document.getElementById("figures").textContent);
const drawn = [];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const paint = (index) => colour(["one", "two", "three", "four"][index % 4]);
const shownBy = (share) => (value) => (share ? Math.round(value * 1000) / 10 + "%" : Number(value).toLocaleString("en", { maximumSignificantDigits: 4 }));

function axis(title, extra) {
  return { title: { display: Boolean(title), text: title, color: colour("quiet") }, ticks: { color: colour("quiet") }, grid: { color: colour("line") }, ...extra };
}

function datasets(figure) {
  if (figure.kind === "intervals") {
    return [
      { type: "line", label: "value", data: figure.values, showLine: false, pointRadius: 5, backgroundColor: paint(0), borderColor: paint(0) },
      { type: "bar", label: "95% interval", data: figure.intervals, backgroundColor: colour("band"), barThickness: 14, borderRadius: 4 },
    ];
  }
  if (figure.kind === "bars") {
    return figure.series.map((series, i) => ({ label: series.name, data: series.values, backgroundColor: paint(i), maxBarThickness: 48, borderRadius: 3 }));
  }
  const isLine = figure.kind === "lines";
  const sets = figure.series.map((series, i) => ({
    label: series.name, data: series.points, showLine: isLine || Boolean(series.joined), borderColor: paint(i), borderWidth: 2,
    backgroundColor: isLine || figure.series.length > 1 ? paint(i) : colour("band"), pointRadius: isLine && series.points.length > 40 ? 0 : series.joined ? 6 : 4, pointHitRadius: 8,
  }));
  if (figure.diagonal) {
    sets.push({ label: "both alike", data: [{ x: 0, y: 0 }, { x: 1, y: 1 }], showLine: true, pointRadius: 0, pointHitRadius: 0, borderColor: colour("quiet"), borderDash: [4, 4], borderWidth: 1 });
  }
  return sets;
}

function config(figure) {
  const categories = figure.kind === "intervals" || figure.kind === "bars";
  const show = shownBy(figure.share);
  const yAxis = axis(figure.y, { beginAtZero: figure.kind === "bars" });
  yAxis.ticks.callback = show;
  return {
    type: categories ? "bar" : "scatter",
    data: { labels: figure.labels, datasets: datasets(figure) },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false,
      scales: { x: axis(figure.x, categories ? { grid: { display: false } } : { type: "linear" }), y: yAxis },
      plugins: {
        legend: { display: figure.kind === "intervals" || Boolean(figure.diagonal) || figure.series.length > 1, labels: { color: colour("ink"), boxWidth: 12 } },
        tooltip: { callbacks: { label: (item) => {
          const name = item.raw && item.raw.label ? item.raw.label : item.dataset.label;
          if (Array.isArray(item.raw)) return `${name}: ${item.raw.map(show).join(" to ")}`;
          return categories ? `${name}: ${show(item.parsed.y)}` : `${name}: ${shownBy(false)(item.parsed.x)}, ${show(item.parsed.y)}`;
        } } },
      },
    },
  };
}

function draw() {
  while (drawn.length) drawn.pop().destroy();
  for (const figure of figures) drawn.push(new Chart(document.getElementById(figure.id), config(figure)));
}

function rankedTable(table) {
  const words = document.getElementById("words"), kind = document.getElementById("kind"), shown = document.getElementById("shown");
  const bodies = () => Array.from(table.tBodies);
  const value = (body, column) => body.rows[0].cells[column].dataset.value;
  function filter() {
    const wanted = words.value.trim().toLowerCase();
    for (const body of bodies()) {
      body.hidden = Boolean((kind.value && body.dataset.kind !== kind.value) || !body.rows[0].cells[0].textContent.toLowerCase().includes(wanted));
    }
    shown.textContent = `${bodies().filter((body) => !body.hidden).length} of ${bodies().length} queries`;
  }
  function sort(head, column) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const compare = column === 0 ? (a, b) => a.localeCompare(b) : (a, b) => a - b;
    bodies().sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column))).forEach((body) => table.append(body));
  }
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => head.firstElementChild.addEventListener("click", () => sort(head, column)));
  words.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  filter();
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
if (document.getElementById("ranked")) rankedTable(document.getElementById("ranked"));
