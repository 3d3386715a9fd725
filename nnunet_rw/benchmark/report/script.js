"use strict";

const root = document.documentElement;
const darkColours = JSON.parse(document.getElementById("dark-colours").textContent);
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
const coarsePointer = window.matchMedia("(pointer: coarse)").matches;
const plots = [...document.querySelectorAll(".plot")].map((element) => ({
  element,
  text: element.nextElementSibling.textContent,
  hidden: new Set(),
  drawn: false,
}));
let printing = false;
document.getElementById("no-script").remove();

function isDark() {
  const chosen = root.dataset.theme;
  return !printing && (chosen ? chosen === "dark" : prefersDark.matches);
}

// Figures are written in the colours of the light theme.
function themed(value) {
  if (Array.isArray(value)) return value.map(themed);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
  }
  return typeof value === "string" && isDark() && value in darkColours ? darkColours[value] : value;
}

// Where every pixel counts, every other label of a long axis is left out.
function narrow(layout) {
  for (const axis of [layout.xaxis, layout.yaxis]) {
    axis.tickfont = { ...axis.tickfont, size: 11 };
    axis.title = { ...axis.title, font: { size: 12 } };
  }
  const { ticktext } = layout.xaxis;
  if (ticktext && ticktext.length > 7) layout.xaxis.ticktext = ticktext.map((text, i) => (i % 2 ? "" : text));
}

// What a figure depends on besides its data.
function looks({ element }) {
  return `${element.clientWidth} ${isDark()}`;
}

function draw(plot) {
  plot.drawn = true;
  plot.looks = looks(plot);
  const { data, layout } = themed(JSON.parse(plot.text));
  for (const trace of data) trace.visible = !plot.hidden.has(trace.meta);
  const alone = plot.element.closest(".panels").childElementCount === 1;
  layout.width = printing ? (alone ? 450 : 320) : plot.element.clientWidth || undefined;
  if (layout.width < 480) narrow(layout);
  layout.dragmode = coarsePointer ? false : "zoom";
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: isDark() ? "#1d2024" : "#ffffff" };
  return Plotly.react(plot.element, data, layout, {
    displaylogo: false,
    modeBarButtons: coarsePointer ? [] : [["resetScale2d", "toImage"]],
    toImageButtonOptions: { format: "svg" },
    doubleClick: "reset",
  });
}

// What is hidden has no width; it is drawn again when it is shown.
function redraw() {
  plots.filter(({ drawn, element }) => drawn && element.offsetParent).forEach(draw);
}

// Figures are drawn when they come near: a page may have hundreds.
const observer = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter(({ isIntersecting }) => isIntersecting)) {
    const plot = plots.find(({ element }) => element === target);
    if (plot.looks !== looks(plot)) draw(plot);
  }
  root.dataset.figures = "drawn";
}, { rootMargin: "1000px 0px" });

function showTheme() {
  document.getElementById("theme").setAttribute("aria-pressed", String(isDark()));
  redraw();
}

function remembered(name, value) {
  try {
    if (value) localStorage.setItem(`nnunet-rw-${name}`, value);
    return localStorage.getItem(`nnunet-rw-${name}`);
  } catch {
    return value || null;
  }
}

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remembered("theme", root.dataset.theme);
  showTheme();
});
prefersDark.addEventListener("change", showTheme);

// Numbers sort as such, words by their letters; what is empty comes last either way.
function sortable(cell) {
  return { text: cell.textContent.trim(), number: parseFloat(cell.dataset.value) };
}

function compare(first, second, direction) {
  const numeric = [Number.isNaN(first.number), Number.isNaN(second.number)];
  if (!numeric[0] && !numeric[1]) return direction * (first.number - second.number);
  const empty = [first.text === "-" || first.text === "", second.text === "-" || second.text === ""];
  if (empty[0] !== empty[1]) return empty[0] ? 1 : -1;
  return direction * first.text.localeCompare(second.text, "en", { numeric: true });
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const header = button.parentElement;
    const column = header.cellIndex;
    const table = header.closest("table");
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: sortable(row.cells[column]) }));
    rows.sort((first, second) => compare(first.key, second.key, ascending ? 1 : -1));
    body.append(...rows.map(({ row }) => row));
  });
}

// Every leaderboard shows the same columns; what was switched on or off, by name, outlives the page.
const choices = [...document.querySelectorAll(".columns")];
const switched = new Map(Object.entries(JSON.parse(remembered("columns") || "{}")));

function showColumns() {
  for (const choice of choices) {
    const boxes = [...choice.querySelectorAll("input")];
    for (const box of boxes) box.checked = switched.get(box.value) ?? box.defaultChecked;
    const off = new Set(boxes.filter(({ checked }) => !checked).map(({ value }) => value));
    const { rows } = choice.parentElement.querySelector("table");
    const names = [...rows[0].cells].map((cell) => cell.textContent.trim());
    for (const row of rows) names.forEach((name, index) => { row.cells[index].hidden = off.has(name); });
    choice.querySelector(".count").textContent = `${boxes.length - off.size} of ${boxes.length}`;
    choice.hidden = false;
  }
}

for (const box of choices.flatMap((choice) => [...choice.querySelectorAll("input")])) {
  box.addEventListener("change", () => {
    switched.set(box.value, box.checked);
    remembered("columns", JSON.stringify(Object.fromEntries(switched)));
    showColumns();
  });
}
showColumns();

for (const button of document.querySelectorAll(".key button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    const block = button.closest(".block");
    for (const plot of plots.filter(({ element }) => block.contains(element))) {
      if (shown) plot.hidden.delete(button.dataset.trainer);
      else plot.hidden.add(button.dataset.trainer);
      if (plot.drawn) draw(plot);
    }
  });
}

for (const choice of document.querySelectorAll("select[data-task]")) {
  const show = () => {
    for (const option of choice.options) {
      const label = document.getElementById(option.value);
      label.hidden = option.value !== choice.value;
    }
    for (const link of document.querySelectorAll(`nav a[href^="#${choice.dataset.task}-label-"]`)) {
      const block = link.getAttribute("href").split("-").pop();
      link.setAttribute("href", `#${choice.value}-${block}`);
    }
  };
  choice.addEventListener("change", show);
  show();
}

function copied(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? Promise.resolve() : Promise.reject(new Error("copy"));
}

for (const button of document.querySelectorAll(".copy")) {
  const label = button.textContent;
  button.addEventListener("click", () => {
    const source = document.getElementById(button.dataset.copies);
    copied(source.type === "application/json" ? JSON.parse(source.textContent) : source.textContent)
      .then(() => "Copied", () => "Select the text and copy it")
      .then((said) => {
        button.textContent = said;
        document.getElementById("said").textContent = said;
        setTimeout(() => { button.textContent = label; }, 2000);
      });
  });
}

let closed = [];
window.addEventListener("beforeprint", () => {
  printing = true;
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
  plots.forEach(draw);
});
window.addEventListener("afterprint", () => {
  printing = false;
  for (const details of closed) details.open = false;
  redraw();
});

let resizing;
let width = window.innerWidth;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  resizing = setTimeout(redraw, 150);
});

const earlier = remembered("theme");
if (earlier) root.dataset.theme = earlier;
showTheme();
for (const { element } of plots) observer.observe(element);
