"use strict";
// A framed report tells how tall it is; the frame is made that tall, so that the page has one scroll bar.
addEventListener("message", ({ data, source }) => {
  if (!data || data.mmexplain !== "height" || !Number.isFinite(data.height)) return;
  for (const frame of document.querySelectorAll("iframe.mm-view")) {
    if (frame.contentWindow !== source) continue;
    frame.style.height = `${Math.min(Math.ceil(data.height), 20000)}px`;
    // The next answer starts as tall as this one, so that little moves under the pointer.
    document.documentElement.style.setProperty("--mm-height", frame.style.height);
  }
});

// On a phone the answer lies below what was asked: it is brought into view when it comes.
function reveal(frame) {
  if (innerWidth > 700 || frame.getBoundingClientRect().top < innerHeight / 2) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  frame.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

// Gradio gives samples no name; their files have one.
new MutationObserver(() => {
  // Browsers do not draw a frame that is out of sight: it cannot tell its height before it is shown.
  for (const frame of document.querySelectorAll("iframe.mm-view:not([data-shown])")) {
    frame.dataset.shown = "";
    reveal(frame);
  }
  for (const shown of document.querySelectorAll(".gallery-item:not([aria-label]) :is(img, video)[src]")) {
    const file = decodeURIComponent(new URL(shown.src).pathname).split("/").pop();
    shown.closest(".gallery-item").setAttribute("aria-label", `Sample ${file}`);
  }
}).observe(document, { childList: true, subtree: true, attributeFilter: ["src"] });

addEventListener("click", async ({ target }) => {
  const copy = target.closest?.(".mm-copy");
  if (!copy) return;
  try {
    await navigator.clipboard.writeText(copy.parentElement.querySelector("pre").textContent);
    told(copy, "copied");
  } catch {
    // Browsers give the clipboard to https and to this machine alone: the text is marked for Ctrl-C instead.
    getSelection().selectAllChildren(copy.parentElement.querySelector("pre"));
    told(copy, "marked: press Ctrl-C");
  }
});

function told(button, what) {
  button.dataset.name ??= button.textContent;
  button.textContent = what;
  setTimeout(() => { button.textContent = button.dataset.name; }, 2000);
}
