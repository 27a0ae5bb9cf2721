// What happens in the cluster at this moment, second by second.

import { draw } from "../charts.js";
import { fill, h, state, table } from "../element.js";
import { count, dollars, percent, rate, seconds, time } from "../format.js";
import { standing } from "./providers.js";

export const title = "Now";
export const needs = "usage";

const TILES = [
  ["Requests a second", (now) => rate(now.requests_per_second)],
  ["In flight", (now) => count(now.in_flight)],
  ["Waiting", (now) => count(now.queued)],
  ["Errors", (now) => percent(now.error_ratio)],
  ["First token, p50", (now) => seconds(now.first_output.p50)],
  ["First token, p95", (now) => seconds(now.first_output.p95)],
  ["Between tokens, p50", (now) => seconds(now.between_tokens.p50)],
  ["Cost an hour", (now) => dollars(now.dollars_per_hour)],
];

const CHARTS = [
  ["Requests and errors a second", [["requests", (now) => now.requests_per_second], ["errors", (now) => now.errors_per_second]]],
  ["Seconds to the first token", [["p50", (now) => now.first_output.p50], ["p95", (now) => now.first_output.p95]]],
  ["In flight and waiting", [["in flight", (now) => now.in_flight], ["waiting", (now) => now.queued]]],
  ["Dollars an hour", [["cost", (now) => now.dollars_per_hour]]],
];

/** How a provider is, its breakers with it. */
const health = (provider) => provider.state === "ready" && provider.open_breakers
  ? state(`${provider.open_breakers} open`, "warn") : standing(provider);

const COLUMNS = [
  { name: "Provider", value: (row) => row.name },
  { name: "State", value: health },
  { name: "Requests/s", number: true, value: (row) => rate(row.requests_per_second) },
  { name: "In flight", number: true, value: (row) => count(row.in_flight) },
  { name: "Waiting", number: true, value: (row) => count(row.queued) },
  { name: "Errors", number: true, value: (row) => percent(row.error_ratio) },
  { name: "First token p50", number: true, value: (row) => seconds(row.first_output.p50) },
  { name: "p95", number: true, value: (row) => seconds(row.first_output.p95) },
  { name: "Cost/h", number: true, value: (row) => dollars(row.dollars_per_hour) },
];

export function show(node, live) {
  const since = h("div", { role: "status" });
  const tiles = h("dl", { class: "tiles" });
  const charts = CHARTS.map(([caption]) => h("div", { class: "chart" }));
  const providers = h("div", { class: "card" });
  const figures = h("div");
  fill(node, since, fill(figures, tiles, h("div", { class: "charts" }, CHARTS.map(([caption], position) =>
    h("figure", {}, h("figcaption", {}, caption), charts[position]))), h("h3", {}, "Providers"), providers));

  const paint = () => {
    const latest = live.snapshots.at(-1);
    if (!latest) return fill(tiles, h("p", { class: "note" }, "Waiting for the first figures …"));
    fill(tiles, TILES.map(([name, value]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value(latest)))));
    fill(providers, table("The last ten seconds, by provider", COLUMNS, latest.providers));
    const times = live.snapshots.map((one) => new Date(one.time * 1000));
    CHARTS.forEach(([caption, lines], position) => draw(charts[position], caption, lines.map(([name, value]) => ({
      type: "scatter", mode: "lines", name, x: times, y: live.snapshots.map(value), connectgaps: false,
      line: { width: 2 } }))).catch((error) => fill(charts[position], error.message)));
  };
  const link = () => {
    const last = live.snapshots.at(-1);
    const old = !live.connected && last;
    figures.classList.toggle("old", Boolean(old));
    fill(since, old ? h("p", { class: "problem" }, `Not connected: these figures are of ${time(last.time)}.`) : null);
  };
  paint();
  link();
  const ends = [live.on("snapshot", paint), live.on("link", link)];
  return () => ends.forEach((end) => end());
}
