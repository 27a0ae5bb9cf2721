// Making and changing elements. Text is always text: nothing that a caller, a model or a tool wrote becomes markup.

/** An element: `attributes` are set (functions become listeners, false and null are left out), `children` appended. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Put these in place of all that `node` holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * A table. columns: [{name, value(row), number}]; open(row), where given, is called for a row that is chosen,
 * by a click or with the keyboard.
 */
export function table(caption, columns, rows, { open, empty = "Nothing yet.", key } = {}) {
  if (!rows.length) return h("p", { class: "note" }, empty);
  const head = h("tr", {}, columns.map((column) =>
    h("th", { scope: "col", class: column.number ? "number" : null }, column.name)));
  const body = rows.map((row) => h("tr", { class: open ? "open" : null, "data-key": key ? key(row) : null,
    click: open ? (event) => { if (!event.target.closest("button, a")) open(row); } : null },
  columns.map((column, position) => {
    const value = column.value(row);
    const content = open && position === 0
      ? h("button", { type: "button", class: "open", click: () => open(row) }, value) : value;
    return h("td", { class: column.number ? "number" : null }, content ?? "–");
  })));
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, body)));
}

/** Name and value pairs. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A word with a colour; the word alone says it too. */
export function state(word, kind) {
  return h("span", { class: `state ${kind}` }, word);
}

/** A labelled field. */
export function field(label, input) {
  return h("label", {}, h("span", {}, label), input);
}

/** What went wrong, for a person. */
export function problem(error) {
  return h("p", { class: "problem", role: "alert" }, error.message || String(error));
}

/** A modal dialog with a title; returns it, already open. It goes when it is closed. */
export function dialog(title, ...children) {
  const box = h("dialog", { "aria-label": title, close: () => box.remove() },
    h("header", {}, h("h2", {}, title),
      h("button", { type: "button", class: "plain", click: () => box.close() }, "Close")),
    ...children);
  document.body.append(box);
  box.showModal();
  return box;
}
