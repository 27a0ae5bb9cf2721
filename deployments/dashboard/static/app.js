// The page: signing in, the views, and the one live stream that all of them share.

import { events, json, key, Refused } from "./api.js";
import { fill, h, problem } from "./element.js";
import * as decisions from "./views/decisions.js";
import * as history from "./views/history.js";
import * as keys from "./views/keys.js";
import * as models from "./views/models.js";
import * as now from "./views/now.js";
import * as playground from "./views/playground.js";
import * as providers from "./views/providers.js";
import * as requests from "./views/requests.js";
import * as tools from "./views/tools.js";

/* A view: `title`; `needs`, the right without which there is nothing to see, if any; `show(node, live, rest)`, which fills
   the node and returns what to call when it is left, if anything; `rest` is what follows the view's name in the address. */
const VIEWS = { now, history, providers, models, decisions, requests, tools, keys, playground };
const RECONNECT = 2000;
const KEPT = 600;

const $ = (id) => document.getElementById(id);
const view = $("view");

/** What the live stream has said: the key's rights (null before), the latest snapshots and requests; views listen by `on`. */
class Live extends EventTarget {
  rights = null;
  connected = false;
  snapshots = [];
  requests = [];

  on(name, listener) {
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  link(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.dispatchEvent(new Event("link"));
  }

  take(name, data) {
    const value = JSON.parse(data);
    if (name === "rights") this.rights = value;
    if (name === "snapshot") this.snapshots = [...this.snapshots, value].slice(-KEPT);
    if (name === "requests") this.requests = [...value, ...this.requests].slice(0, 200);
    this.dispatchEvent(new CustomEvent(name, { detail: value }));
  }
}

let live = new Live();
let leaving = () => {};
let session;

function status(word, text) {
  $("link").hidden = false;
  $("link").dataset.state = word;
  $("link").textContent = text;
}

async function listen(signal) {
  while (!signal.aborted) {
    try {
      status("waiting", "connecting");
      await events("/v1/live", { signal }, (name, data) => {
        status("live", "live");
        live.link(true);
        const before = JSON.stringify(live.rights);
        live.take(name, data);
        if (before !== JSON.stringify(live.rights)) places();
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return leave("The key is not accepted any more.");
    }
    status("away", "not connected, trying again");
    live.link(false);
    await new Promise((resolve) => setTimeout(resolve, RECONNECT));
  }
}

const allowed = () => Object.keys(VIEWS).filter((name) => !VIEWS[name].needs || live.rights.includes(VIEWS[name].needs));

/** The views that the key has the rights for. */
function places() {
  fill($("places"), allowed().map((name) => h("a", { href: `#/${name}`, "data-view": name }, VIEWS[name].title)));
  $("places").hidden = false;
  show();
}

function show() {
  if (!live.rights) return;
  const [name, rest = ""] = location.hash.replace(/^#\/?/, "").split("/", 2);
  const chosen = [name, "now", "requests"].find((one) => allowed().includes(one));
  leaving();
  leaving = () => {};
  for (const link of $("places").children) {
    if (link.dataset.view === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[chosen].title} · Penstock`;
  const node = h("div");
  fill(view, h("h2", {}, VIEWS[chosen].title), node);
  try {
    leaving = VIEWS[chosen].show(node, live, decodeURIComponent(rest)) || (() => {});
  } catch (error) {
    fill(node, problem(error));
  }
}

function enter() {
  $("leave").hidden = false;
  fill(view, h("p", { class: "note" }, "Connecting …"));
  live = new Live();
  session = new AbortController();
  listen(session.signal);
  window.addEventListener("hashchange", moved);
}

function moved() {
  show();
  view.focus({ preventScroll: true });
}

function leave(why = "") {
  session?.abort();
  window.removeEventListener("hashchange", moved);
  leaving();
  leaving = () => {};
  key.forget();
  $("places").hidden = $("leave").hidden = $("link").hidden = true;
  login(why);
}

function login(why = "") {
  const input = h("input", { id: "key", type: "password", name: "key", autocomplete: "current-password", required: true });
  const notice = h("div", {}, why ? problem(new Error(why)) : "");
  const submit = async (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    try {
      await json("/v1/models");
      enter();
    } catch (error) {
      key.forget();
      fill(notice, problem(error instanceof Refused && error.status === 401 ? new Error("This key is not known here.") : error));
      input.focus();
    }
  };
  document.title = "Sign in · Penstock";
  fill(view, h("div", { class: "card login" }, h("h2", {}, "Sign in"),
    h("form", { submit }, h("label", { for: "key" }, h("span", {}, "API key")), input,
      h("button", { type: "submit" }, "Sign in"), notice)));
  input.focus();
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("penstock.theme", root.dataset.theme);
  if (key.get()) show();
}

document.documentElement.dataset.theme = localStorage.getItem("penstock.theme") || "";
$("theme").addEventListener("click", theme);
$("leave").addEventListener("click", () => leave());
if (key.get()) enter();
else login();
