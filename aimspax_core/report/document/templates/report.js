"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("data-figures").textContent);
  const places = Array.from(document.querySelectorAll(".plot"));
  const settings = {
    displaylogo: false,
    displayModeBar: "hover",
    responsive: true,
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
    toImageButtonOptions: { format: "svg" },
  };
  for (const place of places) {
    const figure = figures[place.dataset.figure];
    Plotly.newPlot(place, figure.data, figure.layout, settings);
  }
  // Paper has another width than the window.
  const heights = places.map(place => place.style.height);
  window.addEventListener("beforeprint", function () {
    for (const place of places) {
      const square = figures[place.dataset.figure].layout.yaxis.scaleanchor;
      const [width, height] = square ? [330, 350] : [680, 290];
      place.style.height = `${height}px`;
      Plotly.relayout(place, { width, height, autosize: false });
    }
  });
  window.addEventListener("afterprint", function () {
    places.forEach(function (place, number) {
      place.style.height = heights[number];
      Plotly.relayout(place, { width: null, height: null, autosize: true });
    });
  });

  for (const input of document.querySelectorAll(".filter")) {
    const rows = Array.from(input.closest("details").querySelectorAll("tbody tr"));
    input.addEventListener("input", function () {
      const wanted = input.value.toLowerCase();
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
  }
})();
