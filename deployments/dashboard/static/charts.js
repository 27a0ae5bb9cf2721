// Charts by Plotly, which is fetched when the first one is drawn and not before the page is there.

let library;

function plotly() {
  library ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/dashboard/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("The charts could not be loaded."));
    document.head.append(script);
  });
  return library;
}

const token = (name) => {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

/** Colours that can be told apart by most colour-blind people too (Okabe and Ito, 2008). */
export const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#5b4ea3", "#b8a500", "#8a8a8a"];

/**
 * Draw, or draw anew, into `node`. traces: Plotly's; layout: what differs from ours. Each chart's figures stand in a
 * table or a caption too, for who cannot see it: `node` itself is an image with `label`.
 */
export async function draw(node, label, traces, layout = {}) {
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", label);
  const Plotly = await plotly();
  if (!node.isConnected) return;
  const ink = token("ink"), line = token("line"), quiet = token("quiet");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickfont: { color: quiet }, automargin: true };
  await Plotly.react(node, traces, {
    margin: { l: 48, r: 12, t: 8, b: 36 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "inherit", size: 12, color: ink },
    colorway: PALETTE,
    hovermode: "closest",
    showlegend: traces.length > 1,
    legend: { orientation: "h", traceorder: "normal", y: -0.25, yanchor: "top", x: 0 },
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, rangemode: "tozero", ...layout.yaxis },
  }, { responsive: true, displayModeBar: false, displaylogo: false });
}
