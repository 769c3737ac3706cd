"use strict";
(() => {
  const table = document.getElementById("cases");
  if (!table) return;
  const form = document.getElementById("filters");
  const search = document.getElementById("search");
  const names = new Intl.Collator(undefined, { numeric: true });
  const number = (text) => (text === "" ? null : Number(text));
  const cases = Array.from(table.tBodies, (body) => ({
    body,
    text: body.textContent.toLowerCase(),
    name: body.dataset.name,
    dice: number(body.dataset.dice),
    uncertainty: number(body.dataset.uncertainty),
    verdict: body.dataset.verdict,
    outside: body.dataset.outside,
  }));

  const filter = () => {
    const wanted = form.elements.show.value;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { body, text, verdict, outside } of cases) {
      const kind =
        wanted === "all" || (wanted === "review" ? verdict === "review" : outside === "true");
      body.hidden = !(kind && words.every((word) => text.includes(word)));
      count += !body.hidden;
    }
    document.getElementById("shown").value = `${count} of ${cases.length} cases shown`;
  };

  const compare = (key, sign) => (a, b) => {
    if (key === "name") return sign * names.compare(a.name, b.name);
    if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
    return sign * (a[key] - b[key]);
  };

  for (const heading of table.tHead.querySelectorAll("th[data-key]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const first = heading.dataset.key === "uncertainty" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      for (const each of table.tHead.querySelectorAll("[aria-sort]")) {
        each.removeAttribute("aria-sort");
      }
      const order = before === first ? other : first;
      heading.setAttribute("aria-sort", order);
      cases.sort(compare(heading.dataset.key, order === "ascending" ? 1 : -1));
      table.append(...cases.map(({ body }) => body));
    });
    heading.replaceChildren(button);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.hidden = false;
  filter();
})();
