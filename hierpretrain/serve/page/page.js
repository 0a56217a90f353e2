"use strict";
// All that comes from the index or from a file's name is put in as text, never as markup.

const by = (id) => document.getElementById(id);
let chosen = [];
let branches = new Map(); // what a branch is called here -> its names

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function say(text, wrong = false) {
  by("message").textContent = text;
  by("message").classList.toggle("wrong", wrong);
}

async function ask(address, options) {
  const response = await fetch(address, options);
  const answer = await response.json().catch(() => ({ error: `the service answered with status ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

const called = (names) => names.join(" / ");

function image(found) {
  const frame = make("div", { className: "picture" });
  if (found.path === null) {
    frame.textContent = "no file";
    return frame;
  }
  const picture = make("img", { src: `api/thumbnail?path=${encodeURIComponent(found.path)}`, alt: "", loading: "lazy" });
  picture.addEventListener("error", () => frame.replaceChildren("no picture"));
  frame.append(picture);
  return frame;
}

function branchButton(names) {
  const button = make("button", { type: "button", className: "branch", title: "search in this branch", textContent: called(names) });
  button.addEventListener("click", () => {
    branches.set(called(names), names);
    by("within").value = called(names);
    search();
  });
  return button;
}

function neighbour(found) {
  const about = Object.entries(found.metadata).map(([name, text]) => make("div", { className: "soft", textContent: `${name}: ${text}` }));
  return make(
    "li",
    {},
    image(found),
    make("span", { className: "score", textContent: found.score.toFixed(3) }),
    ...found.labels.map(branchButton),
    found.key === null ? null : make("div", { textContent: found.key }),
    found.path === null ? null : make("div", { className: "soft", textContent: found.path }),
    ...about,
  );
}

function belongs(found) {
  if (!found) return null;
  const names = found.path.map((name, i) => `${name} (${found.confidences[i].toFixed(2)})`);
  const perhaps = found.next ? `, perhaps ${found.next[0]} (${found.next[1].toFixed(2)})` : "";
  const how = found.calibrated ? "" : " · fractions of votes, not calibrated";
  return make("p", {}, make("span", { className: "class", textContent: (called(names) || "unknown") + perhaps }), make("span", { className: "soft", textContent: how }));
}

function result(file, found) {
  const picture = make("img", { src: URL.createObjectURL(file), alt: "" });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  picture.addEventListener("error", () => picture.remove()); // such as a HEIC, which few browsers show
  return make(
    "section",
    {},
    make("div", { className: "query" }, picture, make("div", {}, make("h2", { textContent: found.query }), belongs(found.classification))),
    make("ol", { className: "found" }, ...found.neighbours.map(neighbour)),
  );
}

async function search() {
  if (!chosen.length) return;
  const files = chosen;
  const form = new FormData();
  for (const file of files) form.append("images", file, file.name);
  form.append("k", by("k").value || "10");
  const branch = by("within").value.trim();
  if (branch) form.append("within", branches.has(branch) ? JSON.stringify(branches.get(branch)) : branch);
  if (by("where").value.trim()) form.append("where", by("where").value.trim());
  if (document.body.dataset.labelled) form.append("classify", "true");
  say(`searching for ${files.length === 1 ? files[0].name : `${files.length} images`} …`);
  by("again").disabled = true;
  try {
    const { results } = await ask("api/search", { method: "POST", body: form });
    by("results").replaceChildren(...results.map((found, i) => result(files[i], found)));
    say(results.every((found) => found.neighbours.length) ? "" : "no image fits the branch and the metadata");
  } catch (error) {
    say(error.message, true);
  }
  by("again").disabled = false;
}

function choose(files) {
  chosen = [...files];
  search();
}

async function start() {
  const drop = by("drop");
  by("files").addEventListener("change", (event) => choose(event.target.files));
  by("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  drop.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); by("files").click(); } });
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // otherwise the browser leaves the page for the file
      drop.classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files);
    });
  }
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) choose(event.clipboardData.files); });
  try {
    const [info, paths] = await Promise.all([ask("api/info"), ask("api/branches")]);
    by("about").textContent = `${info.images.toLocaleString("en")} images, ${info.model}`;
    by("k").max = info.limits.neighbours;
    if (info.labelled && info.calibrated !== null) document.body.dataset.labelled = "yes";
    branches = new Map(paths.map((names) => [called(names), names]));
    by("branches").append(...paths.map((names) => make("option", { value: called(names) })));
    by("where").parentElement.hidden = !info.metadata.length;
    by("within").parentElement.hidden = !paths.length;
  } catch (error) {
    say(error.message, true);
  }
  document.body.dataset.ready = "yes";
}

start();
