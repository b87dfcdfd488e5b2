// Sorts tables, filters their rows, finds languages, and opens what is folded before printing. The page reads without it.
(() => {
  const valueOf = (cell) => (cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent.trim());
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  function sortBy(table, place, head) {
    const rows = [...table.tBodies[0].rows];
    const kept = rows.filter((row) => row.classList.contains("foot"));
    const moved = rows.filter((row) => !row.classList.contains("foot"));
    const down = head.getAttribute("aria-sort") !== "descending";
    const empty = (row) => row.cells[place].textContent.trim() === "";
    moved.sort((a, b) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b); // blanks stay last
      return (down ? -1 : 1) * compare(valueOf(a.cells[place]), valueOf(b.cells[place]));
    });
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...moved, ...kept);
  }

  function field(box, label, act) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = label;
    input.setAttribute("aria-label", label);
    input.addEventListener("input", () => act(input.value.trim().toLowerCase()));
    let tools = box.previousElementSibling;
    if (!tools || !tools.classList.contains("tools")) {
      tools = document.createElement("div");
      tools.className = "tools";
      box.before(tools);
    }
    tools.append(input);
  }

  const showRows = (table) => (word) => {
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.classList.contains("foot") && !row.cells[0].textContent.toLowerCase().includes(word);
    }
  };

  const showColumns = (table, heads) => (word) => {
    const match = (head) => head.textContent.toLowerCase().includes(word);
    const any = heads.slice(1).some(match);
    heads.forEach((head, place) => {
      const hide = place > 0 && any && !match(head);
      head.hidden = hide;
      for (const row of table.tBodies[0].rows) row.cells[place].hidden = hide;
    });
    const groups = table.tHead.querySelector(".groups");
    if (groups) groups.hidden = word !== "";
  };

  for (const table of document.querySelectorAll("table.data")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(table, place, head));
      head.append(button);
    });
    const box = table.closest(".scroll");
    if (table.tBodies[0].rows.length > 8) field(box, `Filter by ${heads[0].textContent.trim()}`, showRows(table));
    if (table.classList.contains("languages") && heads.length > 8) field(box, "Find a language", showColumns(table, heads));
  }

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((one) => (one.open = true));
  });
  window.addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));
})();
