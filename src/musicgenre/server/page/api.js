// What the page asks of its server, and nothing of any other.

/** A problem that the server told (RFC 9457), or that there is no server. */
export class Problem extends Error {
  constructor(message, status = 0, retryAfterS = 0) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Ask for JSON; `null` where the answer is empty. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Problem("The server does not answer.");
  }
  const text = await response.text();
  if (!response.ok) throw problemOf(text, response.status, response.headers.get("Retry-After"));
  return text ? JSON.parse(text) : null;
}

/**
 * Let the server hear one file. `onProgress` is told the share that was sent, from 0 to 1; `signal` ends it.
 * Uploads tell their progress by XMLHttpRequest alone.
 */
export function hear(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file, file.name);
    request.open("POST", "/v1/classify?timeline=true&top=10");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Problem("The server does not answer."));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onload = () => {
      if (request.status === 200) return resolve(JSON.parse(request.responseText).answers[0]);
      const problem = problemOf(request.responseText, request.status, request.getResponseHeader("Retry-After"));
      return reject(problem);
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

function problemOf(text, status, retryAfter) {
  let told = null;
  try {
    told = JSON.parse(text);
  } catch {
    // not from this server, or cut off
  }
  const error = told?.answers?.[0]?.error ?? told?.detail ?? `The server answered ${status}.`;
  return new Problem(error, status, Number(retryAfter) || 0);
}
