// Keys and their budgets: made, shown once, changed, revoked.

import { ask, json } from "../api.js";
import { dialog, field, fill, h, problem, state, table } from "../element.js";
import { count, dollars, moment } from "../format.js";

export const title = "Keys";
export const needs = "keys";

const KIND = { active: "good", expired: "warn", revoked: "bad" };

function budget(key) {
  return Object.entries(key.budget).filter(([, most]) => most !== null)
    .map(([period, most]) => `${dollars(key.spent[period])} of ${dollars(most)} a ${period}`.replace("a total", "in all")).join("; ") || "none";
}

function limits(key) {
  return [[key.requests_per_minute, "requests/min"], [key.tokens_per_minute, "tokens/min"], [key.streams, "streams"]]
    .filter(([value]) => value).map(([value, unit]) => `${count(value)} ${unit}`).join(", ") || "none";
}

export function show(node) {
  const list = h("div", { class: "card" });
  const load = async () => {
    try {
      const { data } = await json("/v1/keys?limit=200&revoked=true");
      fill(list, table(`${data.length} keys`, COLUMNS, data, { key: (row) => row.id, empty: "No key was made yet." }));
    } catch (error) {
      fill(list, problem(error.status === 403 ? new Error("This key may not manage keys.") : error));
    }
  };

  const revoke = (key) => () => {
    const box = dialog(`Revoke ${key.name}?`, h("p", {}, "Whoever uses it is refused from now on. This cannot be undone."),
      h("div", { class: "row" }, h("button", { type: "button", class: "danger", click: async () => {
        try {
          await ask(`/v1/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
          box.close();
          load();
        } catch (error) {
          box.append(problem(error));
        }
      } }, "Revoke")));
  };

  const COLUMNS = [
    { name: "Name", value: (row) => row.name },
    { name: "Id", value: (row) => h("code", {}, row.id) },
    { name: "State", value: (row) => state(row.status, KIND[row.status]) },
    { name: "Expires", value: (row) => moment(row.expires) },
    { name: "Limits", value: limits },
    { name: "Budget", value: budget },
    { name: "Models", value: (row) => row.models?.length ? row.models.join(", ") : "all" },
    { name: "", value: (row) => row.status === "revoked" ? "" : h("button", { type: "button", class: "danger", click: revoke(row), "aria-label": `Revoke ${row.name}` }, "Revoke") },
  ];

  const name = h("input", { required: true, maxlength: 100 });
  const models = h("input", { placeholder: "all, or openai/*, …" });
  const requests = h("input", { type: "number", min: 1 });
  const day = h("input", { type: "number", min: 0, step: "any" });
  const month = h("input", { type: "number", min: 0, step: "any" });
  const notice = h("div", { role: "status" });

  const make = async (event) => {
    event.preventDefault();
    const spend = Object.fromEntries([["day", day.value], ["month", month.value]].filter(([, value]) => value !== ""));
    const wanted = models.value.split(",").map((one) => one.trim()).filter(Boolean);
    try {
      const made = await json("/v1/keys", { method: "POST", body: { name: name.value,
        ...(wanted.length ? { models: wanted } : {}),
        ...(requests.value ? { requests_per_minute: Number(requests.value) } : {}),
        ...(Object.keys(spend).length ? { budget: spend } : {}) } });
      const secret = made.secret;
      fill(notice, h("div", { class: "secret" }, h("p", {}, `The secret of “${made.name}”. It is shown this once.`),
        h("code", { "data-secret": "" }, secret), " ",
        h("button", { type: "button", class: "plain", click: () => navigator.clipboard.writeText(secret) }, "Copy")));
      event.target.reset();
      load();
    } catch (error) {
      fill(notice, problem(error));
    }
  };

  fill(node, h("form", { class: "card", submit: make }, h("h3", { style: "margin-top:0" }, "New key"),
    h("div", { class: "row" }, field("Name", name), field("Models", models), field("Requests a minute", requests),
      field("Dollars a day", day), field("Dollars a month", month), h("button", { type: "submit" }, "Create"))), notice, list);
  load();
}
