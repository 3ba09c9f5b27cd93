// The page: what is asked at the start, and which of its rooms is open.
import { ask, Problem } from "./api.js";
import { Listening } from "./listen.js";
import { Review } from "./review.js";
import { element, percent } from "./words.js";

const find = (id) => document.getElementById(id);

export function notice(text) {
  find("notice").textContent = text;
  find("notice").hidden = !text;
}

/** Ask for the token until it is right; the server keeps it in a cookie that scripts cannot read. */
function askForToken() {
  const dialog = find("ask");
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  return new Promise((resolve) => {
    find("ask-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await ask("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${find("token").value}` } });
      } catch {
        find("ask-wrong").hidden = false;
        return;
      }
      find("token").value = "";
      dialog.close();
      resolve();
    });
    dialog.showModal();
  });
}

async function models() {
  for (;;) {
    try {
      return (await ask("/v1/models")).models;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      await askForToken();
    }
  }
}

function tellAbout(model) {
  const facts = element("dl");
  const add = (name, text) => text && facts.append(element("dt", {}, name), element("dd", {}, text));
  add("Model", model.name);
  for (const score of model.scores) {
    if (score.value === null) continue;
    const interval = score.low === null ? "" : ` (${score.interval} ${percent(score.low)} to ${percent(score.high)})`;
    const tracks = score.n_tracks ? `, ${score.n_tracks} tracks` : "";
    add("Right", `${percent(score.value)}${interval}${tracks}. ${score.measured_on}`);
  }
  add("Names", model.labels.join(", "));
  add("Licence", model.licence);
  add("From", model.origin);
  add("Cite", model.citation);
  add("Notes", model.notes);
  add("Checksum", model.sha256);
  find("about-text").replaceChildren(facts);
}

function open(room) {
  for (const name of ["listen", "review"]) {
    find(name).hidden = name !== room;
    find(`to-${name}`).setAttribute("aria-pressed", String(name === room));
  }
}

async function begin() {
  const known = await models();
  tellAbout(known[0]);
  find("about-open").addEventListener("click", () => find("about").showModal());
  new Listening(notice);

  const review = new Review(notice, known[0].vocabulary);
  if (await review.begin()) {
    find("rooms").hidden = false;
    find("to-listen").addEventListener("click", () => open("listen"));
    find("to-review").addEventListener("click", () => open("review"));
    open("review");
  }
  document.body.dataset.ready = "true";
}

begin().catch((error) => notice(`${error.message} Load the page again when it is back.`));
