// The room where files are heard: a queue, a table of answers, and one answer in full.
import { hear, Problem } from "./api.js";
import { Player } from "./player.js";
import { csv, download, element, percent, time, UNSURE } from "./words.js";

const AT_ONCE = 2;
const RECORD_S = 10;
const LONGEST_WAIT_S = 15;
const NO_SOUND = /\.(jpe?g|png|gif|webp|txt|nfo|log|cue|m3u8?|pls|pdf|lrc|md5|sfv|ini|db|json|csv)$/i;
const COLUMNS = ["path", "genre", "confidence", "style", "candidates", "reason", "duration_s", "tags", "warnings", "error"];

const find = (id) => document.getElementById(id);

export class Listening {
  constructor(notice) {
    this.notice = notice;
    this.tracks = []; // {file, name, state, share, answer, error}
    this.sort = { key: "", ascending: true };
    this.running = 0;
    this.shown = null;
    this.stopping = new AbortController();
    this.player = new Player();

    for (const id of ["files", "folder"]) {
      find(id).addEventListener("change", (event) => {
        this.add([...event.target.files]);
        event.target.value = "";
      });
    }
    find("record").addEventListener("click", () => this.record());
    find("stop").addEventListener("click", () => this.stop());
    find("clear").addEventListener("click", () => this.clear());
    find("csv").addEventListener("click", () => download("genres.csv", "text/csv", this.asCsv()));
    find("json").addEventListener("click", () => {
      const answers = this.tracks.filter((track) => track.answer).map((track) => track.answer);
      download("genres.json", "application/json", JSON.stringify(answers, null, 2));
    });
    find("filter").addEventListener("change", () => this.draw());
    for (const button of document.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => this.sortBy(button.dataset.sort));
    }
    this.receiveDrops();
  }

  receiveDrops() {
    const drop = find("drop");
    // a file that misses the field must not take the place of the page
    for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
    drop.addEventListener("dragover", () => drop.classList.add("over"));
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      drop.classList.remove("over");
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      const files = entries.length ? (await Promise.all(entries.map(filesOf))).flat() : [...event.dataTransfer.files];
      this.add(files);
    });
  }

  add(files) {
    const heard = files.filter((file) => !NO_SOUND.test(file.name) && !file.name.startsWith("."));
    const left = files.length - heard.length;
    this.notice(left ? `${left} files that hold no sound were left out.` : "");
    for (const file of heard) {
      this.tracks.push({ file, name: file.webkitRelativePath || file.name, state: "waiting", share: 0 });
    }
    if (this.stopping.signal.aborted) this.stopping = new AbortController();
    this.draw();
    while (this.running < AT_ONCE && this.next()) this.work();
  }

  next() {
    return this.tracks.find((track) => track.state === "waiting");
  }

  async work() {
    this.running += 1;
    for (let track = this.next(); track; track = this.next()) {
      track.state = "sending";
      await this.hearOne(track, this.stopping.signal);
      this.draw();
    }
    this.running -= 1;
    this.draw();
  }

  /** Hear one track; where the server is full or gone, ask again until it is back or the person stops. */
  async hearOne(track, signal) {
    for (let waitS = 1; ; waitS = Math.min(2 * waitS, LONGEST_WAIT_S)) {
      try {
        track.answer = await hear(track.file, (share) => this.tellShare(track, share), signal);
        track.answer.path = track.name;
        track.state = "done";
        this.notice("");
        if (!this.shown) this.show(track);
        return;
      } catch (error) {
        if (signal.aborted) {
          track.state = "stopped";
          return;
        }
        const passes = error instanceof Problem && [0, 429, 503].includes(error.status);
        if (!passes) {
          track.error = error.message;
          track.state = "failed";
          return;
        }
        if (error.status === 0) this.notice("The server does not answer. Trying again.");
        track.state = "waiting for the server";
        this.draw();
        await pause(1000 * (error.retryAfterS || waitS), signal);
        if (signal.aborted) {
          track.state = "stopped";
          return;
        }
        track.state = "sending";
      }
    }
  }

  tellShare(track, share) {
    track.share = share;
    track.state = share < 1 ? "sending" : "hearing";
    const cell = track.cell;
    if (cell) cell.textContent = stateOf(track);
  }

  stop() {
    this.stopping.abort();
    for (const track of this.tracks) if (track.state === "waiting") track.state = "stopped";
    this.draw();
  }

  clear() {
    this.stop();
    this.tracks = [];
    this.shown = null;
    this.player.hide();
    find("detail").hidden = true;
    this.notice("");
    this.draw();
  }

  async record() {
    const note = find("record-note");
    note.hidden = false;
    if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
      note.textContent = "The microphone works on this machine (localhost) or over https only.";
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch {
      note.textContent = "The browser gave no microphone: allow it for this page, or drop a file.";
      return;
    }
    const recorder = new MediaRecorder(stream);
    const parts = [];
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      note.hidden = true;
      find("record").disabled = false;
      const type = recorder.mimeType.split(";")[0];
      const ending = type.split("/")[1] || "webm";
      this.add([new File(parts, `recording ${new Date().toLocaleTimeString()}.${ending}`, { type })]);
    });
    find("record").disabled = true;
    recorder.start();
    for (let left = RECORD_S; left > 0; left -= 1) {
      note.textContent = `Recording: ${left} seconds left.`;
      await pause(1000);
    }
    recorder.stop();
  }

  sortBy(key) {
    this.sort = { key, ascending: this.sort.key === key ? !this.sort.ascending : true };
    for (const button of document.querySelectorAll("[data-sort]")) {
      const direction = this.sort.ascending ? "ascending" : "descending";
      button.parentElement.setAttribute("aria-sort", button.dataset.sort === key ? direction : "none");
    }
    this.draw();
  }

  rows() {
    const wanted = find("filter").value;
    const shown = this.tracks.filter((track) => !wanted || track.answer?.genre === wanted);
    if (!this.sort.key) return shown;
    const sign = this.sort.ascending ? 1 : -1;
    return [...shown].sort((a, b) => sign * compare(valueOf(a, this.sort.key), valueOf(b, this.sort.key)));
  }

  draw() {
    find("results").hidden = this.tracks.length === 0;
    find("stop").hidden = this.running === 0;
    const focused = document.activeElement?.dataset?.track;

    const body = document.querySelector("#tracks tbody");
    body.replaceChildren(...this.rows().map((track) => this.rowOf(track)));
    if (focused) body.querySelector(`[data-track="${CSS.escape(focused)}"]`)?.focus();
    this.drawFilter();

    const count = (state) => this.tracks.filter((track) => track.state === state).length;
    const parts = [`${count("done")} of ${this.tracks.length} heard`];
    if (count("failed")) parts.push(`${count("failed")} failed`);
    if (count("stopped")) parts.push(`${count("stopped")} stopped`);
    find("summary").textContent = this.tracks.length ? parts.join(", ") : "";
  }

  drawFilter() {
    const select = find("filter");
    const genres = [...new Set(this.tracks.map((track) => track.answer?.genre).filter(Boolean))].sort();
    const known = [...select.options].slice(1).map((option) => option.value);
    if (genres.join("\n") === known.join("\n")) return;
    const chosen = select.value;
    select.replaceChildren(element("option", { value: "" }, "all"), ...genres.map((genre) => element("option", { value: genre }, genre)));
    select.value = genres.includes(chosen) ? chosen : "";
  }

  rowOf(track) {
    const answer = track.answer;
    let name = element("span", {}, track.name);
    if (answer) {
      name = element("button", { type: "button", class: "open", "data-track": track.name }, track.name);
      name.addEventListener("click", () => this.show(track, true));
    }
    const row = element("tr", { class: track.state === "failed" ? "failed" : null });
    if (track === this.shown) row.setAttribute("aria-current", "true");
    if (answer) {
      const genre = answer.genre ?? Object.keys(answer.tags)[0] ?? "";
      row.append(
        element("td", {}, name),
        element("td", {}, genre),
        element("td", {}, answer.genre === "unsure" ? "" : percent(answer.confidence)),
        element("td", {}, answer.style ?? ""),
        element("td", {}, time(answer.duration_s)),
      );
    } else {
      track.cell = element("td", { colspan: "4" }, stateOf(track));
      row.append(element("td", {}, name), track.cell);
    }
    return row;
  }

  show(track, moves = false) {
    this.shown = track;
    const answer = track.answer;
    find("detail").hidden = false;
    find("detail-name").textContent = track.name;
    find("detail-genre").textContent = answer.genre ?? (answer.chosen ?? []).join(", ");
    // what an unsure answer is sure of would be read as if it were sure
    find("detail-confidence").textContent = answer.genre === "unsure" ? "" : percent(answer.confidence);

    let why = "";
    if (answer.genre === "unsure") {
      why = UNSURE[answer.reason] ?? "It is not sure enough to name one genre.";
      if (answer.candidates.length) why += ` Nearest: ${answer.candidates.join(", ")}.`;
    } else if (answer.candidates.length > 1) {
      why = `Candidates: ${answer.candidates.join(", ")}.`;
    }
    if (answer.style) why += ` Style: ${answer.style}.`;
    find("detail-why").textContent = why.trim();
    find("detail-warnings").replaceChildren(...answer.warnings.map((text) => element("li", {}, text)));
    find("scores").replaceChildren(...bars(Object.entries(answer.scores).slice(0, 5)));
    find("tags").replaceChildren(...bars(Object.entries(answer.tags).slice(0, 5)));
    find("tags-part").hidden = Object.keys(answer.tags).length === 0;
    this.player.show(track.file, answer);
    this.draw();
    if (moves) {
      find("detail-name").tabIndex = -1;
      find("detail-name").focus();
    }
  }

  asCsv() {
    const rows = this.tracks.map((track) => {
      const answer = track.answer ?? { path: track.name, candidates: [], tags: {}, warnings: [], error: track.error ?? track.state };
      const joined = { candidates: answer.candidates.join("; "), tags: Object.keys(answer.tags).join("; "), warnings: answer.warnings.join("; ") };
      return COLUMNS.map((name) => joined[name] ?? answer[name]);
    });
    return csv(COLUMNS, rows);
  }
}

function stateOf(track) {
  if (track.state === "failed") return track.error;
  if (track.state === "sending") return `sending, ${percent(track.share)}`;
  return track.state;
}

function bars(entries) {
  return entries.flatMap(([name, share]) => {
    const meter = element("meter", { min: "0", max: "1", value: String(share), "aria-label": name }, percent(share));
    return [element("dt", {}, name), element("dd", {}, meter, element("span", {}, percent(share)))];
  });
}

function valueOf(track, key) {
  if (key === "name") return track.name;
  if (key === "duration") return track.answer?.duration_s ?? null;
  return track.answer?.[key] ?? null;
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" ? a - b : a.localeCompare(b);
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** All files of a dropped entry; a folder gives them a few at a time. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const one of some) found.push(...(await filesOf(one)));
  }
  return found;
}
