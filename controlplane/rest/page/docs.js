// Renders /openapi.json. It builds elements and sets text, never HTML, so that
// nothing in the description can run.
"use strict";

const methods = ["get", "put", "post", "delete"];

function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
  for (const child of children) if (child !== undefined && child !== null) e.append(child);
  return e;
}

function follow(doc, schema) {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.split("/").slice(1).reduce((at, key) => (at || {})[key], doc) || {};
}

// sample makes an example value of a schema.
function sample(doc, schema, depth) {
  const s = follow(doc, schema);
  if (s.examples && s.examples.length) return s.examples[0];
  if (s.default !== undefined) return s.default;
  if (s.enum) return s.enum[0];
  const type = Array.isArray(s.type) ? s.type[0] : s.type;
  if (type === "array") return depth > 5 ? [] : [sample(doc, s.items, depth + 1)];
  if (type === "object") {
    const out = {};
    if (depth > 5) return out;
    for (const [name, part] of Object.entries(s.properties || {})) out[name] = sample(doc, part, depth + 1);
    return out;
  }
  if (type === "integer" || type === "number") return s.minimum > 0 ? s.minimum : 0;
  if (type === "boolean") return false;
  if (s.format === "date-time") return "2026-01-31T12:00:00Z";
  return type === "string" ? "" : {};
}

function content(doc, title, part) {
  const out = [];
  for (const [kind, media] of Object.entries((part && part.content) || {})) {
    out.push(element("p", {}, title + " ", element("code", {}, kind)));
    if (media.schema && media.schema.format !== "binary") {
      out.push(element("pre", {}, JSON.stringify(sample(doc, media.schema, 0), null, 2)));
    }
  }
  return out;
}

function parameters(list) {
  if (!list || !list.length) return null;
  const table = element("table", {}, element("tr", {}, element("th", {}, "Parameter"), element("th", {}, "In"), element("th", {}, "Meaning")));
  for (const p of list) {
    const what = (p.description || (p.schema && p.schema.description) || "") + (p.required ? " (required)" : "");
    table.append(element("tr", {}, element("td", {}, element("code", {}, p.name)), element("td", {}, p.in), element("td", {}, what)));
  }
  return table;
}

function operation(doc, path, method, op) {
  const box = element("details", { id: op.operationId || method + path },
    element("summary", {}, element("code", { class: "method" }, method.toUpperCase()), element("code", {}, path), element("span", { class: "what" }, op.summary || "")));
  for (const line of (op.description || "").split("\n\n")) if (line.trim()) box.append(element("p", {}, line.trim()));
  const table = parameters(op.parameters);
  if (table) box.append(table);
  box.append(...content(doc, "Request", op.requestBody));
  for (const [status, response] of Object.entries(op.responses || {})) {
    if (status === "default") continue;
    box.append(element("p", {}, "Answer " + status + ": " + (response.description || "")), ...content(doc, "", response));
  }
  return box;
}

function render(doc) {
  document.getElementById("title").textContent = doc.info.title + " API " + doc.info.version;
  document.getElementById("about").textContent = doc.info.description || "";
  const groups = new Map();
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const method of methods) {
      const op = item[method];
      if (!op) continue;
      const tag = (op.tags || ["Other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(doc, path, method, op));
    }
  }
  const main = document.getElementById("operations");
  for (const [tag, list] of groups) main.append(element("section", {}, element("h2", {}, tag), ...list));
  document.getElementById("filter").addEventListener("input", (event) => {
    const word = event.target.value.toLowerCase();
    for (const box of main.querySelectorAll("details")) box.classList.toggle("hidden", !box.textContent.toLowerCase().includes(word));
  });
}

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(render)
  .catch((failure) => { document.getElementById("about").textContent = "The description could not be read: " + failure; });
