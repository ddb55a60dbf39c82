"use strict";
// Other colours for maps of evidence. All their PNGs have the same table of colours at a place where it takes whole
// letters of the text, so one table's letters are exchanged for another's. `tables[0]` are the colours in the file.
function colours(tables) {
  const selects = document.querySelectorAll(".palette select");
  let now = tables[0];

  function use(name) {
    const wanted = tables.find((table) => table.name === name);
    document.querySelectorAll('.store image[href^="data:image/png"]').forEach((image) =>
      image.setAttribute("href", image.getAttribute("href").replace(now.letters, wanted.letters)));
    document.documentElement.style.setProperty("--evidence", wanted.ramp);
    now = wanted;
    selects.forEach((select) => { select.value = name; });
  }

  selects.forEach((select) => {
    select.append(...tables.map(({ name }) => new Option(name)));
    select.addEventListener("change", () => use(select.value));
  });
}
