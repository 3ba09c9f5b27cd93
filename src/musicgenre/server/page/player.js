// A track's waveform with its sections under it; it plays, and a click seeks.
import { element, time } from "./words.js";

const COLOURS = ["#1f6fb2", "#d9772b", "#3b8f4f", "#b8433f", "#7b5ea7", "#8a6d4f", "#c2699b", "#6d7278", "#9a9a2e", "#2fa3ad"];
const MOST_DECODED_BYTES = 60e6; // larger files play, and show their sections alone: decoding them would fill the memory

const colours = new Map();
export function colourOf(genre) {
  if (!colours.has(genre)) colours.set(genre, COLOURS[colours.size % COLOURS.length]);
  return colours.get(genre);
}

export class Player {
  constructor() {
    const find = (id) => document.getElementById(id);
    this.figure = find("player");
    this.canvas = find("wave");
    this.seekBar = find("seek");
    this.button = find("play");
    this.clock = find("clock");
    this.sound = new Audio();
    this.peaks = [];
    this.sections = [];
    this.durationS = 0;
    this.address = "";

    this.button.addEventListener("click", () => (this.sound.paused ? this.sound.play() : this.sound.pause()));
    this.canvas.addEventListener("click", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * this.durationS);
    });
    this.seekBar.addEventListener("input", () => this.seek(Number(this.seekBar.value)));
    for (const name of ["play", "pause", "ended"]) this.sound.addEventListener(name, () => this.tell());
    this.sound.addEventListener("timeupdate", () => this.tell());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Show a file and what was heard in it. */
  async show(file, answer) {
    this.sound.pause();
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = URL.createObjectURL(file);
    this.sound.src = this.address;
    this.durationS = answer.duration_s ?? 0;
    this.sections = answer.sections ?? [];
    this.peaks = [];
    this.seekBar.max = String(this.durationS);
    this.figure.hidden = false;
    this.listSections();
    this.tell();
    this.draw();
    if (file.size > MOST_DECODED_BYTES) return;

    try {
      const context = new OfflineAudioContext(1, 1, 8000); // decodes to 8 kHz: enough to draw
      const decoded = await context.decodeAudioData(await file.arrayBuffer());
      if (this.sound.src === this.address) this.peaks = peaksOf(decoded.getChannelData(0), 1000);
    } catch {
      this.peaks = []; // a format that the browser cannot decode: the sections are drawn alone
    }
    this.draw();
  }

  hide() {
    this.sound.pause();
    this.figure.hidden = true;
  }

  seek(seconds) {
    const place = Math.max(0, Math.min(this.durationS, seconds));
    this.sound.currentTime = place;
    this.seekBar.value = String(place);
    this.tell();
  }

  listSections() {
    const list = document.getElementById("sections");
    document.getElementById("sections-title").hidden = this.sections.length === 0;
    list.replaceChildren(
      ...this.sections.map((section) => {
        const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.backgroundColor = colourOf(section.genre);
        const words = `${time(section.start_s)} to ${time(section.end_s)}: ${section.genre}`;
        const button = element("button", { type: "button" }, swatch, words);
        button.addEventListener("click", () => this.seek(section.start_s));
        return element("li", {}, button);
      }),
    );
  }

  tell() {
    const isPlaying = !this.sound.paused;
    this.button.textContent = isPlaying ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", String(isPlaying));
    const place = this.sound.currentTime;
    if (document.activeElement !== this.seekBar) this.seekBar.value = String(place);
    this.seekBar.setAttribute("aria-valuetext", `${time(place)} of ${time(this.durationS)}`);
    this.clock.textContent = `${time(place)} / ${time(this.durationS)}`;
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !this.durationS) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);

    const middle = (height - 16) / 2;
    pen.fillStyle = style.getPropertyValue("--soft");
    this.peaks.forEach((peak, number) => {
      const x = (number / this.peaks.length) * width;
      pen.fillRect(x, middle - peak * middle, Math.max(1, width / this.peaks.length - 0.5), Math.max(1, 2 * peak * middle));
    });
    for (const section of this.sections) {
      const x = (section.start_s / this.durationS) * width;
      pen.fillStyle = colourOf(section.genre);
      pen.fillRect(x, height - 12, Math.max(1, ((section.end_s - section.start_s) / this.durationS) * width - 1), 12);
    }
    pen.fillStyle = style.getPropertyValue("--focus");
    pen.fillRect((this.sound.currentTime / this.durationS) * width - 1, 0, 2, height);
  }
}

function peaksOf(samples, n) {
  const step = Math.max(1, Math.floor(samples.length / n));
  const peaks = [];
  for (let start = 0; start < samples.length; start += step) {
    let largest = 0;
    for (let place = start; place < Math.min(samples.length, start + step); place += 1) {
      largest = Math.max(largest, Math.abs(samples[place]));
    }
    peaks.push(Math.min(1, largest));
  }
  return peaks;
}
