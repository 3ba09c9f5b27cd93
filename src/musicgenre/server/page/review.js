// The review of a library's plan: what would change, album by album, and what a person decides.
import { ask, Problem } from "./api.js";
import { element, percent } from "./words.js";

const ROWS_AT_ONCE = 200;
const KEYS = { a: "accept", r: "reject", c: "correct", p: "play", j: "next", k: "last" };

const find = (id) => document.getElementById(id);

export class Review {
  constructor(notice, genres) {
    this.notice = notice;
    this.rows = new Map(); // row number to {record, item, ...}
    this.nRows = 0;
    this.saving = Promise.resolve();
    this.audio = find("review-audio");
    this.playing = null;
    find("genres").replaceChildren(...genres.map((name) => element("option", { value: name })));
    find("more").addEventListener("click", () => this.load());
    find("review").addEventListener("keydown", (event) => this.press(event));
    for (const name of ["pause", "ended"]) this.audio.addEventListener(name, () => this.tellPlaying());
    this.audio.addEventListener("play", () => this.tellPlaying());
    this.audio.addEventListener("error", () => this.playing !== null && this.notice("This track cannot be played here."));
  }

  /** Whether the server has a plan to review. */
  async begin() {
    try {
      await this.load();
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return false;
      throw error;
    }
    return true;
  }

  async load() {
    const told = await ask(`/v1/plan?offset=${this.rows.size}&limit=${ROWS_AT_ONCE}`);
    this.nRows = told.n_rows;
    for (const record of told.rows) this.addRow(record);
    find("more").hidden = this.rows.size >= this.nRows;
    this.tell();
  }

  addRow(record) {
    const key = `${record.folder}\n${record.album}`;
    let list = [...find("albums").querySelectorAll("ul")].find((one) => one.dataset.album === key);
    if (!list) {
      list = element("ul", { "data-album": key });
      const title = [record.artist, record.album].filter(Boolean).join(": ") || record.folder || "Tracks";
      find("albums").append(element("section", { class: "album" }, element("h3", {}, title), list));
    }
    const entry = { record, item: element("li", { class: "row", tabindex: "0", "data-row": String(record.row) }) };
    this.rows.set(record.row, entry);
    this.draw(entry);
    list.append(entry.item);
  }

  draw(entry) {
    const { record, item } = entry;
    const holds = item.contains(document.activeElement);
    const now = record.now.join("; ") || "no genre";
    const change = record.write ? `${now} → ${record.after.join("; ")}` : `${now} (stays)`;
    const sure = record.confidence === null ? "" : `, ${percent(record.confidence)}`;
    const name = record.title || record.name;
    item.setAttribute("aria-label", `${name}: ${change}`);

    const words = element("div", {}, element("strong", {}, name), element("div", { class: "change" }, change));
    words.append(element("div", { class: "note" }, `${record.why}${sure}${record.note ? `. ${record.note}` : ""}`));
    const choices = element("div", { class: "choices" });
    const offer = (text, does, pressed = null) => {
      const button = element("button", { type: "button", "aria-label": `${text}: ${name}`, tabindex: "-1" }, text);
      if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
      button.addEventListener("click", () => this.act(does, entry));
      choices.append(button);
    };
    offer(this.playing === record.row && !this.audio.paused ? "Pause" : "Play", "play");
    if (record.can_write) {
      if (record.after.length) offer("Accept", "accept", record.write);
      offer("Reject", "reject", !record.write);
      offer("Correct", "correct");
    }
    item.replaceChildren(words, choices);
    if (holds) item.focus();
  }

  press(event) {
    const does = KEYS[event.key.toLowerCase()];
    if (!does || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const row = event.target.closest(".row") ?? find("albums").querySelector(".row");
    if (!row) return;
    event.preventDefault();
    this.act(does, this.rows.get(Number(row.dataset.row)));
  }

  act(does, entry) {
    const { record } = entry;
    if (does === "next" || does === "last") return this.move(entry, does === "next" ? 1 : -1);
    if (does === "play") return this.play(entry);
    if (!record.can_write) return this.notice("The tags of this file cannot be written.");
    if (does === "correct") return this.correct(entry);
    if (does === "accept" && !record.after.length) return this.notice("Nothing is proposed here: correct it instead.");
    this.notice("");
    return this.decide(entry, { row: record.row, write: does === "accept" });
  }

  move(entry, step) {
    const items = [...find("albums").querySelectorAll(".row")];
    const place = Math.max(0, Math.min(items.length - 1, items.indexOf(entry.item) + step));
    items[place].focus();
  }

  play(entry) {
    const { row } = entry.record;
    const last = this.playing;
    if (last === row && !this.audio.paused) return this.audio.pause();
    if (last !== row) {
      this.playing = row;
      this.audio.src = `/v1/plan/tracks/${row}/sound`;
      if (last !== null) this.draw(this.rows.get(last));
    }
    return this.audio.play().catch(() => this.notice("This track cannot be played here."));
  }

  tellPlaying() {
    if (this.playing !== null) this.draw(this.rows.get(this.playing));
  }

  correct(entry) {
    const { record, item } = entry;
    const field = element("input", { type: "text", list: "genres", "aria-label": `Genres of ${record.title || record.name}, separated by semicolons` });
    field.value = (record.after.length ? record.after : record.now).join("; ");
    const form = element("form", { class: "choices" }, field, element("button", {}, "Save"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const genres = field.value.split(";").map((name) => name.trim()).filter(Boolean);
      if (!genres.length) return this.notice("Write one genre at least, or reject the track.");
      this.notice("");
      item.focus();
      return this.decide(entry, { row: record.row, write: true, genres });
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      item.focus();
      this.draw(entry);
    });
    item.append(form);
    field.focus();
  }

  /** Save one decision after the other, as the plan is one file. */
  decide(entry, decision) {
    this.saving = this.saving.then(async () => {
      try {
        const told = await ask("/v1/plan/decisions", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ decisions: [decision] }),
        });
        entry.record = told.rows[0];
        this.draw(entry);
        this.tell("Saved.");
      } catch (error) {
        this.notice(`Not saved: ${error.message}`);
      }
    });
    return this.saving;
  }

  tell(first = "") {
    const n = [...this.rows.values()].filter((entry) => entry.record.write).length;
    const shown = this.rows.size < this.nRows ? ` of the ${this.rows.size} shown` : "";
    find("review-status").textContent = `${first} ${n} of ${this.nRows} tracks${shown} would change.`.trim();
  }
}
