// Ask a model, watch the answer stream, and see why that model was chosen.

import { events, json } from "../api.js";
import { facts, field, fill, h, problem, table } from "../element.js";
import { count, dollars, rate, seconds } from "../format.js";

export const title = "Playground";

const CANDIDATES = [
  { name: "Model", value: (row) => row.model },
  { name: "Score", number: true, value: (row) => rate(row.score) },
  { name: "Quality", number: true, value: (row) => rate(row.quality) },
  { name: "Cost", number: true, value: (row) => dollars(row.dollars) },
  { name: "Time", number: true, value: (row) => seconds(row.seconds) },
  { name: "Terms", value: (row) => Object.entries(row.terms || {}).map(([name, value]) => `${name} ${rate(value)}`).join(", ") },
];

/** A decision as `POST /v1/route` tells it. */
export function decision(told) {
  const excluded = Object.entries(told.excluded || {});
  return [
    h("p", {}, told.explanation),
    facts([["Task", told.task], ["Difficulty", rate(told.difficulty)], ["Policy", told.policy]]),
    table("Candidates, best first", CANDIDATES, told.candidates),
    excluded.length ? h("details", {}, h("summary", {}, `${excluded.length} left out`),
      h("ul", {}, excluded.map(([model, why]) => h("li", {}, h("code", {}, model), `: ${why}`)))) : null,
  ];
}

export function show(node) {
  const model = h("input", { list: "known-models", value: "auto", required: true, size: 28, autocomplete: "off" });
  const known = h("datalist", { id: "known-models" });
  const prompt = h("textarea", { required: true, placeholder: "Ask something", "aria-label": "Prompt",
    keydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); } });
  const policy = h("select", {}, ["", "quality", "balanced", "cheap", "fast"].map((name) => h("option", { value: name }, name || "as configured")));
  const send = h("button", { type: "submit" }, "Send");
  const stop = h("button", { type: "button", class: "plain", disabled: true, click: () => running?.abort() }, "Stop");
  const explain = h("button", { type: "button", class: "plain", click: () => why() }, "Explain the route");
  const said = h("div", { class: "said", "aria-live": "polite", "data-said": "" });
  const about = h("div");
  const route = h("div");
  let running;

  const body = (stream) => ({ model: model.value.trim(), stream, messages: [{ role: "user", content: prompt.value }],
    ...(stream ? { stream_options: { include_usage: true } } : {}),
    ...(policy.value ? { penstock: { route: { policy: policy.value } } } : {}) });

  const why = async () => {
    decided.hidden = false;
    try {
      fill(route, h("h3", {}, "Route"), decision(await json("/v1/route", { method: "POST", body: body(false) })));
    } catch (error) {
      fill(route, problem(error));
    }
  };

  const run = async (event) => {
    event.preventDefault();
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    answer.hidden = false;
    fill(said);
    fill(about);
    const thought = h("span", { class: "note" });
    said.append(thought);
    const began = performance.now();
    let first = null, usage = null, headers = null;
    why();
    try {
      await events("/v1/chat/completions", { method: "POST", body: body(true), signal: running.signal }, (name, data, answer) => {
        headers = answer.headers;
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        const delta = chunk.choices?.[0]?.delta || {};
        if (delta.reasoning_content) thought.append(delta.reasoning_content);
        if (delta.content) said.append(delta.content);
        if ((delta.content || delta.reasoning_content) && first === null) first = (performance.now() - began) / 1000;
        usage = chunk.usage || usage;
      });
    } catch (error) {
      if (error.name !== "AbortError") said.append(problem(error));
    }
    const took = (performance.now() - began) / 1000;
    fill(about, facts([["Model", headers?.get("x-penstock-model")], ["Provider", headers?.get("x-penstock-provider")],
      ["First token", seconds(first)], ["Total", seconds(took)],
      ["Tokens", usage ? `${count(usage.prompt_tokens)} in, ${count(usage.completion_tokens)} out` : null],
      ["Cost", usage?.cost !== undefined ? dollars(usage.cost) : null],
      ["Request", headers?.get("x-request-id") ? h("a", { href: `#/requests/${encodeURIComponent(headers.get("x-request-id"))}` }, "its story") : null]]));
    send.disabled = false;
    stop.disabled = true;
  };

  const form = h("form", { class: "card", submit: run },
    h("div", { class: "row" }, field("Model", model), known, field("Policy", policy)),
    h("p", {}, prompt), h("div", { class: "row" }, send, stop, explain));
  const answer = h("section", { class: "card", "aria-label": "Answer", hidden: true }, said, about);
  const decided = h("section", { class: "card", "aria-label": "Route", hidden: true }, route);
  fill(node, form, answer, decided);
  json("/v1/models").then(({ data }) => fill(known, data.map((one) => h("option", { value: one.id }))), () => {});
  return () => running?.abort();
}
