"use strict";
// Inside another page's frame the page has no edges of its own. It tells the page around its height and what was
// chosen, and listens to nothing.
const embedded = window.parent !== window;

function tellParent(mmexplain, what) {
  if (embedded) window.parent.postMessage({ mmexplain, ...what }, "*");
}

if (embedded) {
  const root = document.documentElement;
  root.classList.add("embedded");
  let told = null;
  new ResizeObserver(() => {
    const height = Math.ceil(root.getBoundingClientRect().height);
    if (height !== told) tellParent("height", { height });
    told = height;
  }).observe(root);
}
