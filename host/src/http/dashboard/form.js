// A form made from a JSON Schema, as far as forms go: objects, lists, texts, numbers, choices. What a schema says beyond
// that is the host's to judge: its answer names each fault.

import { h } from './dom.js';

/** A field for a value of this schema: its element, and what it holds; nothing where it was left empty. */
export function field(schema, name = '', required = true) {
  const kind = [schema.type].flat().find((type) => type !== 'null');
  if (schema.enum) return choice(schema, name, required);
  if (kind === 'object' && schema.properties) return object(schema, name);
  if (kind === 'array' && schema.items) return list(schema, name, required);
  if (kind === 'boolean') return check(schema, name, required);
  if (kind === 'integer' || kind === 'number') return text(schema, name, required, Number, kind);
  if (kind === 'string') return text(schema, name, required, String, kind);
  return text(schema, name, required, JSON.parse, 'json');
}

function object(schema, name) {
  const needed = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties)
    .sort(([a], [b]) => needed.has(b) - needed.has(a))
    .map(([key, of]) => [key, field(of, key, needed.has(key))]);
  const rare = fields.filter(([key]) => !needed.has(key)).map(([, each]) => each.element);
  const element = h('fieldset', {}, name && h('legend', {}, name),
    fields.filter(([key]) => needed.has(key)).map(([, each]) => each.element),
    rare.length > 0 && h('details', {}, h('summary', {}, `optional: ${fields.filter(([key]) => !needed.has(key)).map(([key]) => key).join(', ')}`), rare));
  const value = () => {
    const held = fields.map(([key, each]) => [key, each.value()]).filter(([, of]) => of !== undefined);
    return held.length > 0 || needed.size > 0 ? Object.fromEntries(held) : undefined;
  };
  return { element, value };
}

function list(schema, name, required) {
  const entries = [];
  const place = h('div');
  // Of all that were ever there, so that no two have one name.
  let count = 0;
  const add = () => {
    count += 1;
    const called = `${name} ${count}`;
    const entry = field(schema.items, called);
    const row = h('div', {}, entry.element, h('button', { type: 'button', class: 'plain', onclick: () => {
      entries.splice(entries.indexOf(entry), 1);
      row.remove();
    } }, `Remove ${called}`));
    entries.push(entry);
    place.append(row);
  };
  while (required && entries.length < Math.max(1, schema.minItems ?? 0)) add();
  const element = h('fieldset', {}, h('legend', {}, name), place, h('button', { type: 'button', class: 'plain', onclick: add }, `Add to ${name}`));
  return { element, value: () => (entries.length > 0 || required ? entries.map((entry) => entry.value()) : undefined) };
}

function labelled(schema, name, input) {
  const id = `f${(labelled.count = (labelled.count ?? 0) + 1)}`;
  input.id = id;
  const hint = schema.description && h('small', { class: 'faint', id: `${id}-hint` }, schema.description);
  if (hint) input.setAttribute('aria-describedby', hint.id);
  return h('div', { class: 'field' }, h('label', { for: id }, name), input, hint);
}

function text(schema, name, required, parse, kind) {
  const example = schema.examples?.[0] ?? schema.default;
  const input = kind === 'json' ? h('textarea', { name, required, rows: 4, spellcheck: 'false' }) : h('input', {
    name, required, autocomplete: 'off', maxlength: schema.maxLength, placeholder: example,
    type: kind === 'integer' || kind === 'number' ? 'number' : 'text',
    step: kind === 'number' ? 'any' : null, min: schema.minimum, max: schema.maximum,
  });
  if (required && example !== undefined) input.value = typeof example === 'object' ? JSON.stringify(example) : example;
  return { element: labelled(schema, name, input), value: () => (input.value === '' ? undefined : parse(input.value)) };
}

function choice(schema, name, required) {
  const input = h('select', { name, required }, !required && h('option', { value: '' }, ''), schema.enum.map((value, index) => h('option', { value: index }, String(value))));
  return { element: labelled(schema, name, input), value: () => (input.value === '' ? undefined : schema.enum[Number(input.value)]) };
}

function check(schema, name, required) {
  const input = h('input', { name, type: 'checkbox' });
  return { element: labelled(schema, name, input), value: () => input.checked || (required ? false : undefined) };
}
