"use strict";

// Draws /openapi.json. Text goes in by textContent only: nothing in the document can become markup.
const resolve = (schema, root, depth = 0) => {
  if (depth > 8 || schema === null || typeof schema !== "object") return schema;
  if (Array.isArray(schema)) return schema.map((one) => resolve(one, root, depth + 1));
  if (schema.$ref) return resolve(root.components.schemas[schema.$ref.split("/").pop()], root, depth + 1);
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolve(value, root, depth + 1)]));
};

// The smallest value that a resolved schema allows, so that it can be copied and sent.
const plain = { string: "…", number: 0.5, integer: 1, boolean: true, array: [], object: {}, null: null };
const sample = (schema) => {
  if (schema.examples) return schema.examples[0];
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return sample(schema.anyOf[0]);
  if (schema.type === "array") return Array.from({ length: Math.max(1, schema.minItems) }, () => sample(schema.items));
  if (schema.properties) return Object.fromEntries((schema.required || []).map((name) => [name, sample(schema.properties[name])]));
  return plain[Array.isArray(schema.type) ? schema.type[0] : schema.type] ?? {};
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
  const schema = resolve(found.schema, root);
  const whole = element("details", "", element("summary", "Schema"), element("pre", JSON.stringify(schema, null, 2)));
  return [element("h2", title), element("pre", JSON.stringify(sample(schema))), whole];
};

const operation = (root, path, method, described) => {
  const head = element("summary", "", element("strong", `${method.toUpperCase()} ${path}`), element("span", described.summary));
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
