// What was learned: win rates with their intervals, and the frontier of quality, cost and time.

import { json } from "../api.js";
import { draw, PALETTE } from "../charts.js";
import { field, fill, h, problem, table } from "../element.js";
import { count, dollars, percent, seconds } from "../format.js";

export const title = "Models";
export const needs = "usage";

const between = (interval) => `${percent(interval.low)} to ${percent(interval.high)}`;

const RATES = [
  { name: "Model", value: (row) => row.model },
  { name: "Task", value: (row) => row.task },
  { name: "Win rate", number: true, value: (row) => percent(row.quality.share) },
  { name: "95 % interval", number: true, value: (row) => between(row.quality) },
  { name: "Evidence", number: true, value: (row) => count(row.quality.count) },
  { name: "Good signs", value: (row) => Object.entries(row.signs).map(([sign, seen]) => `${sign} ${percent(seen.share)}`).join(", ") },
];

const POINTS = [
  { name: "Model", value: (row) => row.model },
  { name: "Quality", number: true, value: (row) => percent(row.quality.share) },
  { name: "95 % interval", number: true, value: (row) => between(row.quality) },
  { name: "Cost", number: true, value: (row) => dollars(row.dollars) },
  { name: "Time", number: true, value: (row) => seconds(row.seconds) },
  { name: "Frontier", value: (row) => row.frontier ? "yes" : "" },
];

function rates(node, found) {
  const tasks = [...new Set(found.map((one) => one.task))];
  const traces = tasks.map((task, position) => {
    const rows = found.filter((one) => one.task === task);
    return { type: "scatter", mode: "markers", name: task, y: rows.map((one) => one.model), x: rows.map((one) => one.quality.share),
      marker: { size: 9, color: PALETTE[position % PALETTE.length], symbol: position },
      error_x: { type: "data", symmetric: false, array: rows.map((one) => one.quality.high - one.quality.share),
        arrayminus: rows.map((one) => one.quality.share - one.quality.low), thickness: 1.5, width: 4 } };
  });
  const models = new Set(found.map((one) => one.model)).size;
  node.style.height = `${Math.max(14, 6 + models * 2)}rem`;
  return draw(node, "Win rate by model and task, with 95 % intervals", traces,
    { xaxis: { range: [0, 1], tickformat: ".0%" }, yaxis: { rangemode: "normal", type: "category" } });
}

/** Where a mark's name stands, so that it stays inside: share is where the mark is between the left end and the right. */
const side = (share) => share < 0.2 ? "middle right" : share > 0.8 ? "middle left" : "top center";

function scatter(node, points) {
  const priced = points.filter((one) => one.dollars !== null);
  const most = Math.max(...priced.map((one) => one.dollars), 1e-9);
  const part = (name, rows, marker) => ({ type: "scatter", mode: "markers+text", name, x: rows.map((one) => one.dollars),
    y: rows.map((one) => one.quality.share), text: rows.map((one) => one.model.split("/").pop()), cliponaxis: false,
    textposition: rows.map((one) => side(one.dollars / most)),
    customdata: rows.map((one) => one.seconds),
    hovertemplate: "%{text}<br>quality %{y:.0%}<br>$%{x:.5f} a request<br>%{customdata:.2f} s<extra></extra>",
    marker: { size: rows.map((one) => 9 + 8 * Math.min(3, Math.log10(1 + one.seconds))), ...marker } });
  const best = priced.filter((one) => one.frontier).sort((one, other) => one.dollars - other.dollars);
  const traces = [part("beaten by another", priced.filter((one) => !one.frontier), { color: PALETTE.at(-1), symbol: "circle-open" }),
    part("frontier", best, { color: PALETTE[0] })];
  return draw(node, "Quality over cost of a request; larger marks are slower", traces,
    { xaxis: { title: { text: "US dollars a request" }, rangemode: "tozero" }, yaxis: { title: { text: "expected quality" }, tickformat: ".0%", rangemode: "normal" } });
}

export function show(node) {
  const load = async () => {
    const told = await json("/v1/performance");
    const chart = h("div", { class: "chart tall" });
    const points = h("div");
    const select = h("select", { change: () => pick(select.value) }, Object.keys(told.tasks).map((task) => h("option", { value: task }, task)));
    const pick = (task) => {
      const rows = told.tasks[task];
      fill(points, table(`Quality, cost and time ${task === "all" ? "over all tasks" : `of the task ${task}`}, for a prompt of ${told.prompt_tokens} tokens`, POINTS, rows));
      scatter(chart, rows).catch((error) => fill(chart, error.message));
    };
    const strip = h("div", { class: "chart" });
    fill(node,
      h("section", { class: "card" }, h("h3", { style: "margin-top:0" }, "Cost, quality and time"),
        h("p", { class: "note" }, "A model is on the frontier if no other is at least as good in all three and better in one."),
        h("div", { class: "row" }, field("Task", select)), chart, points),
      h("section", { class: "card" }, h("h3", { style: "margin-top:0" }, "Win rates"),
        told.win_rates.length ? strip : null,
        table("Share of good answers by feedback; good signs: what answers showed of themselves", RATES, told.win_rates,
          { empty: "No evidence yet: POST /v1/feedback, or have “explore” or duels on." })));
    pick("all");
    if (told.win_rates.length) rates(strip, told.win_rates).catch((error) => fill(strip, error.message));
  };
  load().catch((error) => fill(node, problem(error)));
}
