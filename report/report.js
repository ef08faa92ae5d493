"use strict";

// Parts are open without a script and on paper. With a script the page begins with the answer.
const parts = [...document.querySelectorAll("details")];
const all = (open) => parts.forEach((part) => { part.open = open; });
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target.querySelector("details") ?? target; at; at = at.parentElement) {
    if (at.tagName === "DETAILS") at.open = true;
  }
  target.scrollIntoView();
}
if (parts.length) {
  const tools = document.createElement("div");
  tools.className = "tools";
  for (const [text, open] of [["Open all parts", true], ["Close all", false]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => all(open));
    tools.append(button);
  }
  parts[0].closest("section").before(tools);
  all(false);
  reveal();
  window.addEventListener("hashchange", reveal);
  let before = [];
  window.addEventListener("beforeprint", () => { before = parts.map((part) => part.open); all(true); });
  window.addEventListener("afterprint", () => parts.forEach((part, place) => { part.open = before[place]; }));
}

// The values of a figure under the pointer, the finger or the arrow keys: each place holds them as its title.
const value = document.createElement("div");
value.id = "value";
value.setAttribute("role", "status");
value.hidden = true;
document.body.append(value);
const hide = () => { value.hidden = true; };

function show(text, x, y) {
  value.textContent = text;
  value.hidden = false;
  const left = Math.min(x + 12, window.innerWidth - value.offsetWidth - 8);
  const above = y - value.offsetHeight - 12;
  value.style.left = `${Math.max(left, 8)}px`;
  value.style.top = `${above > 0 ? above : y + 16}px`;
}

for (const group of document.querySelectorAll(".values")) {
  const places = [...group.children];
  places.forEach((place, number) => {
    const title = place.querySelector("title");
    const text = title.textContent;
    title.remove(); // the browser would show it a second time
    place.setAttribute("aria-label", text);
    place.setAttribute("role", "img");
    place.setAttribute("tabindex", number ? "-1" : "0"); // one stop of the tabulator for each figure
    for (const event of ["pointermove", "pointerdown"]) {
      place.addEventListener(event, (at) => show(text, at.clientX, at.clientY));
    }
    place.addEventListener("pointerleave", hide);
    place.addEventListener("blur", hide);
    place.addEventListener("focus", () => {
      const box = place.getBoundingClientRect();
      show(text, box.x + box.width / 2, box.y);
    });
    place.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const next = places[(number + step + places.length) % places.length];
      place.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus({ preventScroll: true });
    });
  });
}
window.addEventListener("scroll", hide, { passive: true });

// Only a frame that scrolls is a stop of the tabulator.
const watcher = new ResizeObserver((seen) => {
  for (const { target } of seen) {
    if (target.scrollWidth > target.clientWidth) target.setAttribute("tabindex", "0");
    else target.removeAttribute("tabindex");
  }
});
for (const frame of document.querySelectorAll(".scroll")) watcher.observe(frame);

// Tables sort by the column whose head is pressed, within their groups; dashes stay last.
const shown = (row, column) => (row.cells[column].querySelector(".number") ?? row.cells[column]).textContent.trim();
const number = (text) => Number.parseFloat(text.replace("\u2212", "-").replace(/^</, "").replaceAll(",", ""));

function compare(first, second) {
  const [a, b] = [number(first), number(second)];
  if (Number.isNaN(a) || Number.isNaN(b)) {
    return Number.isNaN(a) && Number.isNaN(b) ? first.localeCompare(second) : 0;
  }
  return a - b;
}

const LONG = 9; // tables with at least so many rows have a filter; one of quantities of a system needs none

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const lines = (body) => [...body.rows].filter((row) => !row.querySelector(".group"));
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = lines(body);
        const empty = rows.filter((row) => shown(row, column) === "\u2013");
        const full = rows.filter((row) => !empty.includes(row));
        full.sort((a, b) => (down ? -1 : 1) * compare(shown(a, column), shown(b, column)));
        body.append(...full, ...empty);
      }
    });
  });

  const rows = [...table.tBodies].flatMap(lines);
  if (rows.length >= LONG && !table.closest(".system")) {
    const label = document.createElement("label");
    label.className = "filter";
    const input = document.createElement("input");
    input.type = "search";
    const count = document.createElement("span");
    count.setAttribute("role", "status");
    label.append("Filter rows", input, count);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        found += row.hidden ? 0 : 1;
      }
      count.textContent = words.length ? `${found} of ${rows.length}` : "";
    });
    table.closest(".scroll").before(label);
  }
}
