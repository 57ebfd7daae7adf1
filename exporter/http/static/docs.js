"use strict";

// Draws /openapi.json. Text goes in by textContent only: nothing in the document can become markup.
const resolve = (schema, root, depth = 0) => {
  if (depth > 8 || schema === null || typeof schema !== "object") return schema;
  if (Array.isArray(schema)) return schema.map((one) => resolve(one, root, depth + 1));
  if (schema.$ref) return resolve(root.components.schemas[schema.$ref.split("/").pop()], root, depth + 1);
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolve(value, root, depth + 1)]));
};

const element = (name, text, ...children) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

const block = (title, content, root) => {
  const found = Object.values(content || {})[0];
  if (!found || !found.schema) return [];
  return [element("h2", title), element("pre", JSON.stringify(resolve(found.schema, root), null, 2))];
};

const operation = (root, path, method, described) => {
  const head = element("summary", "", element("code", `${method.toUpperCase()} ${path}`), element("span", described.summary));
  const body = [element("p", described.description)];
  if (described.requestBody) body.push(...block("Request", described.requestBody.content, root));
  body.push(...block("Answer", described.responses["200"].content, root));
  body.push(...block("Refusal", described.responses["4XX"].content, root));
  return element("details", "", head, ...body);
};

const draw = async () => {
  const root = await (await fetch("/openapi.json")).json();
  const drawn = Object.entries(root.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => operation(root, path, method, described)));
  document.getElementById("operations").replaceChildren(...drawn);
};

draw();
