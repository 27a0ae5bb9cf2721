// Every provider with its models: state and why, breakers, limits, what is expected of them.

import { fill, h, problem, state, table } from "../element.js";
import { count, percent, rate, seconds } from "../format.js";
import { json } from "../api.js";

export const title = "Providers";

const BREAKER = { closed: "good", half_open: "warn", open: "bad" };

const COLUMNS = [
  { name: "Model", value: (row) => row.model },
  { name: "Breaker", value: (row) => state(row.breaker.replace("_", "-"), BREAKER[row.breaker]) },
  { name: "In flight", number: true, value: (row) => count(row.in_flight) },
  { name: "Attempts", number: true, value: (row) => count(row.attempts) },
  { name: "Expected errors", number: true, value: (row) => row.attempts ? percent(row.error_rate) : "–" },
  { name: "Expected first token", number: true, value: (row) => seconds(row.first_output) },
  { name: "p95", number: true, value: (row) => seconds(row.slow_first_output) },
  { name: "Expected tokens/s", number: true, value: (row) => rate(row.tokens_per_second) },
];

const listed = (names) => `${names.slice(0, 30).join(", ")}${names.length > 30 ? ` and ${names.length - 30} more` : ""}`;

/** Without the right `usage` the gateway tells of a provider its state and its models alone. */
function models(provider) {
  if (!provider.performance) return h("p", { class: "note" }, `Models: ${listed(provider.models)}`);
  const known = Object.entries(provider.performance).map(([model, how]) => ({ breaker: "closed", error_rate: 0, in_flight: 0, attempts: 0, ...how, model }));
  const idle = provider.models.filter((model) => !(model in provider.performance));
  return [
    known.length ? table(`Models of ${provider.name} that were asked. Expected: by the router, from the latest attempts; an idle model's figures near an unmeasured one's`, COLUMNS, known) : null,
    idle.length ? h("p", { class: "note" }, `Not asked yet: ${listed(idle)}`) : null,
  ];
}

const STATE = { ready: "good", draining: "warn", unconfigured: "warn" };

/** How a provider is, in a word and a colour. */
export const standing = (provider) => state(provider.state, STATE[provider.state] ?? "bad");

function card(provider) {
  return h("section", { class: "card" },
    h("h3", { style: "margin-top:0" }, provider.name, " ", standing(provider)),
    provider.why ? h("p", { class: "note" }, provider.why) : null,
    provider.performance && h("p", {}, `${count(provider.replicas)} ${provider.replicas === 1 ? "replica" : "replicas"}`,
      provider.limit ? `, ${count(provider.in_flight)} of ${count(provider.limit)} places taken, ${count(provider.queued)} waiting` : ""),
    models(provider));
}

export function show(node, live) {
  const load = async () => {
    try {
      const { data } = await json("/v1/providers");
      const rank = (one) => one.state === "ready" ? 0 : 1;
      fill(node, data.sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name)).map(card));
    } catch (error) {
      fill(node, problem(error));
    }
  };
  load();
  let turn = 0;
  return live.on("snapshot", () => { if (++turn % 5 === 0) load(); });
}
