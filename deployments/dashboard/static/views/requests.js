// The latest requests, live, and each one's whole story: attempts, tools, costs.

import { json } from "../api.js";
import { dialog, facts, field, fill, h, problem, state, table } from "../element.js";
import { bytes, count, dollars, moment, seconds, time } from "../format.js";

export const title = "Requests";

const SHOWN = 100;

/** The outcome in a word and a colour. */
export function outcome(row) {
  return state(row.outcome, row.outcome === "ok" ? "good" : row.outcome === "cancelled" ? "warn" : "bad");
}

const model = (row) => row.provider ? `${row.provider}/${row.model}` : "–";
const tokens = (row) => row.input || row.output ? `${count(row.input)} → ${count(row.output)}` : "–";
const cost = (row) => row.cost === null || row.cost === undefined ? "unknown" : dollars(row.cost);

const COLUMNS = [
  { name: "Time", value: (row) => time(row.time) },
  { name: "Outcome", value: outcome },
  { name: "Asked", value: (row) => row.asked },
  { name: "Answered by", value: model },
  { name: "Key", value: (row) => row.key },
  { name: "First token", number: true, value: (row) => seconds(row.first_output) },
  { name: "Total", number: true, value: (row) => seconds(row.seconds) },
  { name: "Tokens", number: true, value: tokens },
  { name: "Cost", number: true, value: cost },
];

const ATTEMPTS = [
  { name: "Time", value: (row) => time(row.time) },
  { name: "Why", value: (row) => row.role },
  { name: "Model", value: model },
  { name: "Outcome", value: outcome },
  { name: "Retries", number: true, value: (row) => count(row.retries) },
  { name: "First token", number: true, value: (row) => seconds(row.first_output) },
  { name: "Total", number: true, value: (row) => seconds(row.seconds) },
  { name: "Tokens", number: true, value: tokens },
  { name: "Cost", number: true, value: cost },
];

const TOOLS = [
  { name: "Turn", number: true, value: (row) => count(row.turn) },
  { name: "Tool", value: (row) => row.tool },
  { name: "Arguments", value: (row) => h("code", {}, row.preview ?? row.arguments ?? "") },
  { name: "Exit", value: (row) => state(row.exit, row.exit === "ok" ? "good" : "bad") },
  { name: "Time", number: true, value: (row) => seconds(row.seconds) },
  { name: "Result", number: true, value: (row) => bytes(row.size) },
];

/** Open a request's story. */
export async function story(id) {
  const box = dialog("Request", h("p", { class: "note" }, id));
  const body = h("div");
  box.append(body);
  try {
    const told = await json(`/v1/requests/${encodeURIComponent(id)}`);
    const row = told;
    const attempts = told.attempts;
    const tools = told.tools || [];
    fill(body,
      facts([["Began", moment(row.time)], ["Outcome", outcome(row)], ["Status", row.status], ["Asked", row.asked],
        ["Answered by", model(row)], ["Lane", row.lane], ["Dialect", row.dialect], ["Task", row.task], ["Key", row.key],
        ["Tag", row.tag], ["Waited", seconds(row.queued)], ["First token", seconds(row.first_output)],
        ["Total", seconds(row.seconds)], ["Tokens", tokens(row)], ["Cost", `${dollars(told.total.cost)}${told.total.unknown_costs ? ` and ${told.total.unknown_costs} unknown` : ""}${row.estimated ? " (estimated)" : ""}`],
        ["Bytes", `${bytes(row.received)} in, ${bytes(row.sent)} out`]]),
      row.route ? [h("h3", {}, "Route"), h("p", {}, row.route)] : null,
      h("h3", {}, "Attempts"), table("Each call of a provider, in order", ATTEMPTS, attempts, { empty: "No provider was asked." }),
      tools.length ? [h("h3", {}, "Tools"), table("Each call of a tool, in order", TOOLS, tools)] : null);
  } catch (error) {
    fill(body, problem(error));
  }
}

export function show(node, live, wanted) {
  const filter = h("select", {}, ["", "ok", "cancelled", "failed"].map((word) => h("option", { value: word }, word || "all outcomes")));
  const search = h("input", { type: "search", placeholder: "model, key or tag" });
  const list = h("div", { class: "card" });
  const known = new Map();

  const fits = (row) => {
    const word = filter.value;
    if (word === "failed" ? ["ok", "cancelled"].includes(row.outcome) : word && row.outcome !== word) return false;
    const text = search.value.trim().toLowerCase();
    return !text || [row.asked, row.model, row.provider, row.key, row.tag, row.id].some((one) => (one || "").toLowerCase().includes(text));
  };
  const paint = () => {
    const rows = [...known.values()].sort((one, other) => other.time.localeCompare(one.time)).filter(fits).slice(0, SHOWN);
    fill(list, table(`The latest ${rows.length} requests`, COLUMNS, rows,
      { open: (row) => story(row.id), key: (row) => row.id, empty: "No request fits." }));
  };
  const take = (rows) => {
    for (const row of rows) known.set(row.id, row);
    paint();
  };

  filter.addEventListener("change", paint);
  search.addEventListener("input", paint);
  fill(node, h("div", { class: "row card" }, field("Outcome", filter), field("Search", search)), list);
  json(`/v1/requests?limit=${SHOWN}`).then(({ data }) => take(data), (error) => fill(list, problem(error)));
  take(live.requests);
  if (wanted) story(wanted);
  return live.on("requests", (event) => take(event.detail));
}
