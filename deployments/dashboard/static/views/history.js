// What was used and what it cost, over days and hours.

import { json } from "../api.js";
import { draw } from "../charts.js";
import { field, fill, h, problem, table } from "../element.js";
import { count, dollars, percent } from "../format.js";

export const title = "History";

const SPANS = { "24 hours": [1, "hour"], "7 days": [7, "day"], "30 days": [30, "day"], "90 days": [90, "day"] };
/** Groups of a chart; the table has them all. */
const SHOWN = 8;
const GROUPS = ["model", "provider", "key", "tag", "task"];

const MS = { hour: 3600e3, day: 24 * 3600e3 };

const sum = (rows, name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);

/** Every hour or day (UTC, as the answer names them) of the last `days`, and those that are in `rows`, in order. */
function periods(rows, period, days) {
  const named = (at) => period === "day" ? new Date(at).toISOString().slice(0, 10) : new Date(at).toISOString().replace(/\.\d+/, "");
  const last = Math.floor(Date.now() / MS[period]) * MS[period];
  const all = Array.from({ length: days * MS.day / MS[period] }, (_, back) => named(last - back * MS[period]));
  return [...new Set([...all, ...rows.map((row) => row[period])])].sort();
}

/** A trace for each of the largest groups by the column `name`, and one for all others; each has every one of `times`. */
function bars(rows, times, period, group, name) {
  const groups = [...Map.groupBy(rows, (row) => row[group] || "–")]
    .sort((one, other) => sum(other[1], name) - sum(one[1], name));
  const others = groups.slice(SHOWN).flatMap(([, found]) => found);
  return [...groups.slice(0, SHOWN), ...(others.length ? [["others", others]] : [])].map(([one, found]) => ({ type: "bar",
    name: one, x: period === "day" ? times.map((time) => time.slice("2000-".length)) : times, y: times.map((time) => sum(found.filter((row) => row[period] === time), name)) }));
}

const COLUMNS = (group) => [
  { name: group, value: (row) => row[group] || "–" },
  { name: "Requests", number: true, value: (row) => count(row.requests) },
  { name: "Failed", number: true, value: (row) => row.requests ? percent(row.errors / row.requests) : "–" },
  { name: "Attempts", number: true, value: (row) => count(row.attempts) },
  { name: "Tokens in", number: true, value: (row) => count(row.tokens.input) },
  { name: "Tokens out", number: true, value: (row) => count(row.tokens.output) },
  { name: "Cost", number: true, value: (row) => dollars(row.cost) },
  { name: "Cost unknown", number: true, value: (row) => count(row.unknown_costs) },
];

export function show(node) {
  const span = h("select", {}, Object.keys(SPANS).map((name) => h("option", { selected: name === "7 days" }, name)));
  const group = h("select", {}, GROUPS.map((name) => h("option", { value: name }, name)));
  const cost = h("div", { class: "chart stacked" }), requests = h("div", { class: "chart stacked" });
  const groups = h("div", { class: "card" });
  const load = async () => {
    try {
      const [days, period] = SPANS[span.value];
      const since = `${days}d`;
      const by = group.value;
      const [grouped, over] = await Promise.all([json(`/v1/usage?since=${since}&by=${by}`), json(`/v1/usage?since=${since}&by=${by},${period}`)]);
      fill(groups, table(`Usage by ${by}, the last ${span.value}`, COLUMNS(by), grouped.data, { empty: "Nothing was used." }));
      const times = periods(over.data, period, days);
      const axis = period === "day" ? { type: "category", nticks: 8, tickangle: 0 } : { type: "date" };
      const stacked = { barmode: "stack", bargap: 0.3, showlegend: true, xaxis: axis };
      await draw(cost, `Dollars by ${period} and ${by}`, bars(over.data, times, period, by, "cost"),
        { ...stacked, yaxis: { tickprefix: "$", tickformat: ",~g" } });
      await draw(requests, `Requests by ${period} and ${by}`, bars(over.data, times, period, by, "requests"), stacked);
    } catch (error) {
      fill(groups, problem(error));
    }
  };
  for (const one of [span, group]) one.addEventListener("change", load);
  fill(node, h("div", { class: "row card" }, field("Span", span), field("By", group)),
    h("div", { class: "charts" }, h("figure", {}, h("figcaption", {}, "US dollars"), cost), h("figure", {}, h("figcaption", {}, "Requests"), requests)),
    h("h3", {}, "Sums"), groups);
  load();
}
