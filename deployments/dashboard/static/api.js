// Talking to the gateway. The key stays in this tab (sessionStorage) and goes out in a header, never in a URL.

const KEPT = "penstock.key";

export const key = {
  get: () => sessionStorage.getItem(KEPT) || "",
  set: (value) => sessionStorage.setItem(KEPT, value),
  forget: () => sessionStorage.removeItem(KEPT),
};

/** An answer that is no success: its status, and the gateway's own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A fetch with the key. Throws Refused. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { authorization: `Bearer ${key.get()}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway does not answer.");
  }
  if (!answer.ok) throw new Refused(answer.status, await reason(answer));
  return answer;
}

/** The answer's JSON; null where it has none. */
export async function json(path, options) {
  const text = await (await ask(path, options)).text();
  return text ? JSON.parse(text) : null;
}

/** Reads server-sent events: calls `on(event, data)` for each, until the stream ends. */
export async function events(path, options, on) {
  const answer = await ask(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return answer;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      let name = "message";
      const data = [];
      for (const line of frame.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      if (data.length) on(name, data.join("\n"), answer);
    }
  }
}

async function reason(answer) {
  try {
    const body = await answer.json();
    return body.error?.message || body.message || answer.statusText;
  } catch {
    return answer.statusText || `HTTP ${answer.status}`;
  }
}
