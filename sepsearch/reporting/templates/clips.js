// Clips of one recording that play in step. Each has a gain of its own, so that what is heard can change at any moment
// without a jump in time. One plays at a time on the page.
class Clips {
  // sources: functions that give a promise of an encoded file's bytes; changed: called when playing begins or ends.
  constructor(sources, changed) {
    this.sources = sources;
    this.changed = changed;
    this.gains = sources.map(() => 0);
    this.nodes = [];
    this.duration = this.offset = 0;
    this.playing = false;
  }

  load() {
    Clips.context ??= new AudioContext();
    return this.loading ??= this.decode();
  }

  async decode() {
    const decoded = async source => Clips.context.decodeAudioData(await source());
    this.buffers = await Promise.all(this.sources.map(decoded));
    this.duration = Math.max(...this.buffers.map(buffer => buffer.duration));
    this.levels = commonLevels(this.buffers.map(measure));
  }

  async play() {
    await this.load();
    if (Clips.current && Clips.current !== this) Clips.current.pause();
    await Clips.context.resume();
    if (this.playing) return;
    Clips.current = this;
    this.playing = true;
    this.start();
    this.changed();
  }

  start() {
    const begin = this.began = Clips.context.currentTime + 0.03;
    this.nodes = this.buffers.map((buffer, number) => {
      const source = new AudioBufferSourceNode(Clips.context, {buffer});
      const gain = new GainNode(Clips.context, {gain: this.gains[number]});
      source.connect(gain).connect(Clips.context.destination);
      if (this.offset < buffer.duration) source.start(begin, this.offset);
      return {source, gain};
    });
  }

  stop() {
    for (const {source, gain} of this.nodes) {
      try { source.stop(); } catch { /* it was never started: the clip is shorter */ }
      gain.disconnect();
    }
    this.nodes = [];
  }

  pause() {
    if (!this.playing) return;
    this.offset = this.time;
    this.playing = false;
    this.stop();
    this.changed();
  }

  seek(seconds) {
    this.offset = Math.max(0, Math.min(seconds, this.duration));
    if (this.playing) { this.stop(); this.start(); }
  }

  // Seconds from the beginning.
  get time() {
    if (!this.playing) return this.offset;
    return Math.min(this.duration, this.offset + Math.max(0, Clips.context.currentTime - this.began));
  }

  // A gain for every clip; 0 is silence.
  mix(gains) {
    this.gains = gains;
    const now = Clips.context?.currentTime;
    this.nodes.forEach(({gain}, number) => gain.gain.setTargetAtTime(gains[number], now, 0.008));
  }

  // Call once a frame while playing; at the end it stops and goes back to the beginning.
  tick() {
    if (this.playing && this.time >= this.duration) { this.pause(); this.offset = 0; }
  }
}

// Root mean square and peak of a decoded file.
function measure(buffer) {
  let sum = 0, peak = 0, count = 0;
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    for (const value of buffer.getChannelData(channel)) {
      sum += value * value;
      peak = Math.max(peak, Math.abs(value));
      count++;
    }
  }
  return {rms: Math.sqrt(sum / Math.max(1, count)), peak};
}

// Gains that bring clips to the same root mean square, the highest at which none is above full scale. What is 40 dB
// quieter than the loudest is silence and stays as it is.
function commonLevels(measured) {
  const loudest = Math.max(...measured.map(one => one.rms));
  const heard = measured.filter(one => one.rms > loudest / 100);
  const level = Math.min(...heard.map(one => 0.95 * one.rms / one.peak));
  return measured.map(one => one.rms > loudest / 100 ? level / one.rms : 1);
}

const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
