"use strict";
// What each word that the model had read added to the target shown: the words are marked, the strongest named.
function reading(root, data) {
  const words = [...root.querySelectorAll(".choose .word")];
  let method = 0;
  let shown = data.first;

  function show(target) {
    shown = target;
    const part = data.reading[method].parts[target];
    words.forEach((word, place) => {
      const share = part.shares[place];
      const mark = word.querySelector(".mark");
      mark.classList.toggle("for", share > 0);
      mark.classList.toggle("against", share < 0);
      mark.style.setProperty("--share", String(Math.abs(share || 0)));
      const added = word.querySelector(".added");
      if (!added) return;
      added.textContent = part.numbers[place];
      added.classList.toggle("strong", part.strong.includes(place));
    });
    root.querySelector(".added-says").textContent = part.says;
    root.querySelector(".added-error").textContent = part.error;
  }

  root.querySelectorAll("[data-pick=reading] input").forEach((input) => {
    input.checked = Number(input.value) === method;
    input.addEventListener("change", () => {
      method = Number(input.value);
      show(shown);
    });
  });
  return show;
}
