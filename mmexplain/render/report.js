(() => {
  const each = (root, selector, act) => root.querySelectorAll(selector).forEach(act);

  function start(root) {
    const data = JSON.parse(root.querySelector("script.data").textContent);
    if (!data.maps.length || !data.targets.length) return;
    const find = (selector) => root.querySelector(selector);
    const stage = find(".stage > .frame");
    const choices = [...root.querySelectorAll(".choose [role=radio]")];
    const opacity = { heat: 65, pixels: 100 };
    let target = data.first; // what was chosen
    let shown = target; // the same, or what is previewed
    let key = 0;
    const marks = data.reading.length ? reading(root, data) : null;
    const clip = data.clip ? player(root, data) : null;
    const at = (peak) => `${peak[0]}, ${peak[1]}${clip ? ` · frame ${peak[2]}` : ""}`;

    function paint(frame, k, t) {
      const cell = data.cells[k][t];
      const heat = frame.querySelector(".heat");
      (heat.querySelector("use") || heat).setAttribute("href", `#${data.id}-${k}-${t}`);
      heat.dataset.kind = cell.kind;
      const peak = frame.querySelector(".peak");
      peak.hidden = !cell.peak;
      if (cell.peak) {
        peak.style.left = `${cell.peak_at[0]}%`;
        peak.style.top = `${cell.peak_at[1]}%`;
      }
      const plate = frame.querySelector(".plate");
      plate.hidden = !cell.note;
      plate.textContent = cell.note || "";
      if (clip) clip.paint(frame, cell);
    }

    const slot = () => (data.cells[key][target].kind === "pixels" ? "pixels" : "heat");

    function legend(kind, ramp) {
      const box = find(".legend");
      const ends = { evidence: ["none", "strongest"], signed: ["against", "for"], pixels: ["lowers it", "raises it"] };
      box.dataset.kind = kind;
      box.querySelector(".ramp").style.background = kind === "signed" && ramp ? `${ramp}, #8b8b88` : "";
      box.querySelector(".low").textContent = ends[kind][0];
      box.querySelector(".high").textContent = ends[kind][1];
      find(".palette").hidden = kind !== "evidence";
    }

    function show(t) {
      shown = t;
      const cell = data.cells[key][t];
      const chosen = data.targets[t];
      const { made, summary } = data.maps[key];
      paint(stage, key, t);
      each(root, ".compare button", (button) => paint(button, Number(button.dataset.key), t));
      find(".chosen").textContent = chosen.label;
      find(".percent").textContent = chosen.percent || "–";
      find(".score").textContent = chosen.score;
      find(".at").textContent = cell.peak ? at(cell.peak) : "–";
      const line = `“${chosen.label}”: ${made}${summary ? `, ${summary}` : ""}`;
      find(".says").textContent = line;
      const where = cell.peak ? `; strongest at ${at(cell.peak)}` : `; ${cell.note || "no peak"}`;
      stage.querySelector("svg").setAttribute("aria-label", `${data.name}. Map for ${line}${where}`);
      legend(cell.kind, data.maps[key].ramp);
      if (marks) marks(t);
      if (clip) clip.draw(cell);
      each(root, ".choose .word", (word, place) => {
        const span = chosen.kind === "word" ? null : chosen.span;
        word.classList.toggle("within", Boolean(span) && place >= span[0] && place < span[1]);
      });
    }

    function choose(t) {
      target = t;
      for (const choice of choices) {
        const on = Number(choice.dataset.target) === t;
        choice.setAttribute("aria-checked", String(on));
        choice.tabIndex = on ? 0 : -1;
      }
      each(root, ".strip button", (button) =>
        button.setAttribute("aria-pressed", String(Number(button.dataset.target) === t)));
      show(t);
    }

    const paintStrip = () =>
      each(root, ".strip button", (button) => paint(button, key, Number(button.dataset.target)));

    function setKey(k) {
      key = k;
      const { method, layer, made: own } = data.maps[k];
      paintStrip();
      each(root, ".compare button", (button) =>
        button.setAttribute("aria-pressed", String(Number(button.dataset.key) === k)));
      each(root, "[data-pick=method] input", (input) => {
        input.checked = data.methods[input.value] === method;
      });
      each(root, "[data-pick=layer] input", (input) => {
        const name = data.layers[input.value];
        input.checked = name === layer;
        input.disabled = !data.maps.some((other) => other.method === method && other.layer === name);
      });
      const made = find(".made");
      if (made) made.textContent = own;
      const slider = find(".opacity");
      show(target);
      slider.value = String(opacity[slot()]);
      find(".slider output").textContent = `${slider.value}%`;
    }

    function pick(kind, name) {
      const wanted = { ...data.maps[key], [kind]: name };
      const fits = (other) => other[kind] === name;
      const exact = data.maps.findIndex((other) => other.method === wanted.method && other.layer === wanted.layer);
      setKey(exact >= 0 ? exact : data.maps.findIndex(fits));
    }

    for (const choice of choices) {
      const t = Number(choice.dataset.target);
      choice.addEventListener("click", () => choose(t));
      choice.addEventListener("focus", () => show(t));
      choice.addEventListener("blur", () => show(target));
      choice.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && show(t));
      choice.addEventListener("pointerleave", () => show(target));
    }
    find(".choose").addEventListener("keydown", (event) => {
      const last = choices.length - 1;
      const here = choices.indexOf(document.activeElement);
      const moves = {
        ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: last,
      };
      if (here < 0 || !(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const next = choices[(moves[event.key] + choices.length) % choices.length];
      choose(Number(next.dataset.target));
      next.focus();
    });
    const reveal = () => stage.scrollIntoView({ block: "nearest" });
    each(root, ".strip button", (button) =>
      button.addEventListener("click", () => { choose(Number(button.dataset.target)); reveal(); }));
    each(root, ".compare button", (button) =>
      button.addEventListener("click", () => { setKey(Number(button.dataset.key)); reveal(); }));
    each(root, "[data-pick=method] input", (input) =>
      input.addEventListener("change", () => pick("method", data.methods[input.value])));
    each(root, "[data-pick=layer] input", (input) =>
      input.addEventListener("change", () => pick("layer", data.layers[input.value])));
    find(".opacity").addEventListener("input", (event) => {
      opacity[slot()] = Number(event.target.value);
      root.style.setProperty(`--${slot()}`, String(event.target.value / 100));
      find(".slider output").textContent = `${event.target.value}%`;
    });
    find(".peaks").addEventListener("change", (event) =>
      root.classList.toggle("no-peaks", !event.target.checked));

    const current = () => `${target} ${key}`;
    let told = "";

    // Own listeners have run when an event comes up to the section.
    function announce() {
      if (current() !== told) tellParent("chosen", { explanation: data.id, target, key });
      told = current();
    }

    // Browsers restore form fields of a reloaded page: the fields follow the page, not the other way round.
    find(".peaks").checked = true;
    setKey(0);
    choose(data.first);
    if (clip) clip.start(() => { show(shown); paintStrip(); });
    told = current();
    ["click", "keydown", "change"].forEach((kind) => root.addEventListener(kind, announce));
  }

  document.querySelectorAll("article.explanation").forEach(start);
  colours(TABLES);
})();
