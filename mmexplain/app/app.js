"use strict";
// A framed report tells how tall it is; the frame is made that tall, so that the page has one scroll bar.
addEventListener("message", ({ data, source }) => {
  if (!data || data.mmexplain !== "height" || !Number.isFinite(data.height)) return;
  for (const frame of document.querySelectorAll("iframe.mm-view")) {
    if (frame.contentWindow === source) frame.style.height = `${Math.min(Math.ceil(data.height), 20000)}px`;
  }
});

// Gradio gives samples no name; their files have one.
new MutationObserver(() => {
  for (const sample of document.querySelectorAll(".gallery-item:not([aria-label])")) {
    const shown = sample.querySelector("img, video");
    const file = shown && decodeURIComponent(new URL(shown.currentSrc || shown.src, location.href).pathname).split("/").pop();
    sample.setAttribute("aria-label", `Sample ${file || ""}`.trim());
  }
}).observe(document, { childList: true, subtree: true });
