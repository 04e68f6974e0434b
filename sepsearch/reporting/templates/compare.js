// The clips of an instrument side by side: one is heard, another takes over at the same moment of the recording, by
// default at the same level. Without this script each has a plain player.
function comparison(article) {
  const columns = [...article.querySelectorAll(".clip")].filter(column => column.querySelector("audio"));
  const name = article.querySelector("h3").textContent, length = Number(article.dataset.seconds);
  const bytes = audio => async () =>
    Uint8Array.from(atob(audio.src.slice(audio.src.indexOf(",") + 1)), letter => letter.charCodeAt(0)).buffer;
  const clips = new Clips(columns.map(column => bytes(column.querySelector("audio"))), update);
  let chosen = 0;

  const play = element("button", {type: "button", className: "play", ariaLabel: `Play ${name}`, textContent: "Play"});
  const seek = element("input", {type: "range", min: 0, max: length, step: 0.01, value: 0, ariaLabel: `Position in ${name}, seconds`});
  const time = element("span", {className: "time"});
  const common = element("input", {type: "checkbox", checked: true});
  const picks = columns.map((column, number) => {
    const label = column.querySelector("p");
    const pick = element("button", {type: "button", className: "pick", textContent: label.textContent});
    pick.addEventListener("click", () => { choose(number); start(); });
    label.replaceChildren(pick);
    column.querySelector("audio").hidden = true;
    return pick;
  });
  article.querySelector(".clips").before(element("div", {className: "transport"}, play, seek, time,
    element("label", {}, common, " same level")));

  function choose(number, secret = false) {
    chosen = number;
    picks.forEach((pick, other) => pick.setAttribute("aria-pressed", !secret && other === number));
    columns.forEach((column, other) => column.classList.toggle("heard", !secret && other === number));
    level();
  }
  function level() {
    clips.mix(columns.map((_, number) => number !== chosen ? 0 : common.checked ? clips.levels?.[number] ?? 1 : 1));
  }
  async function start() {
    await clips.load();
    level();
    await clips.play();
  }
  function update() {
    play.textContent = clips.playing ? "Pause" : "Play";
    play.ariaLabel = `${play.textContent} ${name}`;
    show();
    if (clips.playing) requestAnimationFrame(frame);
  }
  function frame() {
    clips.tick();
    show();
    if (clips.playing) requestAnimationFrame(frame);
  }
  function show() {
    seek.value = clips.time;
    time.textContent = `${clock(clips.time)} / ${clock(Math.round(clips.duration || length))}`;
    article.style.setProperty("--at", Math.min(1, clips.time / length));
  }
  async function go(seconds) {
    await clips.load();
    clips.seek(seconds);
    show();
  }

  play.addEventListener("click", () => clips.playing ? clips.pause() : start());
  seek.addEventListener("input", () => go(Number(seek.value)));
  common.addEventListener("change", level);
  for (const panel of article.querySelectorAll(".panel")) panel.addEventListener("click", event => {
    const from = panel.querySelector(".span").getBoundingClientRect();
    go(length * Math.max(0, Math.min(1, (event.clientX - from.left) / from.width)));
  });
  choose(0);
  show();
  article.append(blindTest(picks.map(pick => pick.textContent), (number, secret) => { choose(number, secret); start(); }));
}

// A/B/X: X is A or B by chance, and the listener says which; hear: plays a clip, in secret without a sign of which.
function blindTest(names, hear) {
  const options = chosen => names.map((name, number) => new Option(name, number, false, number === chosen));
  const a = element("select", {}, ...options(names.length > 2 ? 1 : 0));
  const b = element("select", {}, ...options(names.length > 2 ? 2 : 1));
  const said = element("p", {className: "said"});
  said.setAttribute("role", "status");
  let x = Math.random() < 0.5, right = 0, tries = 0;
  const button = (text, action) => {
    const made = element("button", {type: "button", textContent: text});
    made.addEventListener("click", action);
    return made;
  };
  const answer = isA => () => {
    tries++;
    right += isA === x;
    said.textContent = `${isA === x ? "Right" : "Wrong"}: X was ${x ? "A" : "B"}. ${right} of ${tries} right; guessing`
      + ` gives that or more with a probability of ${Math.round(100 * atLeast(right, tries))} %. X is new now.`;
    x = Math.random() < 0.5;
  };
  const over = () => { right = tries = 0; said.textContent = ""; x = Math.random() < 0.5; };
  a.addEventListener("change", over);
  b.addEventListener("change", over);
  return element("details", {className: "blind"}, element("summary", {textContent: "Blind test (A/B/X)"}),
    element("p", {textContent: "X is A or B, by chance. Listen to all three, then say which it is."}),
    element("div", {className: "transport"}, element("label", {}, "A ", a), element("label", {}, "B ", b),
      button("Hear A", () => hear(Number(a.value), false)), button("Hear B", () => hear(Number(b.value), false)),
      button("Hear X", () => hear(Number((x ? a : b).value), true)),
      button("X is A", answer(true)), button("X is B", answer(false))), said);
}

// The probability of at least so many heads in so many tosses.
function atLeast(heads, tosses) {
  let sum = 0, term = 0.5 ** tosses;
  for (let number = 0; number <= tosses; number++) {
    if (number >= heads) sum += term;
    term *= (tosses - number) / (number + 1);
  }
  return sum;
}
if (window.AudioContext) document.querySelectorAll(".sample").forEach(comparison);
else document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
