// Route decisions as they are made, each with its explanation.

import { fill, h, table } from "../element.js";
import { seconds, time } from "../format.js";
import { outcome, story } from "./requests.js";

export const title = "Decisions";

const COLUMNS = [
  { name: "Time", value: (row) => time(row.time) },
  { name: "Asked", value: (row) => row.asked },
  { name: "Task", value: (row) => row.task || "–" },
  { name: "Chosen", value: (row) => row.provider ? `${row.provider}/${row.model}` : "–" },
  { name: "Why", value: (row) => row.route || "–" },
  { name: "Outcome", value: outcome },
  { name: "Time taken", number: true, value: (row) => seconds(row.seconds) },
];

export function show(node, live) {
  const list = h("div", { class: "card" });
  fill(node, h("p", { class: "note" }, "Requests of the routed lane as they end. The playground explains a decision with every candidate's score."), list);
  const paint = () => fill(list, table("The latest decisions", COLUMNS,
    live.requests.filter((row) => row.lane === "routed").slice(0, 60),
    { open: (row) => story(row.id), key: (row) => row.id, empty: "No decision since this page was opened." }));
  paint();
  return live.on("requests", paint);
}
