(() => {
  // -- filters over all cards, not those of this page alone --------------------------------------------------------

  const form = document.querySelector(".filters");
  if (form && typeof CARDS !== "undefined") {
    const grid = document.querySelector(".cards");
    const template = document.querySelector("#card").content.firstElementChild;
    const pager = document.querySelector(".filtered");
    const plain = document.querySelector(".static-pager");
    const found = form.querySelector(".found");
    const original = [...grid.children];
    const perPage = Number(grid.dataset.perPage);
    const searched = CARDS.map((card) => [...card.text, card.label, card.id].join(" ").toLowerCase());
    let hits = [];
    let page = 0;
    form.hidden = false;

    function made(card) {
      const node = template.cloneNode(true);
      const find = (selector) => node.querySelector(selector);
      find("a").setAttribute("href", card.page);
      const picture = find("img");
      picture.width = card.width;
      picture.height = card.height;
      picture.alt = `${card.label} in ${card.id}`;
      picture.setAttribute("src", card.picture);
      if (card.lost) {
        find(".plate").hidden = false;
        find(".plate").title = card.lost;
      }
      find(".name").textContent = card.label;
      find(".percent").textContent = card.percent;
      const [before, marked, after] = card.text;
      const sentence = find(".sentence bdi");
      if (!before && !marked) find(".sentence").remove();
      sentence.append(before);
      if (marked) {
        const mark = document.createElement("mark");
        mark.textContent = marked;
        sentence.append(before ? " " : "", mark, after ? " " : "", after);
      }
      find(".which").textContent = card.id;
      find(".made").textContent = card.made;
      return node;
    }

    function show() {
      const pages = Math.max(1, Math.ceil(hits.length / perPage));
      page = Math.min(Math.max(page, 0), pages - 1);
      grid.replaceChildren(...hits.slice(page * perPage, (page + 1) * perPage).map((place) => made(CARDS[place])));
      pager.hidden = pages === 1;
      pager.querySelector(".at").textContent = `${page + 1} of ${pages}`;
      pager.querySelector(".back").disabled = page === 0;
      pager.querySelector(".on").disabled = page === pages - 1;
    }

    function filter() {
      const told = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value]));
      const text = (told.text || "").trim().toLowerCase();
      const low = told.low ? Number(told.low) / 100 : null;
      const high = told.high ? Number(told.high) / 100 : null;
      const active = text || told.label || told.kind || told.made || low !== null || high !== null;
      plain.hidden = Boolean(active);
      if (!active) {
        grid.replaceChildren(...original);
        pager.hidden = true;
        found.textContent = "";
        return;
      }
      hits = [];
      CARDS.forEach((card, place) => {
        if (told.label && card.label !== told.label) return;
        if (told.kind && card.kind !== told.kind) return;
        if (told.made && card.made !== told.made) return;
        if (low !== null && !(card.probability !== null && card.probability >= low)) return;
        if (high !== null && !(card.probability !== null && card.probability <= high)) return;
        if (text && !searched[place].includes(text)) return;
        hits.push(place);
      });
      const count = new Intl.NumberFormat("en");
      found.textContent = `${count.format(hits.length)} of ${count.format(CARDS.length)} cards`;
      page = 0;
      show();
    }

    function turn(by) {
      page += by;
      show();
      grid.scrollIntoView({ block: "start" });
    }

    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector(".clear").addEventListener("click", () => {
      form.reset();
      filter();
    });
    pager.querySelector(".back").addEventListener("click", () => turn(-1));
    pager.querySelector(".on").addEventListener("click", () => turn(1));
  }

  // -- tables that are sorted by a click ---------------------------------------------------------------------------

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const now = head.getAttribute("aria-sort");
        const up = now ? now === "descending" : !numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => {
          const cell = row.cells[column];
          if (!numeric) return cell.textContent;
          return "value" in cell.dataset ? Number(cell.dataset.value) : null;
        };
        const rows = [...body.rows].map((row) => [value(row), row]);
        rows.sort(([one], [two]) => {
          if (one === null || two === null) return (one === null) - (two === null);
          const order = numeric ? one - two : one.localeCompare(two);
          return up ? order : -order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  });
})();
