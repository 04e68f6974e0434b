// The voices of a separated recording, played together in step: each with solo, mute and a level. Solo beside mute:
// where any has solo, only those sound; mute silences a voice whatever else is set.
function mixer(root) {
  const rows = [...root.querySelectorAll(".voice")];
  const part = name => rows.map(row => row.querySelector(name));
  const solos = part(".solo"), mutes = part(".mute"), volumes = part(".volume");
  const play = root.querySelector(".play"), seek = root.querySelector(".seek"), time = root.querySelector(".time");
  const bytes = row => async () => (await fetch(row.dataset.url)).arrayBuffer();
  const clips = new Clips(rows.map(bytes), update);
  const pressed = button => button.getAttribute("aria-pressed") === "true";

  function mix() {
    const alone = solos.some(pressed);
    const gains = rows.map((_, number) =>
      pressed(mutes[number]) || (alone && !pressed(solos[number])) ? 0 : Number(volumes[number].value));
    rows.forEach((row, number) => row.classList.toggle("silent", gains[number] === 0));
    clips.mix(gains);
  }
  function show() {
    seek.value = clips.time;
    time.textContent = `${clock(clips.time)} / ${clock(Math.round(clips.duration || Number(root.dataset.seconds)))}`;
  }
  function update() {
    play.textContent = clips.playing ? "Pause" : "Play";
    show();
    if (clips.playing) requestAnimationFrame(frame);
  }
  function frame() {
    // A page that has been replaced by the next recording plays no more.
    if (!root.isConnected) clips.pause();
    clips.tick();
    show();
    if (clips.playing) requestAnimationFrame(frame);
  }

  play.addEventListener("click", () => {
    if (clips.playing) return clips.pause();
    play.textContent = "Loading…";
    return clips.play();
  });
  seek.addEventListener("input", async () => {
    const wanted = Number(seek.value);
    await clips.load();
    clips.seek(wanted);
    show();
  });
  for (const button of [...solos, ...mutes]) button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", !pressed(button));
    mix();
  });
  for (const volume of volumes) volume.addEventListener("input", mix);
  mix();
  show();
}
