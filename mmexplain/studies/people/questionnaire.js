(() => {
  const design = JSON.parse(document.getElementById("design").textContent);
  const images = JSON.parse(document.getElementById("images").textContent);
  const find = (selector) => document.querySelector(selector);
  const KEY = `mmexplain questionnaire ${design.study}`;
  const trust = design.kind === "trust";

  // -- the order: questionnaire_plan.py draws the same ----------------------------------------------------------------

  function seedOf(participant) {
    let value = 2166136261;
    for (const byte of new TextEncoder().encode(`${design.study} ${participant}`)) {
      value = Math.imul(value ^ byte, 16777619);
    }
    return value >>> 0;
  }

  function generator(seed) {
    let state = seed >>> 0;
    return (number) => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296) * number);
    };
  }

  function shuffled(values, below) {
    const found = [...values];
    for (let last = found.length - 1; last > 0; last -= 1) {
      const other = below(last + 1);
      [found[last], found[other]] = [found[other], found[last]];
    }
    return found;
  }

  const turned = (pair, flip) => (flip ? [...pair].reverse() : [...pair]);

  function plan(seed) {
    const below = generator(seed);
    const order = shuffled(design.items.keys(), below).slice(0, design.questions);
    let dealt = shuffled(design.arms.keys(), below);
    dealt = shuffled(order.map((_, place) => dealt[place % design.arms.length]), below);
    const asked = order.map((number, place) => {
      const item = design.items[number];
      const { arm, asks } = design.arms[dealt[place]];
      const pick = below(2);
      const flip = below(2);
      const shown = trust ? turned(item.arms[arm], flip) : [item.arms[arm][pick]];
      const options = trust ? design.scale : turned(item.options, flip);
      return { item: item.item, kind: design.kind, arm, asks: trust ? asks.replace("{}", item.said) : asks, shown, options };
    });
    const put = new Map();
    shuffled(design.checks.keys(), below).forEach((number, place) => {
      const check = design.checks[number];
      const flip = below(2);
      const options = trust ? design.scale : turned(check.options, flip);
      const before = Math.floor((place * order.length + below(order.length)) / design.checks.length);
      const shown = check.image === null ? [] : [["", check.image]];
      put.set(before, [...(put.get(before) || []), { item: check.item, kind: "check", arm: "", asks: check.asks, shown, options }]);
    });
    return asked.flatMap((question, place) => [...(put.get(place) || []), question]);
  }

  // -- what is kept: a reload loses nothing -------------------------------------------------------------------------

  let kept = null;
  let questions = [];
  let reloaded = false;

  function read() {
    try {
      return JSON.parse(localStorage.getItem(KEY));
    } catch {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      find("#unkept").hidden = false;
    }
  }

  // -- the file -----------------------------------------------------------------------------------------------------

  function cell(value) {
    let text = String(value).replace(/\s+/g, " ");
    if (/^\s*[=+\-@＝＋－＠]/.test(text)) text = `'${text}`;
    return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    const rows = kept.answers.map((answer, place) => {
      const { item, kind, arm, shown, options } = questions[place];
      return {
        study: design.study, participant: kept.participant, seed: kept.seed, order: place + 1, item, question: kind,
        attention_check: Number(kind === "check"), arm, shown: shown.map(([code]) => code).join(" "),
        options: options.join(" | "), answer: answer.number, answer_text: options[answer.number - 1],
        reaction_ms: answer.milliseconds, reloaded: answer.reloaded, started: answer.started, ended: answer.ended,
      };
    });
    return [design.columns, ...rows.map((row) => design.columns.map((name) => row[name]))]
      .map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = `answers-${design.study}-${kept.participant.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    find("#saved").textContent = `Saved as ${link.download}. Please send this file to whoever gave you this page.`;
    find("#again").hidden = false;
  }

  // -- the screens --------------------------------------------------------------------------------------------------

  function screen(name) {
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
    const heading = find(`#${name} h1`);
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  let shownAt = 0;
  let started = "";

  async function show() {
    const place = kept.answers.length;
    if (place === questions.length) {
      find("#who").textContent = kept.participant;
      screen("end");
      return;
    }
    const { asks, shown, options } = questions[place];
    find("#number").textContent = `Question ${place + 1} of ${questions.length}`;
    find("#progress").value = place;
    find("#progress").max = questions.length;
    find("#asks").textContent = asks;
    find("#told").textContent = "";
    const pictures = shown.map(([, image], number) => {
      const figure = document.createElement("figure");
      const picture = new Image();
      const letter = "AB"[number];
      picture.src = images[image];
      picture.alt = shown.length > 1 ? `Picture of model ${letter}` : "The picture that is asked about";
      figure.append(picture);
      if (shown.length > 1) {
        const caption = document.createElement("figcaption");
        caption.textContent = `Model ${letter}`;
        figure.append(caption);
      }
      return figure;
    });
    find("#pictures").replaceChildren(...pictures);
    find("#options").replaceChildren(...options.map((text, number) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "answer", value: number + 1 });
      const key = Object.assign(document.createElement("kbd"), { textContent: String(number + 1) });
      const said = document.createElement("bdi");
      key.setAttribute("aria-hidden", "true");
      said.textContent = text;
      label.append(input, key, said);
      return label;
    }));
    find("#options").dataset.number = options.length;
    shownAt = 0;
    find("#task .go").disabled = true;
    screen("task");
    await Promise.all([...document.querySelectorAll("#pictures img")].map((picture) => picture.decode()));
    started = new Date().toISOString();
    shownAt = performance.now();
    find("#task .go").disabled = false;
  }

  function answer() {
    const chosen = find("#options input:checked");
    if (!chosen || !shownAt) {
      find("#told").textContent = "Please choose one of the options first.";
      return;
    }
    kept.answers.push({
      number: Number(chosen.value), milliseconds: Math.round(performance.now() - shownAt), reloaded: Number(reloaded),
      started, ended: new Date().toISOString(),
    });
    reloaded = false;
    keep();
    show();
  }

  function begin(participant) {
    kept = { participant, seed: seedOf(participant), answers: [] };
    questions = plan(kept.seed);
    keep();
    show();
  }

  const drawn = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => "abcdefghjkmnpqrs"[byte % 16]).join("");

  find("#start form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(find("#participant").value.replace(/\s+/g, " ").trim() || drawn());
  });
  find("#task form").addEventListener("submit", (event) => {
    event.preventDefault();
    answer();
  });
  find("#download").addEventListener("click", download);
  find("#again").addEventListener("click", () => {
    localStorage.removeItem(KEY);
    location.reload();
  });

  document.addEventListener("keydown", (event) => {
    if (find("#task").hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const option = document.querySelectorAll("#options input")[Number(event.key) - 1];
    if (option) {
      option.checked = true;
      option.focus();
      find("#told").textContent = "";
    }
    if (event.key === "Enter" && event.target.localName !== "button") {
      event.preventDefault();
      answer();
    }
  });
  // Answered in another tab: this one is behind.
  addEventListener("storage", (event) => event.key === KEY && location.reload());

  // Browsers restore the fields of a reloaded page.
  document.querySelectorAll("form").forEach((form) => form.reset());
  kept = read();
  if (kept) {
    questions = plan(kept.seed);
    reloaded = true;
    show();
  } else {
    find("#start").hidden = false;
  }
})();
