"use strict";
// A clip: the frame under the curve's head is shown in every picture, with the heat of that frame.
function player(root, data) {
  const { frames, columns, cell: [width, height], border, n_frames: count } = data.clip;
  const box = root.querySelector(".player");
  const play = box.querySelector(".play");
  const track = box.querySelector(".track");
  const toPeak = box.querySelector(".to-peak");
  const seen = frames.map((_, place) => place).filter((place) => frames[place].cell !== null);
  const SLOWEST = 400; // milliseconds that one frame is held at most, and without a clock
  const FASTEST = 40;
  let now = data.clip.start;
  let state = data.cells[0][data.first];
  let timer = null;

  const clock = ({ number, seconds }) => `frame ${number}${seconds === null ? "" : ` · ${seconds.toFixed(2)} s`}`;

  function nearest(number) {
    let best = 0;
    frames.forEach((frame, place) => {
      if (Math.abs(frame.number - number) < Math.abs(frames[best].number - number)) best = place;
    });
    return best;
  }

  // One picture: the frame, its part of the sheet of heat, and what is to be said of it.
  function paint(frame, shown) {
    const { cell, number } = frames[now];
    frame.querySelector(".photo").setAttribute("href", `#${data.id}-f${now}`);
    const heat = frame.querySelector(".heat");
    const skipped = cell === null;
    heat.style.display = skipped ? "none" : "inline";
    if (!skipped) {
      const x = (cell % columns) * (width + 2 * border) + border;
      const y = Math.floor(cell / columns) * (height + 2 * border) + border;
      heat.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    }
    frame.classList.toggle("skipped", skipped);
    frame.querySelector(".veil").hidden = !skipped;
    frame.querySelector(".peak").hidden = !shown.peak || shown.peak[2] !== number;
    const plate = frame.querySelector(".plate");
    plate.textContent = skipped ? "the model skipped this frame" : shown.note || "";
    plate.hidden = !plate.textContent;
  }

  function tell() {
    const frame = frames[now];
    const share = state.shares[now];
    box.querySelector(".head").style.left = `${frame.at}%`;
    box.querySelector(".now").textContent = clock(frame);
    track.setAttribute("aria-valuenow", String(frame.number));
    const told = share === null ? "skipped by the model" : `importance ${share}% of its most`;
    track.setAttribute("aria-valuetext", `${clock(frame)}, ${told}`);
  }

  // The curve of the target shown.
  function draw(shown) {
    state = shown;
    track.querySelector(".curve").setAttribute("d", shown.curve);
    const crest = track.querySelector(".crest");
    crest.hidden = !shown.peak;
    crest.style.left = `${shown.peak_along}%`;
    toPeak.hidden = !shown.peak;
    tell();
  }

  function start(repaint) {
    function go(place) {
      now = place;
      repaint();
    }

    function stop() {
      clearTimeout(timer);
      timer = null;
      box.classList.remove("playing");
      play.setAttribute("aria-label", "Play");
    }

    function tick() {
      const next = seen.find((place) => place > now) ?? seen[0];
      const wait = (frames[next].seconds - frames[now].seconds) * 1000;
      const held = frames[next].seconds === null || next <= now ? SLOWEST : Math.min(SLOWEST, Math.max(FASTEST, wait));
      timer = setTimeout(() => { go(next); tick(); }, held);
    }

    function toggle() {
      if (timer !== null) return stop();
      box.classList.add("playing");
      play.setAttribute("aria-label", "Pause");
      return tick();
    }

    function point(event) {
      const { left, width: extent } = track.getBoundingClientRect();
      go(nearest(((event.clientX - left) / extent) * count - 0.5));
    }

    track.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      stop();
      track.setPointerCapture(event.pointerId);
      point(event);
    });
    track.addEventListener("pointermove", (event) => {
      if (track.hasPointerCapture(event.pointerId)) point(event);
    });
    track.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      // The keys step through what the model saw; with shift, through every frame that is pictured.
      const stops = event.shiftKey || !seen.length ? frames.map((_, place) => place) : seen;
      const later = stops.filter((place) => place > now);
      const earlier = stops.filter((place) => place < now).reverse();
      const moves = {
        ArrowRight: later[0], ArrowUp: later[0], ArrowLeft: earlier[0], ArrowDown: earlier[0],
        PageUp: later[9] ?? later.at(-1), PageDown: earlier[9] ?? earlier.at(-1), Home: stops[0], End: stops.at(-1),
      };
      if (event.key === " ") toggle();
      else if (event.key in moves) { stop(); go(moves[event.key] ?? now); }
      else return;
      event.preventDefault();
    });
    play.addEventListener("click", toggle);
    toPeak.addEventListener("click", () => { stop(); go(nearest(state.peak[2])); });
    track.setAttribute("role", "slider");
    track.tabIndex = 0;
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", String(count - 1));
    play.hidden = seen.length < 2;
    draw(state);
  }

  return { paint, draw, start };
}
