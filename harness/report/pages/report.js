"use strict";
// The page of one report. What it shows was computed in Python (report_page.py) and stands in the JSON above; here are
// Kendall and the choices within a budget that is typed in, look-ups, and drawing.
(() => {
  const { $, css, unpack, whole, short, parseBudget, element, fillList } = common;
  const data = JSON.parse($("data").textContent);
  const NUM_SLOTS = data.slots.length;
  const NUM_WIDTHS = data.slots[0].channels.length;
  const AXES = { flops: "FLOPs", params: "Parameters" };
  const HOVER_RADIUS = 28; // pixels within which a pointer means a point
  const CLICK_SLACK = 5; // pixels that a click may move without being a drag
  const NUM_COLOURS = 9; // --row0 and further of report.css
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]]; // of methods, after each round of colours
  const FREE_DASHES = [[7, 4], [2, 3], [10, 3, 2, 3], [14, 4], [14, 3, 2, 3, 2, 3]];
  const MARGIN = { l: 58, r: 14, t: 34, b: 46 }; // of the scatter, in pixels
  const WIDE = 1000; // pixels of the page from which on all slots stand in one line
  const NARROW = 600; // and below which names are short

  // -- data: positions 0, 1, ... are those of the compared architectures -----------------------------------------

  const arrays = Object.fromEntries(Object.entries(data.arrays).map(([name, packed]) => [name, unpack(packed)]));
  const { index, truth, rounded, std } = arrays; // rounded: what choices go by, in ten thousandths of a percent
  const n = index.length;
  const UNIT = 1e4;
  const positions = Int32Array.from({ length: n }, (_, position) => position);
  const positionOf = new Map(Array.from(index, (number, position) => [number, position]));
  const digitOf = (position, slot) => Math.floor(index[position] / NUM_WIDTHS ** (NUM_SLOTS - 1 - slot)) % NUM_WIDTHS;
  const textOf = (position) => data.slots.map((_, slot) => digitOf(position, slot) + 1).join("");
  const indexOf = (text) => [...text].reduce((total, digit) => total * NUM_WIDTHS + Number(digit) - 1, 0);

  let numMethods = 0;
  let numFree = 0;
  data.rows.forEach((row, number) => {
    row.number = number;
    row.scores = arrays[`scores_${number}`];
    row.free = row.kind === "baseline";
    const place = row.free ? numFree++ : numMethods++;
    row.colour = row.free ? "--free" : `--row${place % NUM_COLOURS}`;
    row.dash = row.free ? FREE_DASHES[place % FREE_DASHES.length] : DASHES[Math.floor(place / NUM_COLOURS) % DASHES.length];
  });

  // -- ranks and Kendall -----------------------------------------------------------------------------------------

  // Dense ranks 0, 1, ... ascending, equal values having equal ones; and ranks 1, 2, ... of which equal values share
  // the best, 1 being that of the highest value.
  function ranksOf(values) {
    const order = positions.slice().sort((a, b) => values[a] - values[b]);
    const dense = new Int32Array(n);
    const rank = new Int32Array(n);
    let end = n;
    for (let place = 1; place < n; place++) {
      dense[order[place]] = dense[order[place - 1]] + (values[order[place]] > values[order[place - 1]] ? 1 : 0);
    }
    for (let place = n - 1; place >= 0; place--) {
      if (place < n - 1 && values[order[place]] < values[order[place + 1]]) end = place + 1;
      rank[order[place]] = n - end + 1;
    }
    return { dense, rank };
  }

  const trueDense = ranksOf(truth).dense;
  const trueRank = ranksOf(rounded).rank;

  function rankingOf(row) {
    if (!row.ranking) {
      const { dense, rank } = ranksOf(row.scores);
      const order = positions.slice().sort((a, b) => dense[a] - dense[b] || trueDense[a] - trueDense[b]);
      row.ranking = { dense, rank, order };
    }
    return row.ranking;
  }

  // Pairs i < j with values[i] > values[j], by a merge sort from below, which leaves the first m values sorted.
  function inversions(values, m) {
    let total = 0;
    let from = values;
    let to = new Int32Array(m);
    for (let width = 1; width < m; width *= 2) {
      for (let start = 0; start < m; start += 2 * width) {
        const middle = Math.min(start + width, m);
        const end = Math.min(start + 2 * width, m);
        let left = start;
        let right = middle;
        for (let place = start; place < end; place++) {
          if (left < middle && (right >= end || from[left] <= from[right])) to[place] = from[left++];
          else {
            total += middle - left;
            to[place] = from[right++];
          }
        }
      }
      [from, to] = [to, from];
    }
    if (from !== values) values.set(from.subarray(0, m));
    return total;
  }

  // Pairs i < j of neighbours in runs, in each of which all are the same.
  function tiedPairs(m, same) {
    let total = 0;
    let run = 0;
    for (let place = 1; place < m; place++) {
      run = same(place) ? run + 1 : 0;
      total += run;
    }
    return total;
  }

  // Kendall tau-b of a row with the truth, exact (Knight 1966), in O(n log n), among those that are `inside`; NaN where
  // one of the two is constant.
  const a = new Int32Array(n);
  const b = new Int32Array(n);
  function kendallOf(row, inside) {
    const { dense, order } = rankingOf(row);
    let m = 0;
    for (const position of order) {
      if (!inside[position]) continue;
      a[m] = dense[position];
      b[m++] = trueDense[position];
    }
    const pairs = (m * (m - 1)) / 2;
    const tiedA = tiedPairs(m, (place) => a[place] === a[place - 1]);
    const tiedBoth = tiedPairs(m, (place) => a[place] === a[place - 1] && b[place] === b[place - 1]);
    const discordant = inversions(b, m); // in the order by (a, b), what is tied in either is no inversion
    const tiedB = tiedPairs(m, (place) => b[place] === b[place - 1]);
    if (!(pairs > tiedA && pairs > tiedB)) return NaN;
    const agreeing = pairs - tiedA - tiedB + tiedBoth - 2 * discordant;
    return Math.max(-1, Math.min(1, agreeing / (Math.sqrt(pairs - tiedA) * Math.sqrt(pairs - tiedB))));
  }

  // -- state -----------------------------------------------------------------------------------------------------

  const state = {
    shown: new Set(data.shown),
    method: 0,
    across: "score",
    against: -1, // number of a row, or -1 for the truth
    budget: { flops: Infinity, params: Infinity },
    inside: new Uint8Array(n).fill(1), // which positions keep to the budget
    numInside: n,
    hover: -1,
    kept: -1,
    sorted: new Int32Array(0), // accuracies of those inside, ascending, as `rounded`
    best: [], // positions of the highest accuracy that fits
    chosen: [], // by the method of the scatter
  };
  const shownRows = () => data.rows.filter((row) => state.shown.has(row.number));
  const limited = () => state.budget.flops < Infinity || state.budget.params < Infinity;

  function highest(values) {
    let found = [];
    for (const position of positions) {
      if (!state.inside[position]) continue;
      if (found.length === 0 || values[position] > values[found[0]]) found = [position];
      else if (values[position] === values[found[0]]) found.push(position);
    }
    return found;
  }

  // What a row chooses within the budget: those that share its highest score, equally likely; null where nothing fits.
  function choiceOf(row) {
    const chosen = highest(row.scores);
    if (chosen.length === 0) return null;
    const mean = (valueOf) => chosen.reduce((total, position) => total + valueOf(position), 0) / chosen.length;
    const accuracy = mean((position) => rounded[position] / UNIT);
    const rank = mean((position) => 1 + state.numInside - numUpTo(state.sorted, rounded[position]));
    return { chosen, accuracy, rank, regret: Math.max(0, rounded[state.best[0]] / UNIT - accuracy) };
  }

  // How many of the ascending values are at most this one.
  function numUpTo(sorted, value) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // -- words -----------------------------------------------------------------------------------------------------

  const decimals = (value, digits) => (value === null || Number.isNaN(value) ? "undefined" : value.toFixed(digits));
  function cut(text) {
    const most = document.body.clientWidth < NARROW ? 14 : 24;
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  }
  // plotly.js reads some markup in its texts.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const accuracyText = (position) =>
    `${truth[position].toFixed(3)}%${Number.isNaN(std[position]) ? "" : ` ± ${std[position].toFixed(2)}`}`;

  const SVG = "http://www.w3.org/2000/svg";
  function swatch(colour, { dash = [], circle = false, filled = true, wide = 3 } = {}) {
    const picture = document.createElementNS(SVG, "svg");
    const shape = document.createElementNS(SVG, circle ? "circle" : "line");
    const size = circle ? { width: 14, height: 14 } : { width: 26, height: 10 };
    const form = circle ? { cx: 7, cy: 7, r: 5 } : { x1: 0, y1: 5, x2: 26, y2: 5, "stroke-dasharray": dash.join(" ") };
    const look = { stroke: `var(${colour})`, "stroke-width": circle ? 2 : wide, fill: filled ? `var(${colour})` : "none" };
    for (const [name, value] of Object.entries({ ...size, "aria-hidden": "true" })) picture.setAttribute(name, value);
    for (const [name, value] of Object.entries({ ...form, ...look })) shape.setAttribute(name, value);
    picture.append(shape);
    return picture;
  }
  const swatchOf = (row) => swatch(row.colour, { dash: row.dash });

  function fillLegend(list, entries) {
    list.replaceChildren(
      ...entries.map(([picture, words]) => {
        const item = element("li");
        item.append(picture, words);
        return item;
      }),
    );
  }

  // -- tables that can be sorted ---------------------------------------------------------------------------------

  // Cells are {text or node, value}; where values are not numbers they come last. Keeps its order when filled anew.
  function sortable(table, columns) {
    const head = table.createTHead().insertRow();
    const body = table.createTBody();
    let by = -1;
    let falling = true;
    let lines = [];
    columns.forEach((column, number) => {
      const cell = element("th", "", { scope: "col" });
      const button = element("button", column, { type: "button" });
      button.addEventListener("click", () => {
        falling = by === number ? !falling : number > 0;
        by = number;
        show();
      });
      cell.append(button);
      head.append(cell);
    });

    const compared = (one, other) => {
      const [first, second] = [one[by].value, other[by].value];
      if (typeof first === "string") return falling ? second.localeCompare(first) : first.localeCompare(second);
      const known = Number.isNaN(first) - Number.isNaN(second);
      return known || (Number.isNaN(first) ? 0 : falling ? second - first : first - second);
    };

    function show() {
      [...head.cells].forEach((cell, number) => {
        if (number === by) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      const sorted = by < 0 ? lines : lines.slice().sort(compared);
      body.replaceChildren(...sorted.map(lineOf));
    }

    function lineOf(cells) {
      const line = element("tr");
      line.append(
        ...cells.map(({ text = "", node, value }, number) => {
          const cell = number ? element("td", text) : element("th", text, { scope: "row" });
          if (node) cell.append(node);
          if (typeof value === "number") cell.dataset.value = value;
          return cell;
        }),
      );
      return line;
    }

    return (given) => {
      lines = given;
      show();
    };
  }

  // The first number of a text such as "0.684 to 0.705", "1,024" or "15 (8 to 29)".
  function numberIn(text) {
    const match = /[-+]?\d[\d,]*\.?\d*/.exec(text);
    return match ? Number(match[0].replaceAll(",", "")) : NaN;
  }

  function makeCompare() {
    const fill = sortable($("compare"), data.columns);
    fill(
      data.rows.map((row, number) => {
        const node = element("label", "", row.free ? { class: "free", title: row.name } : { title: row.name });
        const box = element("input", "", { type: "checkbox", id: `show-${number}` });
        box.checked = state.shown.has(number);
        box.addEventListener("change", () => {
          state.shown[box.checked ? "add" : "delete"](number);
          drawFigures();
          showFacts();
        });
        node.append(box, swatchOf(row), element("span", row.name, { class: "name" }));
        const [, ...texts] = data.lines[number];
        return [{ node, value: row.name }, ...texts.map((text) => ({ text, value: numberIn(text) }))];
      }),
    );
    const foot = $("compare").createTFoot();
    for (const texts of data.lines.slice(data.rows.length)) {
      const line = foot.insertRow();
      line.append(...texts.map((text, number) => element(number ? "td" : "th", text, number ? {} : { scope: "row" })));
    }
  }

  const WITHIN = ["scores", "seed", "Kendall, all", "within budget", "chooses", "accuracy, %", "rank", "regret"];
  const fillWithin = sortable($("within"), WITHIN);

  function showWithin() {
    const everything = new Uint8Array(n).fill(1);
    fillWithin(
      data.rows.map((row) => {
        row.kendallAll ??= kendallOf(row, everything);
        const tau = kendallOf(row, state.inside);
        const choice = choiceOf(row);
        const name = element("span", row.name, { class: row.free ? "name free" : "name", title: row.name });
        const arch = choice ? textOf(choice.chosen[0]) : "-";
        const tied = choice && choice.chosen.length > 1 ? ` (${whole(choice.chosen.length)} tied, mean)` : "";
        return [
          { node: name, value: row.name },
          { text: row.seed === null ? "-" : String(row.seed), value: row.seed ?? NaN },
          { text: decimals(row.kendallAll, 3), value: row.kendallAll },
          { text: decimals(tau, 3), value: tau },
          { text: arch + tied, value: choice ? Number(arch) : NaN },
          { text: choice ? choice.accuracy.toFixed(3) : "-", value: choice ? choice.accuracy : NaN },
          { text: choice ? whole(Math.round(choice.rank)) : "-", value: choice ? choice.rank : NaN },
          { text: choice ? choice.regret.toFixed(2) : "-", value: choice ? choice.regret : NaN },
        ];
      }),
    );
    const [first] = state.best;
    const best = first === undefined ? "" : ` The best that fits is ${textOf(first)}, ${(rounded[first] / UNIT).toFixed(3)}%.`;
    $("within-note").textContent =
      `${limited() ? `Budget: ${whole(state.numInside)} of ${whole(n)} architectures.` : "No budget is set."}${best}` +
      " Of methods with several seeds: the one with the median Kendall. Rank: by the truth, among those that fit." +
      " Regret: points below the best that fits, whose accuracy luck has raised. Of tied choices: the mean, and one of them.";
  }

  // -- figures ---------------------------------------------------------------------------------------------------

  const axisLook = () => ({
    gridcolor: css("--line"),
    linecolor: css("--border"),
    zerolinecolor: css("--line"),
    fixedrange: true,
    title: { font: { size: 13, color: css("--muted") }, standoff: 8 },
  });
  const merged = (axis, { title, ...more }) => ({ ...axis, ...more, title: { ...axis.title, text: title ?? "" } });

  function draw(id, traces, { height, xaxis = {}, yaxis = {}, ...more }) {
    const layout = {
      width: $(id).clientWidth,
      height,
      margin: { l: 54, r: 12, t: 8, b: 46 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--text") },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--border"), font: { color: css("--text"), size: 13 } },
      showlegend: false,
      dragmode: false,
      xaxis: merged(axisLook(), xaxis),
      yaxis: merged(axisLook(), yaxis),
      ...more,
    };
    return Plotly.react(id, traces, layout, { displayModeBar: false, displaylogo: false });
  }

  function lineOf({ colour, dash }) {
    return { color: css(colour), width: 2.5, dash: dash.length ? dash.map((length) => `${length}px`).join(",") : "solid" };
  }

  function drawForest() {
    const rows = shownRows();
    const traces = rows.flatMap((row, place) => {
      const known = row.low !== null && row.high !== null && row.kendall !== null;
      const ends = known ? `, ${data.level * 100}% interval ${row.low.toFixed(3)} to ${row.high.toFixed(3)}` : "";
      const mean = {
        x: [row.kendall],
        y: [place],
        mode: "markers",
        marker: { color: css(row.colour), size: 11, symbol: row.free ? "diamond" : "circle" },
        error_x: {
          visible: known,
          type: "data",
          symmetric: false,
          array: [row.high - row.kendall],
          arrayminus: [row.kendall - row.low],
          color: css(row.colour),
          thickness: 2.5,
          width: 5,
        },
        hoverinfo: "text",
        hovertext: plain(`${row.name}: ${decimals(row.kendall, 3)}${ends}`),
      };
      const seeds = {
        x: row.seeds.map(([, tau]) => tau),
        y: row.seeds.map(() => place + 0.28),
        mode: "markers",
        marker: { color: css(row.colour), size: 7, symbol: "circle-open", line: { width: 1.5 } },
        hoverinfo: "text",
        hovertext: row.seeds.map(([seed, tau]) => plain(`${row.name}, seed ${seed ?? "unknown"}: ${decimals(tau, 3)}`)),
      };
      return row.seeds.length > 1 ? [mean, seeds] : [mean];
    });
    const { ceiling } = data;
    const shapes = [];
    const annotations = [];
    if (ceiling !== null) {
      const line = { color: css("--chosen"), width: 2, dash: "dash" };
      shapes.push({ type: "line", x0: ceiling, x1: ceiling, y0: 0, y1: 1, yref: "paper", line });
      const text = `noise ceiling ${ceiling.toFixed(3)}`;
      const place = { x: ceiling, y: 1, yref: "paper", yanchor: "bottom", xanchor: "right", showarrow: false };
      annotations.push({ ...place, text, font: { color: css("--chosen") } });
    }
    const values = rows.flatMap((row) => [row.low, row.high, row.kendall, ...row.seeds.map(([, tau]) => tau)]);
    const known = [...values, ceiling].filter((value) => value !== null);
    const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
    const pad = 0.05 * (high - low || 1);
    draw("forest", traces, {
      height: 84 + 36 * Math.max(1, rows.length),
      margin: { l: 20, r: 16, t: 26, b: 46 },
      hovermode: "closest",
      xaxis: { title: "Kendall tau-b", range: [low - pad, high + pad], zeroline: false },
      yaxis: {
        automargin: true,
        range: [rows.length - 0.4, -0.6],
        tickvals: rows.map((_, place) => place),
        ticktext: rows.map((row) => plain(cut(row.name) + (row.free ? " (free)" : ""))),
        zeroline: false,
      },
      shapes,
      annotations,
    });
    const several = rows.some((row) => row.seeds.length > 1) ? "; rings: single seeds" : "";
    const ends = data.level === null ? "" : `, with its ${data.level * 100}% interval`;
    const mean = several ? ", mean over its seeds" : "";
    $("forest-note").textContent = `Dot: Kendall of a method${mean}${ends}${several}; diamond: a free baseline.`;
  }

  function drawEffects() {
    const rows = shownRows().filter((row) => row.effects !== null);
    $("effects").hidden = data.effects === null;
    if (data.effects === null) {
      $("effects-note").textContent = "These architectures do not determine the effects of slots.";
      return;
    }
    const width = $("effects").clientWidth;
    const across = width >= WIDE ? NUM_SLOTS : width >= NARROW ? 4 : 2;
    const down = Math.ceil(NUM_SLOTS / across);
    const height = width >= WIDE ? 230 : 190;
    const layout = { height: down * height, margin: { l: 46, r: 8, t: 8, b: 8 }, hovermode: "closest", annotations: [] };
    const traces = [];
    const all = [data.effects, ...rows.map((row) => row.effects)].flat(2);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const pad = 0.06 * (high - low || 1);
    data.slots.forEach((slot, number) => {
      const suffix = number ? String(number + 1) : "";
      const column = number % across;
      const gap = 12 / width;
      const domain = [column / across + gap, (column + 1) / across - gap / 2];
      const top = 1 - Math.floor(number / across) / down;
      const upright = [top - 1 / down + 34 / (down * height), top - 30 / (down * height)];
      layout[`xaxis${suffix}`] = merged(axisLook(), {
        domain,
        anchor: `y${suffix}`,
        tickvals: slot.channels.map((_, width) => width + 1),
        ticktext: slot.channels.map(String),
        range: [0.7, NUM_WIDTHS + 0.3],
        zeroline: false,
        showgrid: false,
      });
      layout[`yaxis${suffix}`] = merged(axisLook(), {
        domain: upright,
        anchor: `x${suffix}`,
        range: [low - pad, high + pad],
        showticklabels: column === 0,
        nticks: 6,
        zerolinecolor: css("--border"),
      });
      const place = { x: (domain[0] + domain[1]) / 2, y: upright[1], xref: "paper", yref: "paper", yanchor: "bottom" };
      layout.annotations.push({ ...place, text: `slot ${number}`, hovertext: plain(slot.role), showarrow: false });
      const add = (values, name, line) => {
        const words = (value, i) => `${name}: ${slot.channels[i]} channels ${value < 0 ? "" : "+"}${value.toFixed(2)} points`;
        traces.push({
          x: slot.channels.map((_, width) => width + 1),
          y: values[number],
          xaxis: `x${suffix}`,
          yaxis: `y${suffix}`,
          mode: "lines+markers",
          line,
          marker: { size: 5, color: line.color },
          hoverinfo: "text",
          hovertext: values[number].map((value, i) => plain(words(value, i))),
        });
      };
      add(data.effects, "truth", { color: css("--text"), width: 4 });
      for (const row of rows) add(row.effects, row.name, lineOf(row));
    });
    draw("effects", traces, layout);
  }

  function drawCalibration() {
    const thin = { color: css("--text"), width: 1, dash: "dot" };
    const diagonal = { x: [0, 1], y: [0, 1], mode: "lines", line: thin, hoverinfo: "skip" };
    const banded = data.rows[state.method];
    const { predicted, low, high } = banded.calibration;
    const known = predicted.map((_, bin) => bin).filter((bin) => predicted[bin] !== null);
    const band = {
      x: [...known.map((bin) => predicted[bin]), ...known.slice().reverse().map((bin) => predicted[bin])],
      y: [...known.map((bin) => low[bin]), ...known.slice().reverse().map((bin) => high[bin])],
      mode: "lines",
      fill: "toself",
      fillcolor: css(banded.colour) + "2e", // the colour, mostly transparent
      line: { width: 0 },
      hoverinfo: "skip",
    };
    const wordsOf = ({ name, calibration }, bin) => {
      const [put, found] = [calibration.predicted[bin], calibration.mean[bin]];
      return put === null ? "" : `${name}: put at ${put.toFixed(2)}, truly ${found.toFixed(2)}`;
    };
    const lines = shownRows().map((row) => ({
      x: row.calibration.predicted,
      y: row.calibration.mean,
      mode: "lines+markers",
      connectgaps: true,
      line: lineOf(row),
      marker: { size: 5, color: css(row.colour) },
      hoverinfo: "text",
      hovertext: row.calibration.mean.map((_, bin) => plain(wordsOf(row, bin))),
    }));
    draw("calibration", [band, diagonal, ...lines], {
      height: 340,
      hovermode: "closest",
      xaxis: { title: "rank by the method (0 worst, 1 best)", range: [-0.02, 1.02] },
      yaxis: { title: "mean true rank", range: [-0.02, 1.02] },
    });
    $("calibration-note").textContent = `On the diagonal they can. Band: where four of five architectures truly are, for ${banded.name}.`;
  }

  function drawAlong() {
    const rows = shownRows().filter((row) => row.along !== null);
    const traces = rows.map((row) => ({
      x: row.along.flops,
      y: row.along.kendall,
      mode: "lines",
      line: lineOf(row),
      hoverinfo: "text",
      hovertext: row.along.kendall.map((tau, i) => plain(`${row.name}: ${decimals(tau, 3)} around ${short(row.along.flops[i])}`)),
    }));
    draw("along", traces, {
      height: 340,
      hovermode: "closest",
      xaxis: { title: "FLOPs, median of the window", tickformat: "~s", nticks: 7 },
      yaxis: { title: "Kendall tau-b" },
    });
    if (!data.rows.some((row) => row.along !== null)) $("along-note").textContent = "There are too few architectures for this.";
  }

  function drawFigures() {
    drawForest();
    const rows = shownRows();
    fillLegend($("legend"), [[swatch("--text", { wide: 4 }), "truth"], ...rows.map((row) => [swatchOf(row), row.name])]);
    drawEffects();
    drawCalibration();
    drawAlong();
  }

  // -- every architecture ----------------------------------------------------------------------------------------

  const pixelX = new Float32Array(n);
  const pixelY = new Float32Array(n);
  let view = null; // {key, x, y}: the ranges of the axes, until others are asked for

  const reversed = ([low, high]) => [high, low];
  function rangeOf(values, margin) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const pad = (high - low || Math.abs(high) || 1) * margin;
    return [low - pad, high + pad];
  }

  function coordinates() {
    const row = data.rows[state.method];
    const other = state.against < 0 ? null : data.rows[state.against];
    const byRank = other !== null || state.across === "rank";
    return {
      key: `${state.method} ${state.against} ${byRank}`,
      byRank,
      x: byRank ? rankingOf(row).rank : row.scores,
      y: other ? rankingOf(other).rank : truth,
      colour: other ? truth : arrays.flops,
      xTitle: byRank ? `rank by ${cut(row.name)}, 1 the best` : `score by ${cut(row.name)}`,
      yTitle: other ? `rank by ${cut(other.name)}, 1 the best` : "true accuracy, percent",
      ranks: other !== null,
    };
  }

  function drawAxes() {
    const found = coordinates();
    if (view === null || view.key !== found.key) {
      const x = rangeOf(found.x, 0.03);
      const y = rangeOf(found.y, 0.03);
      view = { key: found.key, x: found.byRank ? reversed(x) : x, y: found.ranks ? reversed(y) : y };
    }
    const own = { zeroline: false, fixedrange: false, automargin: false, nticks: 8 };
    const large = Math.max(Math.abs(view.x[0]), Math.abs(view.x[1])) >= 1e5;
    const layout = {
      width: $("scatter").clientWidth,
      height: $("scatter").clientHeight,
      margin: MARGIN,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--text") },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: css("--accent") },
      showlegend: false,
      hovermode: false,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      xaxis: merged(axisLook(), { ...own, title: plain(found.xTitle), range: view.x, ...(large ? { tickformat: "~s" } : {}) }),
      yaxis: merged(axisLook(), { ...own, title: plain(found.yTitle), range: view.y }),
    };
    const all = { name: "all", title: "Show all", icon: Plotly.Icons.home, click: showAll };
    Plotly.react("axes", [{ x: [], y: [], mode: "markers" }], layout, {
      displaylogo: false,
      displayModeBar: true,
      doubleClick: false,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", all]],
    });
    drawPoints();
  }

  function showAll() {
    view = null;
    drawAxes();
  }

  // A canvas that draws within the axes, and so many pixels beyond.
  function prepare(canvas, slack = 0) {
    const { width, height } = $("scatter").getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const box = { left: MARGIN.l, right: width - MARGIN.r, top: MARGIN.t, bottom: height - MARGIN.b };
    context.beginPath();
    context.rect(box.left - slack, box.top - slack, box.right - box.left + 2 * slack, box.bottom - box.top + 2 * slack);
    context.clip();
    return { context, box };
  }

  function ramp() {
    const channelsOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const stops = [1, 2, 3, 4].map((width) => channelsOf(css(`--width${width}`)));
    return Array.from({ length: 64 }, (_, step) => {
      const at = (step / 63) * (stops.length - 1);
      const from = Math.min(Math.floor(at), stops.length - 2);
      return `rgb(${stops[from].map((value, i) => Math.round(value + (at - from) * (stops[from + 1][i] - value))).join(",")})`;
    });
  }

  function drawPoints() {
    const found = coordinates();
    const { context, box } = prepare($("points"));
    const scale = (from, to, [low, high]) => (value) => from + ((value - low) / (high - low)) * (to - from);
    const x = scale(box.left, box.right, view.x);
    const y = scale(box.bottom, box.top, view.y);
    const size = n > 2000 ? 3 : 5;
    for (const position of positions) {
      pixelX[position] = x(found.x[position]);
      pixelY[position] = y(found.y[position]);
    }
    const dot = (position) => context.fillRect(pixelX[position] - size / 2, pixelY[position] - size / 2, size, size);
    context.globalAlpha = 0.3;
    context.fillStyle = css("--outside");
    for (const position of positions) if (!state.inside[position]) dot(position);
    context.globalAlpha = n > 2000 ? 0.6 : 0.9;
    const colours = ramp();
    const [low, high] = rangeOf(found.colour, 0);
    const step = high > low ? (colours.length - 1) / (high - low) : 0;
    for (const position of positions) {
      if (!state.inside[position]) continue;
      context.fillStyle = colours[Math.round((found.colour[position] - low) * step)];
      dot(position);
    }
    context.globalAlpha = 1;
    if (found.ranks) {
      context.strokeStyle = css("--text");
      context.setLineDash([2, 3]);
      context.beginPath();
      context.moveTo(x(1), y(1));
      context.lineTo(x(n), y(n));
      context.stroke();
    }
    $("scale-name").textContent = found.ranks ? "True accuracy" : "FLOPs";
    $("scale-low").textContent = found.ranks ? `${low.toFixed(1)}%` : short(low);
    $("scale-high").textContent = found.ranks ? `${high.toFixed(1)}%` : short(high);
    const row = data.rows[state.method];
    const legend = [
      [swatch("--front", { circle: true, filled: false }), `choice of ${row.name}`],
      [swatch("--chosen", { circle: true, filled: false }), "best that fits"],
      [swatch("--accent", { circle: true }), "kept"],
    ];
    if (state.numInside < n) legend.push([swatch("--outside", { circle: true }), "over the budget"]);
    fillLegend($("scatter-legend"), legend);
    const within = `${whole(state.numInside)} of ${whole(n)} architectures within the budget`;
    $("scatter").setAttribute("aria-label", `${found.yTitle} against ${found.xTitle}, ${within}`);
    drawMarks();
  }

  function drawMarks() {
    const { context } = prepare($("marks"), 12);
    const ring = (position, colour, radius, filled = false) => {
      context.strokeStyle = context.fillStyle = css(colour);
      context.lineWidth = 3;
      context.beginPath();
      context.arc(pixelX[position], pixelY[position], radius, 0, 7);
      if (filled) context.fill();
      else context.stroke();
    };
    if (state.kept >= 0) ring(state.kept, "--accent", 5, true);
    if (state.best.length) ring(state.best[0], "--chosen", 8);
    if (state.chosen.length) ring(state.chosen[0], "--front", 11);
    if (state.hover >= 0) ring(state.hover, "--text", 5);
  }

  function nearest(event) {
    const { left, top, width, height } = $("scatter").getBoundingClientRect();
    const x = event.clientX - left;
    const y = event.clientY - top;
    if (x < MARGIN.l || y < MARGIN.t || x > width - MARGIN.r || y > height - MARGIN.b) return -1;
    let found = -1;
    let least = HOVER_RADIUS ** 2;
    for (const position of positions) {
      const distance = (pixelX[position] - x) ** 2 + (pixelY[position] - y) ** 2;
      if (distance < least && state.inside[position]) {
        least = distance;
        found = position;
      }
    }
    return found;
  }

  function hover(position) {
    state.hover = position;
    const tip = $("tip");
    tip.hidden = position < 0;
    if (position >= 0) {
      tip.textContent = `${textOf(position)}  ${accuracyText(position)}`;
      const { clientWidth: width, clientHeight: height } = $("scatter");
      const flip = (at, size, most) => Math.max(0, at + 12 + size > most ? at - 12 - size : at + 12);
      tip.style.left = `${flip(pixelX[position], tip.offsetWidth, width)}px`;
      tip.style.top = `${flip(pixelY[position], tip.offsetHeight, height)}px`;
    }
    drawMarks();
    showFacts();
  }

  function keep(position) {
    state.kept = position;
    drawMarks();
    showFacts();
  }

  // Of the architecture pointed at, or else the one that was kept.
  function showFacts() {
    const position = state.hover >= 0 ? state.hover : state.kept;
    if (position < 0) {
      fillList($("facts"), []);
      return;
    }
    if (document.activeElement !== $("arch") || state.hover >= 0) $("arch").value = textOf(position);
    $("arch").removeAttribute("aria-invalid");
    $("arch-error").textContent = "";
    const cost = (axis) => {
      const value = arrays[axis][position];
      return `${whole(value)} (${(value / data.widest[axis]).toFixed(3)}x)`;
    };
    fillList($("facts"), [
      ["Channels", data.slots.map((slot, i) => slot.channels[digitOf(position, i)]).join(", ")],
      ["Accuracy", accuracyText(position)],
      ["FLOPs", cost("flops")],
      ["Parameters", cost("params")],
      ...(limited() ? [["Budget", state.inside[position] ? "within" : "exceeded"]] : []),
      ["True rank", `${whole(trueRank[position])} of ${whole(n)}`],
      ...shownRows().map((row) => [`by ${row.name}`, whole(rankingOf(row).rank[position])]),
    ]);
  }

  // -- budget ----------------------------------------------------------------------------------------------------

  function readBudgets() {
    const wrong = [];
    for (const axis of Object.keys(AXES)) {
      const input = $(`max-${axis}`);
      const value = parseBudget(input.value, data.widest[axis]);
      input.toggleAttribute("aria-invalid", false);
      if (Number.isNaN(value)) {
        input.setAttribute("aria-invalid", "true");
        wrong.push(`"${input.value}" is not a budget; it is left out`);
      }
      state.budget[axis] = Number.isNaN(value) ? Infinity : value;
    }
    const fits = (position) => arrays.flops[position] <= state.budget.flops && arrays.params[position] <= state.budget.params;
    for (const position of positions) state.inside[position] = fits(position) ? 1 : 0;
    const found = positions.filter(fits);
    state.sorted = found.map((position) => rounded[position]).sort();
    const num = (state.numInside = found.length);
    const kept = `${whole(num)} of ${whole(n)} architectures keep to the budget.`;
    const words = num === 0 ? "No architecture keeps to this budget." : kept;
    $("budget-state").textContent = wrong.length ? wrong.join("; ") : limited() ? words : "";
    $("budget-state").classList.toggle("error", wrong.length > 0 || num === 0);
  }

  function choose() {
    state.best = highest(rounded);
    state.chosen = highest(data.rows[state.method].scores);
  }

  function applyBudget() {
    readBudgets();
    choose();
    showWithin();
  }

  function changeBudget() {
    applyBudget();
    drawPoints();
    hover(-1);
  }

  function changeAxes() {
    state.method = Number($("method").value);
    state.against = Number($("against").value);
    state.across = $("across").value;
    $("across").disabled = state.against >= 0; // a method beside a method: both by rank
    choose();
    hover(-1);
    drawAxes();
    drawCalibration();
  }

  // -- start -----------------------------------------------------------------------------------------------------

  function drawAll() {
    drawFigures();
    drawAxes();
  }

  let drawn = false;
  function setTheme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light theme" : "Dark theme";
    if (drawn) drawAll();
  }

  for (const name of ["title", "about", "verdict", "noise"]) $(name).textContent = data[name];
  $("warnings").append(...data.warnings.map((words) => element("li", words)));
  $("notes").append(...data.notes.map((words) => element("li", words)));
  fillList($("provenance"), data.provenance);
  $("against").append(element("option", "true accuracy", { value: -1 }));
  data.rows.forEach((row, number) => {
    $("method").append(element("option", row.name, { value: number }));
    $("against").append(element("option", `rank by ${row.name}`, { value: number }));
  });
  makeCompare();

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => setTheme(dark.matches));
  setTheme(dark.matches);
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  for (const id of ["method", "across", "against"]) $(id).addEventListener("change", changeAxes);
  for (const axis of Object.keys(AXES)) $(`max-${axis}`).addEventListener("input", changeBudget);
  $("arch").addEventListener("input", () => {
    const text = $("arch").value;
    const isArch = /^[1-4]{7}$/.test(text);
    const position = isArch ? positionOf.get(indexOf(text)) : undefined;
    if (position !== undefined) return keep(position);
    $("arch").setAttribute("aria-invalid", "true");
    $("arch-error").textContent = isArch ? `${text} is not among those compared.` : "Seven digits 1 to 4, such as 4344424.";
  });

  applyBudget();
  drawAll();
  drawn = true;
  keep(state.chosen[0]);

  const asView = (changes, axis) => {
    const [low, high] = [changes[`${axis}.range[0]`], changes[`${axis}.range[1]`]];
    return low === undefined || high === undefined ? changes[`${axis}.range`] : [low, high];
  };
  for (const event of ["plotly_relayout", "plotly_relayouting"]) {
    $("axes").on(event, (changes) => {
      view.x = asView(changes, "xaxis") ?? view.x;
      view.y = asView(changes, "yaxis") ?? view.y;
      drawPoints();
    });
  }
  $("axes").on("plotly_doubleclick", showAll);
  $("scatter").addEventListener("pointermove", (event) => event.pointerType === "mouse" && hover(nearest(event)));
  $("scatter").addEventListener("pointerleave", () => hover(-1));
  // plotly.js covers the page while a button is down, so that the click itself never arrives here.
  let pressed = null;
  $("scatter").addEventListener("pointerdown", (event) => (pressed = event), true);
  document.addEventListener("pointerup", (event) => {
    const moved = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY);
    if (pressed && moved < CLICK_SLACK) {
      const found = nearest(event);
      if (found >= 0) keep(found);
    }
    pressed = null;
  }, true);

  let width = document.body.clientWidth;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return; // heights are ours
    width = document.body.clientWidth;
    drawAll();
  }).observe(document.body);
})();
