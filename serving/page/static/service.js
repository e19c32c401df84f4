// How the page asks the service. Every question may be asked twice, so what the network loses is asked again.

const TOKEN = "defectnet-token";
const ATTEMPTS = 6;
const LONGEST_PAUSE_MS = 4000;
const TRY_AGAIN = new Set([502, 503, 504]);

export class Refused extends Error {
  constructor(status, text, field = "") {
    super(text);
    this.status = status;
    this.field = field;
  }
}

// The token lives as long as this tab and is sent in a header: no cookie, so no other site can make a browser use it.
export function token() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

export function setToken(value) {
  try {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // without storage it has to be given again after the next reload
  }
}

let signIn = async () => false;
let tell = () => {};

// `whenAsked` resolves to whether a token was given; `whenWaiting` is told why an answer takes longer.
export function onSignIn(whenAsked, whenWaiting) {
  signIn = whenAsked;
  tell = whenWaiting;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function attempt(method, path, body, type, signal) {
  const headers = { accept: "*/*" };
  if (type) headers["content-type"] = type;
  if (token()) headers.authorization = `Bearer ${token()}`;
  return fetch(path, { method, headers, body, signal, cache: "no-store", credentials: "omit", redirect: "error" });
}

async function sent(method, path, body, type, signal) {
  for (let left = ATTEMPTS - 1, wait = 300; ; left -= 1, wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
    let answer = null;
    try {
      answer = await attempt(method, path, body, type, signal);
    } catch (error) {
      if (signal?.aborted) throw error;
      if (!left) throw new Refused(0, "The service does not answer. Check that it runs, then ask again; nothing here is lost.");
      tell("The service does not answer; asking again …");
    }
    if (answer !== null && (!TRY_AGAIN.has(answer.status) || !left)) {
      tell("");
      return answer;
    }
    if (answer !== null) tell("The service is busy; asking again …");
    await pause(Math.max(wait, 1000 * (Number(answer?.headers.get("retry-after")) || 0)));
  }
}

export async function ask(method, path, { json, bytes, signal, as = "json" } = {}) {
  const body = json === undefined ? bytes : JSON.stringify(json);
  const type = json !== undefined ? "application/json" : bytes !== undefined ? "application/octet-stream" : "";
  let answer = await sent(method, path, body, type, signal);
  while (answer.status === 401 && (await signIn(token() ? "That token is not valid." : ""))) {
    answer = await sent(method, path, body, type, signal);
  }
  if (!answer.ok) {
    let said = {};
    try {
      said = await answer.json();
    } catch {
      // a proxy's own page
    }
    throw new Refused(answer.status, said.error ?? `The service answered with status ${answer.status}; ask again.`, said.field);
  }
  return as === "blob" ? answer.blob() : as === "text" ? answer.text() : answer.json();
}
