// The page of a report, drawn after common.js: the map, the tables and the curves.
const NONE = -1;

// ---------------------------------------------------------------- the tree
const tree = data.tree;
const parents = unpacked(tree.parents);
const levelOf = unpacked(tree.level_of);
const children = new Map([[NONE, []]]);
parents.forEach((parent, node) => {
  if (!children.has(parent)) children.set(parent, []);
  children.get(parent).push(node);
});

function pathOf(node) {
  const names = [];
  for (let at = node; at !== NONE; at = parents[at]) names.unshift(tree.names[at]);
  return names;
}

function ancestorAt(node, level) {
  let at = node;
  while (at !== NONE && levelOf[at] > level) at = parents[at];
  return at !== NONE && levelOf[at] === level ? at : NONE;
}

// ---------------------------------------------------------------- the searches that were measured
const NO_SEARCH = { title: "", recall: [], quality: null, confusion: [], examples: [] };
let current = NO_SEARCH; // the search that recall, tree, siblings and queries are of
let quality = null;

function showSearch(at) {
  current = data.searches[at] || NO_SEARCH;
  quality = current.quality && Object.fromEntries(Object.entries(current.quality).map(([name, packed]) => [name, unpacked(packed)]));
  document.querySelectorAll(".searched").forEach((line) => { line.textContent = current.title; });
  drawRecall();
  showTree();
  showSiblings();
  showQueries();
}

function setUpSearches() {
  fillSelect(byId("search"), data.searches.map((search, at) => [String(at), shortened(search.title, 60)]));
  byId("search-label").hidden = data.searches.length < 2;
  byId("search").addEventListener("change", () => showSearch(Number(byId("search").value)));
  setUpTree();
  byId("siblings-node").addEventListener("change", drawSiblings);
  byId("queries-level").addEventListener("change", drawQueries);
  showSearch(0);
}

// ---------------------------------------------------------------- the images
const leaves = unpacked(data.images.leaves);
const pathsPerImage = data.images.paths_per_image;
const splits = unpacked(data.images.splits);
const leavesOf = (image) => Array.from(leaves.subarray(image * pathsPerImage, (image + 1) * pathsPerImage)).filter((leaf) => leaf !== NONE);
const labelOf = (image) => leavesOf(image).map((leaf) => pathOf(leaf).join(" › ")).join(" · ") || "";
const isOn = (image, node) => leavesOf(image).some((leaf) => ancestorAt(leaf, levelOf[node]) === node);
const nodesAt = (image, level) => new Set(leavesOf(image).map((leaf) => ancestorAt(leaf, level)).filter((node) => node !== NONE));

// Pictures are cut from sheets, each of which is decoded when one of its pictures is first shown.
const sheets = new Map();
function sheet(id) {
  if (!sheets.has(id)) {
    const image = new Image();
    image.src = "data:image/webp;base64," + byId(id).textContent;
    sheets.set(id, image.decode().then(() => image));
  }
  return sheets.get(id);
}

const largeAt = new Map(data.pictures.large.images.map((image, at) => [image, at]));
function paint(canvas, image) {
  const large = largeAt.has(image);
  const source = large ? data.pictures.large : data.pictures.small;
  const at = large ? largeAt.get(image) : image;
  canvas.dataset.image = image;
  canvas.classList.add("picture");
  const perSheet = source.columns * source.columns;
  const id = `${large ? "large" : "small"}-${Math.floor(at / perSheet)}`;
  const pen = canvas.getContext("2d");
  if (!source.side || !byId(id)) {
    canvas.width = canvas.height = 1;
    pen.fillStyle = "#bebebe";
    pen.fillRect(0, 0, 1, 1);
    return Promise.resolve();
  }
  return sheet(id).then((picture) => {
    if (canvas.dataset.image !== String(image)) return; // another one was asked for meanwhile
    canvas.width = canvas.height = source.side;
    const columns = Math.min(source.columns, picture.width / source.side);
    const place = at % perSheet;
    const [x, y] = [(place % columns) * source.side, Math.floor(place / columns) * source.side];
    pen.drawImage(picture, x, y, source.side, source.side, 0, 0, source.side, source.side);
  });
}

function thumbnail(image, options = {}) {
  const canvas = element("canvas", options);
  paint(canvas, image);
  return canvas;
}

// ---------------------------------------------------------------- the map
const xs = unpacked(data.map.x);
const ys = unpacked(data.map.y);
const numPoints = xs.length;
const hasWebGL = (() => {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl") || canvas.getContext("experimental-webgl"));
})();
const MOST_WITHOUT_WEBGL = 8000;
let highlighted = NONE; // a node whose images alone are coloured
let pinned = NONE;

// Returns [group of each point, name of a group]; the group NONE is grey.
function grouping(choice) {
  const groups = new Int32Array(numPoints).fill(NONE);
  if (choice === "node") {
    for (let i = 0; i < numPoints; i++) groups[i] = isOn(i, highlighted) ? 0 : NONE;
    return [groups, () => tree.names[highlighted], "elsewhere"];
  }
  const [kind, at] = choice.split(":");
  if (kind === "split") {
    for (let i = 0; i < numPoints; i++) groups[i] = splits[i];
    return [groups, (group) => data.images.split_names[group], "other"];
  }
  if (kind === "flat") {
    groups.set(unpacked(data.flat[at].ids).subarray(0, numPoints));
    return [groups, (group) => data.flat[at].values[group], "other"];
  }
  for (let i = 0; i < numPoints; i++) {
    const nodes = nodesAt(i, Number(at));
    if (nodes.size === 1) groups[i] = nodes.values().next().value;
  }
  return [groups, (group) => tree.names[group], "other"];
}

function mapTraces() {
  const split = byId("map-split").value;
  const [groups, nameOf, otherName] = grouping(byId("map-colour").value);
  const members = new Map();
  const step = hasWebGL ? 1 : Math.ceil(numPoints / MOST_WITHOUT_WEBGL);
  for (let i = 0; i < numPoints; i += step) {
    if (split !== "" && splits[i] !== Number(split)) continue;
    if (!members.has(groups[i])) members.set(groups[i], []);
    members.get(groups[i]).push(i);
  }
  const known = [...members.keys()].filter((group) => group !== NONE);
  known.sort((a, b) => members.get(b).length - members.get(a).length || a - b);
  const rest = known.slice(PALETTE.length).flatMap((group) => members.get(group));
  const grey = rest.concat(members.get(NONE) || []);
  const size = Math.max(3, Math.min(8, 330 / Math.sqrt(Math.max(1, numPoints / step))));
  const trace = (points, name, marker) => ({
    type: hasWebGL ? "scattergl" : "scatter",
    mode: "markers",
    x: points.map((i) => xs[i]),
    y: points.map((i) => ys[i]),
    customdata: points,
    name: plain(`${shortened(name, 28)} (${number(points.length)})`),
    hoverinfo: "none",
    marker: { size, line: { width: 0 }, ...marker },
  });
  const traces = known.slice(0, PALETTE.length).map((group, at) =>
    trace(members.get(group), nameOf(group), { color: paletteColour(at), symbol: data.palette.symbols[at], opacity: 0.85 })
  );
  if (grey.length) traces.unshift(trace(grey, otherName, { color: colour("--other"), opacity: 0.55, size: size * 0.8 }));
  if (grey.length) traces[0].legendrank = 2000; // drawn first, below the others, but named last
  return traces;
}

function drawMap() {
  const wide = byId("map-plot").clientWidth > 640;
  const hidden = { visible: false, showgrid: false, zeroline: false };
  const legend = wide
    ? { itemsizing: "constant", font: { size: 12 }, x: 1.01, y: 1, traceorder: "normal" }
    : { itemsizing: "constant", font: { size: 11 }, orientation: "h", y: -0.02 };
  return Plotly.react(
    "map-plot",
    mapTraces(),
    layout({
      xaxis: hidden,
      yaxis: { ...hidden, scaleanchor: wide ? undefined : "x" },
      margin: { l: 5, r: 5, t: 5, b: 5 },
      dragmode: "zoom",
      hovermode: "closest",
      legend,
      showlegend: true,
      uirevision: "map",
      annotations: pinned === NONE ? [] : [{ x: xs[pinned], y: ys[pinned], text: "", showarrow: true, arrowhead: 6, arrowsize: 1.2, arrowcolor: colour("--text"), ax: 0, ay: -34, axref: "pixel" }],
    }),
    config
  );
}

function showTip(image, event) {
  const tip = byId("tip");
  const canvas = element("canvas");
  tip.replaceChildren(canvas, element("div", { class: "label" }, labelOf(image)), element("div", { class: "file" }, data.images.paths[image]));
  tip.hidden = false;
  paint(canvas, image);
  const [x, y] = [event.clientX, event.clientY];
  tip.style.left = (x + 200 > window.innerWidth ? x - 196 : x + 16) + "px";
  tip.style.top = Math.max(4, Math.min(y + 12, window.innerHeight - tip.offsetHeight - 4)) + "px";
}

const neighbours = data.neighbours.k ? unpacked(data.neighbours.rows) : new Int32Array();
const similarities = data.neighbours.k ? unpacked(data.neighbours.similarities) : new Uint16Array();

function pin(image) {
  pinned = image;
  const k = data.neighbours.k;
  const found = Array.from({ length: k }, (_, rank) => [neighbours[image * k + rank], similarities[image * k + rank] / 32767 - 1]);
  const grid = element("div", { class: "grid" });
  for (const [other, similarity] of found) {
    const title = `${labelOf(other)}\n${data.images.paths[other]}\nsimilarity ${similarity.toFixed(3)}`;
    grid.append(element("button", { type: "button", title, onclick: () => pin(other) }, thumbnail(other), similarity.toFixed(2)));
  }
  byId("pin").replaceChildren(
    thumbnail(image, { class: "big" }),
    element("div", { class: "label", title: labelOf(image) }, labelOf(image) || "no label"),
    element("div", { class: "file", title: data.images.paths[image] }, data.images.paths[image]),
    element("h3", {}, k ? "Nearest neighbours" : "There is no other image"),
    grid,
    k ? element("p", {}, "With the cosine similarity. Click one to pin it.") : null
  );
  return drawMap();
}

function setUpMap() {
  const choices = tree.levels.map((name, at) => [`level:${at + 1}`, name]);
  data.flat.forEach((column, at) => choices.push([`flat:${at}`, column.name]));
  choices.push(["split:", "split"]);
  fillSelect(byId("map-colour"), choices);
  byId("map-colour").addEventListener("change", drawMap);
  fillSelect(byId("map-split"), [["", "all"], ...data.images.split_names.map((name, at) => [String(at), name])]);
  byId("map-split-label").hidden = data.images.split_names.length < 2;
  byId("map-split").addEventListener("change", drawMap);
  pin(0).then(() => { // any image shows what a click does
    performance.mark("map drawn");
    byId("map-plot").dataset.drawn = "yes";
    const plot = byId("map-plot");
    plot.on("plotly_hover", (found) => showTip(found.points[0].customdata, found.event));
    plot.on("plotly_unhover", () => { byId("tip").hidden = true; });
    plot.on("plotly_click", (found) => pin(found.points[0].customdata));
  });
}

function showOnMap(node) {
  highlighted = node;
  const select = byId("map-colour");
  select.querySelector("option[value=node]")?.remove();
  select.append(element("option", { value: "node" }, `only ${shortened(tree.names[node], 40)}`));
  select.value = "node";
  drawMap();
  byId("map").scrollIntoView();
}

// ---------------------------------------------------------------- recall
function drawRecall() {
  byId("recall-plot").hidden = !current.recall.length;
  const none = data.searches.length > 1 ? "No query shares a node with any image of the gallery." : "";
  byId("recall-note").textContent = current.recall.length ? (pathsPerImage > 1 ? LEFT_OUT : "") : none;
  if (!current.recall.length) return;
  byId("recall-plot").style.height = "400px";
  const traces = current.recall.map((curve, at) => ({
    x: curve.ks,
    y: curve.values.map((value) => 100 * value),
    mode: curve.ks.length > 1 ? "lines" : "markers",
    name: plain(shortened(curve.name, 30)),
    line: { color: paletteColour(at), width: 2.5 },
    hovertemplate: "recall@%{x}: %{y:.1f} %",
  }));
  const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
  Plotly.react("recall-plot", traces, layout({
    xaxis: { type: "log", title: { text: "k" }, tickvals: ticks, ticktext: ticks.map(number) },
    yaxis: { title: { text: "recall@k, %" }, rangemode: "tozero" },
    hovermode: "x unified",
    legend: { x: 0.99, xanchor: "right", y: 0.03, bgcolor: "rgba(0,0,0,0)" },
    showlegend: true,
  }), config);
}

// ---------------------------------------------------------------- the tree's table
const shareOf = (node) => (quality.offered[node] > Number(current.same_set) ? quality.right[node] / quality.images[node] : null);
const opened = new Set();
const ROWS = 200;
let rowLimit = ROWS;

function sorted(nodes) {
  const order = {
    worst: (a, b) => (shareOf(a) ?? 2) - (shareOf(b) ?? 2) || quality.images[b] - quality.images[a] || a - b,
    largest: (a, b) => quality.images[b] - quality.images[a] || a - b,
    name: (a, b) => tree.names[a].localeCompare(tree.names[b]) || a - b,
  };
  return nodes.filter((node) => quality.images[node] > 0).sort(order[byId("tree-sort").value]);
}

function treeRows() {
  const view = byId("tree-view").value;
  const wanted = byId("tree-find").value.toLowerCase();
  const least = Number(byId("tree-least").value) || 1;
  if (view === "tree" && !wanted) {
    const rows = [];
    const add = (node, depth) => {
      rows.push([node, depth]);
      if (opened.has(node)) sorted(children.get(node) || []).forEach((child) => add(child, depth + 1));
    };
    sorted(children.get(NONE)).forEach((node) => add(node, 0));
    return rows;
  }
  const nodes = [];
  for (let node = 0; node < tree.names.length; node++) {
    const fits = view === "tree" || levelOf[node] === Number(view);
    if (fits && quality.images[node] >= least && (!wanted || tree.names[node].toLowerCase().includes(wanted))) nodes.push(node);
  }
  return sorted(nodes).map((node) => [node, 0]);
}

function treeRow([node, depth], inTree) {
  const share = shareOf(node);
  const below = inTree && (children.get(node) || []).some((child) => quality.images[child] > 0);
  const fold = below
    ? element("button", { class: "fold", type: "button", "aria-expanded": opened.has(node), "aria-label": "children", onclick: () => { opened.has(node) ? opened.delete(node) : opened.add(node); drawTree(); } }, opened.has(node) ? "▾" : "▸")
    : element("span", { class: "fold", "aria-hidden": "true" }, "·");
  const name = element("div", {}, element("button", { class: "node", type: "button", onclick: () => showOnMap(node) }, tree.names[node]));
  if (!inTree && parents[node] !== NONE) name.append(element("span", { class: "of" }, "  in " + pathOf(parents[node]).join(" › ")));
  const first = element("td", {}, element("div", { class: "name" }, inTree ? fold : null, name));
  first.firstChild.style.marginLeft = Math.min(1.3 * depth, 10) + "rem";
  const cell = element("td");
  if (share === null) cell.append(element("span", { class: "of" }, "nothing to find"));
  else {
    const bar = element("i");
    bar.style.width = 100 * share + "%";
    cell.append(element("div", { class: share < 0.5 ? "share poor" : "share" }, element("div", { class: "meter" }, bar), element("span", {}, percent(share))));
  }
  const other = quality.mixed_with[node];
  const mixed = element("td", {});
  if (other !== NONE) {
    mixed.append(element("bdi", {}, tree.names[other]), element("span", { class: "of" }, `  ${number(quality.mixed[node])} of ${number(quality.images[node])}`));
    mixed.title = pathOf(other).join(" › ");
  }
  const row = element("tr", {}, first, element("td", { class: "number" }, number(quality.images[node])), cell, mixed);
  row.dataset.node = node;
  return row;
}

function drawTree() {
  const inTree = byId("tree-view").value === "tree" && !byId("tree-find").value;
  byId("tree-least-label").hidden = inTree;
  const rows = treeRows();
  byId("tree-table").tBodies[0].replaceChildren(...rows.slice(0, rowLimit).map((row) => treeRow(row, inTree)));
  byId("tree-more").hidden = rows.length <= rowLimit;
  byId("tree-count").textContent = rows.length > rowLimit ? `${number(rowLimit)} of ${number(rows.length)} nodes` : "";
}

function setUpTree() {
  fillSelect(byId("tree-view"), [["tree", "the tree"], ...tree.levels.map((name, at) => [String(at + 1), `all nodes of ${name}`])]);
  for (const id of ["tree-view", "tree-sort", "tree-least", "tree-find"]) {
    byId(id).addEventListener("input", () => { rowLimit = ROWS; drawTree(); });
  }
  byId("tree-more").addEventListener("click", () => { rowLimit += ROWS; drawTree(); });
}

function showTree() {
  byId("tree-body").hidden = !quality;
  if (!quality) return;
  const top = sorted(children.get(NONE));
  if (top.length === 1) opened.add(top[0]);
  drawTree();
}

// ---------------------------------------------------------------- siblings
function drawSiblings() {
  const found = current.confusion[Number(byId("siblings-node").value)];
  if (!found) return;
  const names = found.children.map((node) => tree.names[node]);
  const width = names.length;
  const rest = found.num_children > width;
  const columns = rest ? [...names, "(others)"] : names;
  const totals = found.counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const shares = found.counts.map((row, a) => columns.map((_, b) => (totals[a] ? row[b] / totals[a] : null)));
  const hover = found.counts.map((row, a) => columns.map((name, b) =>
    `${plain(names[a])} → ${plain(name)}<br>${number(row[b])} of ${number(totals[a])} queries`));
  const ticks = columns.map((_, at) => at);
  const labels = columns.map((name) => plain(shortened(name, 22)));
  const few = columns.length <= 14;
  const written = shares.map((row) => row.map((share) => (few && share ? percent(share) : "")));
  byId("siblings-plot").style.maxWidth = 330 + 60 * columns.length + "px";
  byId("siblings-plot").style.height = Math.max(260, 150 + 30 * width) + "px";
  Plotly.react("siblings-plot", [{
    type: "heatmap",
    x: ticks, y: ticks.slice(0, width), z: shares, text: written, texttemplate: "%{text}", customdata: hover,
    hovertemplate: "%{customdata}, %{z:.0%}<extra></extra>",
    colorscale: [[0, colour("--card")], [0.15, colour("--accent-soft")], [1, colour("--accent")]],
    zmin: 0, zmax: 1, xgap: 1, ygap: 1,
    colorbar: { tickformat: ".0%", thickness: 12, outlinewidth: 0, len: Math.min(1, 200 / (30 * width + 60) + 0.2) },
  }], layout({
    xaxis: { tickvals: ticks, ticktext: labels, tickangle: -45, side: "bottom", showgrid: false, zeroline: false, title: { text: "nearest neighbour" } },
    yaxis: { tickvals: ticks.slice(0, width), ticktext: labels.slice(0, width), autorange: "reversed", showgrid: false, zeroline: false },
  }), config).then(() => Plotly.Plots.resize("siblings-plot"));
  const parent = found.parent === NONE ? "the root" : pathOf(found.parent).join(" › ");
  byId("siblings-note").textContent =
    `${number(found.num_wrong)} of ${number(found.num_images)} queries in ${parent} have a nearest neighbour of another child.` +
    (rest ? ` Shown are the ${width} of ${number(found.num_children)} children that most errors are of or lead to.` : "");
}

function showSiblings() {
  byId("siblings-body").hidden = !current.confusion.length;
  if (!current.confusion.length) return;
  const share = (found) => found.num_wrong / found.num_images;
  const enough = (found) => found.num_images >= 20;
  const order = current.confusion.map((_, at) => at);
  order.sort((a, b) => enough(current.confusion[b]) - enough(current.confusion[a]) || share(current.confusion[b]) - share(current.confusion[a]) || a - b);
  fillSelect(byId("siblings-node"), order.map((at) => {
    const found = current.confusion[at];
    const name = found.parent === NONE ? "(root)" : pathOf(found.parent).join(" › ");
    return [String(at), `${shortened(name, 60)}: ${percent(share(found))} of ${number(found.num_images)} wrong`];
  }));
  drawSiblings();
}

// ---------------------------------------------------------------- best and worst queries
// The paths of an image; of the one that shares most with the query, the shared names stand out.
function captionOf(image, asked) {
  const paths = leavesOf(image).map(pathOf);
  const inCommon = (path) => Math.max(0, ...asked.map((other) => {
    const differ = path.findIndex((name, at) => name !== other[at]);
    return differ === NONE ? path.length : differ;
  }));
  const caption = element("div", { class: "path" });
  paths.forEach((path, at) => {
    const common = inCommon(path);
    if (at) caption.append(" · ");
    if (common) caption.append(element("span", { class: "common" }, path.slice(0, common).join(" › ")));
    caption.append((common && common < path.length ? " › " : "") + path.slice(common).join(" › "));
  });
  return caption;
}

function shot(image, asked, found) {
  const frame = element("div", { class: "frame" }, thumbnail(image));
  if (found) {
    const mark = element("span", { class: "mark" }, found.mark);
    frame.style.borderColor = mark.style.background = tree.grades[found.shared];
    frame.append(mark);
    if (found.copies > 1) frame.append(element("span", { class: "copies", title: `${found.copies} files of the same content` }, `×${found.copies}`));
  }
  const title = `${labelOf(image)}\n${data.images.paths[image]}`;
  const made = element("div", { class: found ? "shot" : "shot asked", title }, frame, captionOf(image, asked));
  made.dataset.image = image;
  if (found) made.dataset.shared = found.shared;
  return made;
}

const LEFT_OUT = "An image on several nodes of a level is left out of its recall and of its average precision.";
function drawQueries() {
  const found = current.examples[Number(byId("queries-level").value)];
  const rows = [];
  for (const [title, queries, none] of [["Worst", found.worst, "No query has an error at this level."], ["Best", found.best, ""]]) {
    rows.push(element("h3", {}, title));
    if (!queries.length) rows.push(element("p", { class: "missing" }, none));
    for (const query of queries) {
      const paths = leavesOf(query.image).map(pathOf);
      const asked = shot(query.image, paths, null);
      asked.append(element("div", { class: "of" }, `${found.score} ${(100 * query.precision).toFixed(1)} %, ${number(query.num_relevant)} to find`));
      rows.push(element("div", { class: "query" }, asked, ...query.neighbours.map((neighbour) => shot(neighbour.image, paths, neighbour))));
    }
  }
  if (pathsPerImage > 1) rows.push(element("p", { class: "note" }, LEFT_OUT));
  byId("queries-rows").replaceChildren(...rows);
}

function showQueries() {
  byId("queries-body").hidden = !current.examples.length;
  if (!current.examples.length) return;
  const names = ["nothing in common", ...tree.levels];
  byId("grades").replaceChildren(...names.map((name, at) => {
    const key = element("span", { class: "key" });
    key.style.background = tree.grades[at];
    return element("span", {}, key, name);
  }).reverse());
  fillSelect(byId("queries-level"), current.examples.map((found, at) => [String(at), found.name]));
  drawQueries();
}

// ---------------------------------------------------------------- training
// What was measured once is a line of a table; what was measured more often a curve.
function drawTraining() {
  const plots = byId("training-plots");
  const values = element("tbody");
  plots.replaceChildren();
  for (const [name, lines] of Object.entries(data.history)) {
    const curves = Object.entries(lines);
    if (curves.every(([, [steps]]) => steps.length < 2)) {
      for (const [line, [steps, [value]]] of curves) {
        const cells = [name, line === name ? "" : line, Number(value.toPrecision(4)), number(steps[0])];
        values.append(element("tr", {}, ...cells.map((text, at) => element("td", { class: at > 1 ? "number" : "" }, String(text)))));
      }
      continue;
    }
    const plot = element("div", { class: "plot" });
    plots.append(plot);
    const traces = curves.map(([line, [steps, values]], at) => ({
      x: steps, y: values, name: plain(shortened(line, 30)),
      mode: steps.length < 12 ? "lines+markers" : "lines",
      line: { color: paletteColour(at), width: 2 },
      hovertemplate: "%{y:.4~g}",
    }));
    Plotly.newPlot(plot, traces, layout({
      title: { text: plain(shortened(name, 40)), font: { size: 14 }, x: 0.02, xanchor: "left", y: 0.97 },
      margin: { l: 50, r: 10, t: 36, b: 32 },
      showlegend: traces.length > 1,
      legend: { orientation: "h", y: -0.15, font: { size: 11 } },
      hovermode: "x unified",
    }), config);
  }
  byId("training-values").replaceChildren();
  if (!values.childElementCount) return;
  const heads = ["Measured once", "", "Value", "At"].map((text, at) => element("th", { class: at > 1 ? "number" : "" }, text));
  byId("training-values").append(element("table", {}, element("thead", {}, element("tr", {}, ...heads)), values));
}

// ---------------------------------------------------------------- all of it
setUpMap();
setTimeout(() => { // the map comes first
  setUpSearches();
  drawTraining();
  document.body.dataset.ready = "yes";
});
isDark.addEventListener("change", () => {
  drawMap();
  drawRecall();
  drawSiblings();
  drawTraining();
});
