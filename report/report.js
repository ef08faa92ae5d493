"use strict";

// The values of a figure under the pointer, or under a finger: each place holds them as its title.
const value = document.createElement("div");
value.id = "value";
value.setAttribute("role", "status");
value.hidden = true;
document.body.append(value);

for (const place of document.querySelectorAll(".values > *")) {
  const title = place.querySelector("title");
  const text = title.textContent;
  title.remove(); // the browser would show it a second time
  place.setAttribute("aria-label", text);
  const show = (event) => {
    value.textContent = text;
    value.hidden = false;
    const left = Math.min(event.clientX + 12, window.innerWidth - value.offsetWidth - 8);
    const above = event.clientY - value.offsetHeight - 12;
    value.style.left = `${Math.max(left, 8)}px`;
    value.style.top = `${above > 0 ? above : event.clientY + 16}px`;
  };
  place.addEventListener("pointermove", show);
  place.addEventListener("pointerdown", show);
  place.addEventListener("pointerleave", () => { value.hidden = true; });
}
window.addEventListener("scroll", () => { value.hidden = true; }, { passive: true });

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

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.querySelector(".group"));
        const empty = rows.filter((row) => shown(row, column) === "\u2013");
        const full = rows.filter((row) => !empty.includes(row));
        full.sort((a, b) => (down ? -1 : 1) * compare(shown(a, column), shown(b, column)));
        body.append(...full, ...empty);
      }
    });
  });
}
