// The tools that Penstock runs: where they come from, whether they can be used, and why not.

import { ask, json } from "../api.js";
import { dialog, facts, fill, h, problem, state, table } from "../element.js";
import { seconds } from "../format.js";

export const title = "Tools";

const HEALTH = { ready: "good", starting: "warn", away: "bad", failed: "bad" };

export function show(node) {
  const load = async () => {
    try {
      const { data } = await json("/v1/tools");
      fill(node, h("div", { class: "card" }, table(`${data.length} tools`, COLUMNS, data, { open: story,
        empty: "No tools are configured." })));
    } catch (error) {
      fill(node, problem(error));
    }
  };

  const allow = (tool) => async () => {
    try {
      await ask(`/v1/tools/${encodeURIComponent(tool.name)}/allow`, { method: "POST", body: { fingerprint: tool.fingerprint } });
      load();
    } catch (error) {
      dialog("Not allowed", problem(error));
    }
  };

  const COLUMNS = [
    { name: "Tool", value: (row) => row.name },
    { name: "What for", value: (row) => row.description.split("\n")[0].slice(0, 120) },
    { name: "Source", value: (row) => row.source },
    { name: "State", value: (row) => row.held ? state("held", "warn") : state(row.health, HEALTH[row.health]) },
    { name: "", value: (row) => row.held ? h("button", { type: "button", click: allow(row) }, "Allow") : "" },
  ];

  const story = (tool) => {
    const policy = tool.policy || {};
    dialog(tool.name, h("p", {}, tool.description), tool.held ? h("p", { class: "problem" }, tool.held) : null,
      tool.why ? h("p", { class: "problem" }, tool.why) : null,
      facts([["Source", tool.source], ["Toolset", tool.toolset], ["Time limit", seconds(policy.seconds ?? 30)],
        ["At once", policy.concurrent ?? 8], ["Approval", policy.requires_approval ? "by a person, each call" : "not needed"],
        ["Contained", policy.contained === false ? "no" : "yes"], ["Network", policy.network ? "yes" : "no"]]),
      h("h3", {}, "Arguments"), h("pre", { tabindex: 0 }, JSON.stringify(tool.schema, null, 2)));
  };
  load();
}
