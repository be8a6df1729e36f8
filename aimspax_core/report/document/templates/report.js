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
  function fit(width) {
    for (const place of places) {
      Plotly.relayout(place, { width: width, autosize: width === null });
    }
  }
  window.addEventListener("beforeprint", function () { fit(680); });
  window.addEventListener("afterprint", function () { fit(null); });

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
