// The page of a comparison of runs, drawn after common.js: the curves, and a search of the tables' lines.
const figures = byId("curve-plots");

function drawCurve(plot, title, lines) {
  const shown = new Set();
  const traces = lines.map(([run, steps, values]) => {
    const [row, folder, seed] = data.runs[run];
    const first = !shown.has(row);
    shown.add(row);
    const name = plain(shortened(data.rows[row], 40));
    return {
      x: steps, y: values, name, legendgroup: String(row), showlegend: first,
      mode: steps.length < 12 ? "lines+markers" : "lines",
      line: { color: paletteColour(row), width: 1.5 },
      hovertemplate: `${plain(shortened(folder, 40))}${seed === null ? "" : `, seed ${seed}`}: %{y:.4~g}<extra></extra>`,
    };
  });
  Plotly.react(plot, traces, layout({
    title: { text: plain(shortened(title, 50)), font: { size: 14 }, x: 0.02, xanchor: "left", y: 0.97 },
    margin: { l: 50, r: 10, t: 36, b: 32 },
    showlegend: true,
    legend: { orientation: "h", y: -0.15, font: { size: 11 } },
  }), config);
}

// A quantity has a plot, whose lines are of one level at a time.
function drawCurves() {
  figures.replaceChildren();
  for (const [quantity, lines] of Object.entries(data.curves)) {
    const names = Object.keys(lines);
    const plot = element("div", { class: "plot" });
    const select = element("select", { "aria-label": `Line of ${quantity}` });
    const draw = () => drawCurve(plot, select.value === quantity ? quantity : `${quantity}: ${select.value}`, lines[select.value]);
    fillSelect(select, names.map((name) => [name, shortened(name, 60)]));
    if (quantity in lines) select.value = quantity;
    select.addEventListener("change", draw);
    figures.append(element("div", {}, names.length > 1 ? select : null, plot));
    draw();
  }
}

byId("find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const line of document.querySelectorAll("tbody tr")) line.hidden = !line.textContent.toLowerCase().includes(wanted);
});
drawCurves();
isDark.addEventListener("change", drawCurves);
document.body.dataset.ready = "yes";
