// The pipeline as a drawing: resources, topics, handlers and sinks, from left to right as events go.

import { number, millis, s } from './dom.js';

/** A subscriber's box has figures in it; others are as wide as the longest name of their column, and no wider than that. */
const WIDTH = 164;
const LETTER = 7.5;
const HEIGHT = 46;
const GAP = { x: 28, y: 20 };
/** How small it may get before it is scrolled instead. */
const SMALLEST = 0.7;

/** What the report says is there: nodes by id, and the edges between them. */
export function topology(report) {
  const nodes = new Map();
  const edges = [];
  const node = (id, kind, name) => nodes.set(id, nodes.get(id) ?? { id, kind, name, depth: 0 });
  const topic = (name) => node(`topic ${name}`, 'topic', name) && `topic ${name}`;
  for (const { name, topic: its } of report.resources) {
    node(`resource ${name}`, 'resource', `POST /${name}`);
    edges.push([`resource ${name}`, topic(its)]);
  }
  for (const { name, kind, subscribe, publish } of report.subscribers) {
    node(`subscriber ${name}`, kind, name);
    for (const from of subscribe) edges.push([topic(from), `subscriber ${name}`]);
    for (const to of publish) edges.push([`subscriber ${name}`, topic(to)]);
  }
  // Each stands behind all that lead to it. A circle would have no end: as many rounds as there are nodes.
  for (let round = 0, moved = true; moved && round < nodes.size; round += 1) {
    moved = false;
    for (const [from, to] of edges) {
      const depth = Math.min(nodes.get(from).depth + 1, nodes.size);
      if (nodes.get(to).depth < depth) {
        nodes.get(to).depth = depth;
        moved = true;
      }
    }
  }
  return { nodes: [...nodes.values()], edges };
}

/** The drawing, and how to bring it up to date. */
export function graph(report) {
  const { nodes, edges } = topology(report);
  const columns = new Map();
  for (const node of nodes) columns.set(node.depth, [...(columns.get(node.depth) ?? []), node]);
  const depths = [...columns.keys()].sort((a, b) => a - b);
  const most = Math.max(1, ...[...columns.values()].map((column) => column.length));
  const height = most * (HEIGHT + GAP.y);
  const at = new Map(nodes.map((node) => [node.id, node]));
  let right = 2;
  depths.forEach((depth) => {
    const inIt = columns.get(depth);
    // Each beside what leads to it, so that few edges cross.
    const pull = new Map(inIt.map((node) => [node, middle(edges.filter(([, to]) => to === node.id).map(([from]) => at.get(from).y))]));
    inIt.sort((a, b) => pull.get(a) - pull.get(b));
    const width = Math.max(...inIt.map(least));
    inIt.forEach((node, row) => {
      node.x = right;
      node.width = width;
      node.y = (height - inIt.length * (HEIGHT + GAP.y)) / 2 + row * (HEIGHT + GAP.y) + GAP.y / 2;
    });
    right += width + GAP.x;
  });
  const paths = edges.map(([from, to]) => ({ from, to, element: s('path', { class: 'edge', d: way(at.get(from), at.get(to)) }) }));
  const boxes = nodes.map((node) => box(node));
  const width = right - GAP.x + 2;
  const element = s('svg', { class: 'graph', viewBox: `0 0 ${width} ${height}`, width: width * SMALLEST, role: 'group', 'aria-label': 'The pipeline' },
    paths.map((path) => path.element), boxes.map((each) => each.element));
  const update = (now) => {
    const subscribers = new Map(now.subscribers.map((each) => [`subscriber ${each.name}`, each]));
    for (const { from, to, element: path } of paths) {
      const [reader, writer] = [subscribers.get(to), subscribers.get(from)];
      const recent = now.recent[(reader ?? writer)?.name];
      const busy = reader ? recent?.events_per_s > 0 : writer ? recent?.outputs_per_s > 0 : isRead(now, to);
      path.classList.toggle('busy', Boolean(busy));
    }
    for (const each of boxes) each.update(subscribers.get(each.id), now);
  };
  update(report);
  return { element, update };
}

const isRead = (report, topic) =>
  report.subscribers.some(({ name, subscribe }) => subscribe.includes(topic.slice('topic '.length)) && report.recent[name]?.events_per_s > 0);

/** The mean of what is placed already. */
function middle(heights) {
  const placed = heights.filter((height) => height !== undefined);
  return placed.length === 0 ? 0 : placed.reduce((sum, height) => sum + height, 0) / placed.length;
}

const isSubscriber = ({ id }) => id.startsWith('subscriber ');
const least = (node) => (isSubscriber(node) ? WIDTH : Math.min(WIDTH, 24 + LETTER * node.name.length));

function box(node) {
  const { id, kind, name, x, y, width } = node;
  const small = s('text', { class: 'small', x: 10, y: 36 });
  const shape = s('g', { class: kind, transform: `translate(${x} ${y})` },
    s('rect', { width, height: HEIGHT, rx: kind === 'topic' ? 22 : 8 }),
    s('text', { x: 10, y: 20 }, name.length > 21 ? `${name.slice(0, 20)}…` : name), s('title', {}, name), small);
  const element = isSubscriber(node) ? s('a', { href: `#/handlers/${encodeURIComponent(name)}` }, shape) : shape;
  const update = (subscriber, report) => {
    if (!isSubscriber(node)) {
      small.textContent = kind;
      return;
    }
    const recent = report.recent[name] ?? {};
    const troubled = subscriber?.shards.some((shard) => shard.state !== 'running') || recent.failures_per_s > 0;
    shape.classList.toggle('failing', Boolean(troubled));
    const parked = subscriber?.shards.reduce((sum, shard) => sum + shard.parked_keys, 0);
    small.textContent = [
      `${number(recent.events_per_s ?? 0)}/s`,
      recent.commit_p99_ms != null && `commit p99 ${millis(recent.commit_p99_ms)}`,
      parked > 0 && `${parked} parked`,
    ].filter(Boolean).join(' · ');
  };
  return { id, element, update };
}

function way(from, to) {
  const [x1, y1, x2, y2] = [from.x + from.width, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const bend = Math.max(24, Math.abs(x2 - x1) / 2);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}
