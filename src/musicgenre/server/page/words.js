// Words and numbers as a person reads them.

export const UNSURE = {
  "low confidence": "Several genres sound about equally likely, so none is named.",
  "unlike the training music": "It sounds unlike the music that the model learnt from, so its guess would mean little.",
  "not music": "It does not sound like music: speech, tones or noise.",
  "too short": "It is too short to tell.",
  "too quiet": "It is too quiet to tell.",
  "low sample rate": "Too much of the sound is missing at this sample rate to tell.",
};

export const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(100 * share)} %`);

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Make an element with text; text is never read as markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Offer text as a file. */
export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Rows as CSV; a cell that a spreadsheet would run as a formula is quoted by an apostrophe. */
export function csv(heads, rows) {
  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (/^[=+\-@\t\r]/.test(text) && typeof value !== "number") text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [heads, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
