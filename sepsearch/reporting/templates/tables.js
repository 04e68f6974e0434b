// A click on a heading sorts the table by it, a second one the other way round; missing values stay last.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
    const key = row => {
      const cell = row.cells[column], given = cell.dataset.sort;
      if (given === undefined) return cell.textContent;
      const number = given === "inf" ? Infinity : Number(given);
      return Number.isNaN(number) ? given : number;
    };
    const before = (a, b) => {
      const x = key(a), y = key(b);
      if (x === y) return 0;
      if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
      const order = typeof x === typeof y ? (x < y ? -1 : 1) : (typeof x === "number" ? -1 : 1);
      return up ? order : -order;
    };
    const rows = [...body.rows].sort(before);
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
}

// A table's text, row by row, as shown now; numbers as programs read them, and nothing for a dash.
function plainRows(table) {
  const plain = cell => {
    const text = cell.textContent.trim().replace(/−(?=[\d.])/g, "-");
    // A spreadsheet would compute what begins with these.
    return text === "–" ? "" : /^[=@\t]/.test(text) ? `'${text}` : text;
  };
  const rows = [...table.rows].filter(row => !row.classList.contains("groups"));
  const groups = [...table.querySelectorAll("tr.groups td")].flatMap(cell => Array(cell.colSpan).fill(cell.textContent));
  return rows.map((row, number) => [...row.cells].map((cell, column) =>
    number === 0 && groups[column] ? `${plain(cell)} (${groups[column]})` : plain(cell)));
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", {value: text});
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function addTools(table) {
  const caption = table.caption.textContent;
  const name = `${document.title.split(" · ")[0]}-${caption.split(/[.:,]/)[0]}`.replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase();
  const copy = element("button", {type: "button", textContent: "Copy", ariaLabel: `Copy the table “${caption}”`});
  const save = element("button", {type: "button", textContent: "CSV", ariaLabel: `Save the table “${caption}” as CSV`});
  const said = element("span", {className: "said"});
  said.setAttribute("role", "status");
  copy.addEventListener("click", async () => {
    await copyText(plainRows(table).map(row => row.join("\t")).join("\n"));
    said.textContent = "copied";
    setTimeout(() => said.textContent = "", 2000);
  });
  save.addEventListener("click", () => {
    const field = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const text = plainRows(table).map(row => row.map(field).join(",")).join("\r\n");
    const url = URL.createObjectURL(new Blob(["\ufeff", text, "\r\n"], {type: "text/csv"}));
    element("a", {href: url, download: `${name}.csv`}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  table.closest(".scroll").before(element("div", {className: "tools"}, copy, save, said));
}
document.querySelectorAll("table").forEach(addTools);
