// What the pages have in common: the data that a file carries, elements, and Plotly. No text of the data becomes markup:
// elements get it as textContent, Plotly as escaped text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// ---------------------------------------------------------------- small helpers
function unpacked(array) {
  const bytes = Uint8Array.from(atob(array.data), (character) => character.charCodeAt(0));
  const kinds = { float32: Float32Array, int32: Int32Array, uint16: Uint16Array, uint8: Uint8Array };
  return new kinds[array.type](bytes.buffer);
}

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function fillSelect(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
}

const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const shortened = (text, most) => (text.length <= most ? text : text.slice(0, most - 1) + "…");
// 0 % is none and 100 % is all
const percent = (value) => {
  const near = (value > 0 && value < 0.1) || (value > 0.99 && value < 1);
  return near ? Math.min(Math.max(100 * value, 0.1), 99.9).toFixed(1) + " %" : (100 * value).toFixed(0) + " %";
};
const number = (value) => value.toLocaleString("en");

// ---------------------------------------------------------------- Plotly
const isDark = matchMedia("screen and (prefers-color-scheme: dark)");
const PALETTE = data.palette.colours;
const paler = (hex) => "#" + [1, 3, 5].map((at) => Math.round(0.65 * parseInt(hex.slice(at, at + 2), 16) + 0.35 * 255).toString(16)).join("");
const paletteColour = (at) => (isDark.matches ? paler(PALETTE[at % PALETTE.length]) : PALETTE[at % PALETTE.length]);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function layout(options) {
  const axis = { gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--line"), automargin: true };
  const { xaxis, yaxis, ...rest } = options;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", size: 13, color: colour("--text") },
    margin: { l: 55, r: 15, t: 15, b: 45 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...rest,
  };
}

const config = { responsive: true, displaylogo: false, displayModeBar: false };
