/* Calls of the server. Addresses are relative to the page, so that a proxy may add a base path. */

const TIMEOUT_MS = 20000;
/* In a notebook's frame the cookie is refused, and the page carries the token instead. */
const TOKEN = document.querySelector('meta[name="spherodetect-token"]')?.content;

/* The server answered that something is wrong. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/* The server did not answer, or is in trouble: the same call may succeed later. */
export class Away extends Error {}

/* Return the parsed answer of a call.

   `body` is sent as JSON, or as it is where it is a Blob; `signal` ends the call. Throws Refused or
   Away. */
export async function call(path, { method = "GET", body, signal, timeout } = {}) {
  const answer = await request(path, { method, body, signal, timeout });
  return answer.status === 204 ? null : answer.json();
}

/* Return a picture of the server. */
export async function picture(path, { signal } = {}) {
  const answer = await request(path, { signal, cache: "default" });
  return createImageBitmap(await answer.blob());
}

/* Save a file of the server under its name. */
export async function download(path) {
  const answer = await request(path, { timeout: 600000 });
  const named = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") || "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = named ? named[1] : path.split("/").pop();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function request(
  path,
  { method = "GET", body, signal, timeout = TIMEOUT_MS, cache = "no-store" },
) {
  const ended = AbortSignal.timeout(timeout);
  const raw = body === undefined || body instanceof Blob;
  const headers = {};
  if (!raw) headers["Content-Type"] = "application/json";
  if (TOKEN) headers.Authorization = `Bearer ${TOKEN}`;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      cache,
      body: raw ? body : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, ended]) : ended,
      credentials: "same-origin",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away("The server does not answer.");
  }
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => null))?.error;
  const message =
    typeof said === "string" ? said : `The server answered ${answer.status} ${answer.statusText}.`;
  // 507 is a full disk, which somebody has to hear of at once.
  if (answer.status >= 500 && answer.status !== 507) throw new Away(message);
  throw new Refused(answer.status, message);
}

/* The address of something below api/, with its query; what is null or empty is left out. */
export function at(path, query = {}) {
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const search = new URLSearchParams(given).toString();
  return `api/${path}${search ? `?${search}` : ""}`;
}

/* 128 random bits as text. `crypto.randomUUID` is missing outside https and localhost. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
