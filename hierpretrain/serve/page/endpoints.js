"use strict";
// Shows openapi.json as text: FastAPI's own page would load its scripts from elsewhere.

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function fields(api, operation) {
  const told = (operation.parameters || []).map((one) => [one.name, one.required, one.description]);
  for (const [kind, { schema }] of Object.entries(operation.requestBody ? operation.requestBody.content : {})) {
    const body = schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
    for (const [name, about] of Object.entries(body.properties || {})) {
      told.push([name, (body.required || []).includes(name), `${about.description || ""} (${kind})`]);
    }
  }
  return told;
}

async function start() {
  const api = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const section = make("section", "", make("h2", "", make("code", `${method.toUpperCase()} ${path}`)), make("div", operation.description));
      section.className = "endpoint";
      if (operation.security) section.append(make("div", "Needs the token: Authorization: Bearer TOKEN"));
      const list = fields(api, operation).map(([name, needed, about]) => make("li", "", make("code", name), ` ${needed ? "" : "optional. "}${about || ""}`));
      if (list.length) section.append(make("ul", "", ...list));
      document.getElementById("endpoints").append(section);
    }
  }
  document.body.dataset.ready = "yes";
}

start();
