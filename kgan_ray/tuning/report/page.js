// Draw every chart from the data inside it, in the colour of the page's text, light or dark.
const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => ({"font.color": getComputedStyle(document.body).color});
const options = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
  toImageButtonOptions: {format: "svg", filename: document.title},
};
for (const place of document.querySelectorAll(".chart")) {
  const {data, layout} = JSON.parse(place.querySelector("script").textContent);
  Plotly.newPlot(place, data, layout, options).then(() => Plotly.relayout(place, ink()));
  dark.addEventListener("change", () => Plotly.relayout(place, ink()));
}
