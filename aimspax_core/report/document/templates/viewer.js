"use strict";
(function () {
  const scenes = JSON.parse(document.getElementById("data-structures").textContent);
  const place = document.getElementById("viewer");
  const choice = document.getElementById("which");
  if (!place || !scenes.length) { return; }
  const light = { ambient: 0.8, diffuse: 0.6, specular: 0.15, roughness: 0.5, fresnel: 0.05 };

  // The points of a sphere of radius 1, by latitude and longitude, and its triangles.
  function sphere(rings) {
    const points = [], triangles = [], around = 2 * rings;
    for (let i = 0; i <= rings; i++) {
      const polar = Math.PI * i / rings;
      for (let j = 0; j < around; j++) {
        const turn = 2 * Math.PI * j / around;
        points.push([Math.sin(polar) * Math.cos(turn), Math.sin(polar) * Math.sin(turn), Math.cos(polar)]);
      }
    }
    for (let i = 0; i < rings; i++) {
      for (let j = 0; j < around; j++) {
        const here = i * around + j, next = i * around + (j + 1) % around;
        triangles.push([here, here + around, next], [next, here + around, next + around]);
      }
    }
    return { points: points, triangles: triangles };
  }

  function mesh(colour, name) {
    return {
      type: "mesh3d", x: [], y: [], z: [], i: [], j: [], k: [], color: colour, name: name,
      flatshading: false, lighting: light, lightposition: { x: 1000, y: 1000, z: 3000 },
      hoverinfo: "name", showscale: false, showlegend: false,
    };
  }

  function add(trace, points, triangles) {
    const first = trace.x.length;
    for (const p of points) { trace.x.push(p[0]); trace.y.push(p[1]); trace.z.push(p[2]); }
    for (const t of triangles) { trace.i.push(first + t[0]); trace.j.push(first + t[1]); trace.k.push(first + t[2]); }
  }

  function balls(scene) {
    const shape = sphere(scene.symbols.length > 300 ? 6 : 12), traces = new Map();
    scene.symbols.forEach(function (symbol, n) {
      if (!traces.has(symbol)) { traces.set(symbol, mesh(scene.colours[n], symbol)); }
      const at = scene.positions[n], radius = scene.radii[n];
      add(traces.get(symbol), shape.points.map(p => p.map((v, axis) => at[axis] + radius * v)), shape.triangles);
    });
    return Array.from(traces.values());
  }

  // A stick is a prism around the line between two atoms.
  function sticks(scene) {
    const trace = mesh("#b0b0b0", "bond"), sides = 8, radius = 0.09;
    trace.hoverinfo = "skip";
    for (const pair of scene.bonds) {
      const a = scene.positions[pair[0]], b = scene.positions[pair[1]];
      const line = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
      const other = Math.abs(line[0]) < Math.abs(line[1]) ? [1, 0, 0] : [0, 1, 0];
      const u = unit(cross(line, other)), v = unit(cross(line, u)), points = [], triangles = [];
      for (let s = 0; s < sides; s++) {
        const turn = 2 * Math.PI * s / sides;
        const out = [0, 1, 2].map(x => radius * (Math.cos(turn) * u[x] + Math.sin(turn) * v[x]));
        points.push([0, 1, 2].map(x => a[x] + out[x]), [0, 1, 2].map(x => b[x] + out[x]));
        const here = 2 * s, next = 2 * ((s + 1) % sides);
        triangles.push([here, here + 1, next], [next, here + 1, next + 1]);
      }
      add(trace, points, triangles);
    }
    return trace.x.length ? [trace] : [];
  }

  function cross(a, b) {
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  }

  function unit(a) {
    const length = Math.hypot(a[0], a[1], a[2]) || 1;
    return a.map(x => x / length);
  }

  function cell(scene) {
    const trace = {
      type: "scatter3d", mode: "lines", x: [], y: [], z: [], hoverinfo: "skip", showlegend: false,
      line: { color: "#555555", width: 2 },
    };
    for (const edge of scene.edges) {
      for (const point of edge) { trace.x.push(point[0]); trace.y.push(point[1]); trace.z.push(point[2]); }
      trace.x.push(null); trace.y.push(null); trace.z.push(null);
    }
    return scene.edges.length ? [trace] : [];
  }

  function draw() {
    const scene = scenes[Number(choice.value)];
    const hidden = { visible: false };
    const layout = {
      margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, paper_bgcolor: "white",
      scene: {
        xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data", dragmode: "orbit",
        camera: { projection: { type: "orthographic" }, eye: { x: 0.65, y: 0.65, z: 0.5 } },
      },
    };
    Plotly.react(place, balls(scene).concat(sticks(scene), cell(scene)), layout, {
      displaylogo: false, responsive: true,
    });
  }

  // Nothing is drawn before it is looked at: WebGL takes its time.
  new IntersectionObserver(function (seen, watch) {
    if (seen.some(one => one.isIntersecting)) { watch.disconnect(); draw(); }
  }).observe(place);
  choice.addEventListener("change", draw);
})();
