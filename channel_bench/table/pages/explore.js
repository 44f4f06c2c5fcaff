"use strict";
// The explorer of one table. Everything it shows was computed in Python (explore.py) and stands in the JSON above; here
// are only look-ups, the Pareto front within a budget (which needs nothing but costs and ranks), and drawing.
(() => {
  const { $, css, bytesOf, unpack, KINDS, whole, short, element, fillList, parseBudget } = common;
  const data = JSON.parse(document.getElementById("data").textContent);
  const NUM_SLOTS = data.slots.length;
  const NUM_WIDTHS = data.slots[0].channels.length;
  const NUM_ARCHS = NUM_WIDTHS ** NUM_SLOTS;
  const AXES = { flops: "FLOPs", params: "Parameters" };
  const CLICK_RADIUS = 28; // pixels within which a pointer means a point
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

  // -- data ----------------------------------------------------------------------------------------------------

  const arrays = {};
  for (const [name, packed] of Object.entries(data.arrays)) arrays[name] = unpack(packed);
  const { mean, std, rank, runs } = arrays; // rank is 0 where the table has no finished run
  const trained = Int32Array.from({ length: NUM_ARCHS }, (_, index) => index).filter((index) => rank[index] > 0);

  const digitOf = (index, slot) => Math.floor(index / NUM_WIDTHS ** (NUM_SLOTS - 1 - slot)) % NUM_WIDTHS;
  const textOf = (index) => data.slots.map((_, slot) => digitOf(index, slot) + 1).join("");
  const indexOf = (text) => [...text].reduce((total, digit) => total * NUM_WIDTHS + Number(digit) - 1, 0);
  const channelsOf = (index) => data.slots.map((slot, i) => slot.channels[digitOf(index, i)]);

  // -- state ---------------------------------------------------------------------------------------------------

  const state = { index: 0, axis: "flops", colour: null, budget: { flops: Infinity, params: Infinity }, hover: -1 };
  const fits = (index) => arrays.flops[index] <= state.budget.flops && arrays.params[index] <= state.budget.params;

  const limited = () => state.budget.flops < Infinity || state.budget.params < Infinity;

  // Trained architectures by cost; of equal costs the better first.
  const byCost = {};
  for (const axis of Object.keys(AXES)) {
    byCost[axis] = trained.slice().sort((a, b) => arrays[axis][a] - arrays[axis][b] || rank[a] - rank[b]);
  }

  function paretoFront() {
    const front = [];
    let best = Infinity;
    for (const index of byCost[state.axis]) {
      if (rank[index] < best && fits(index)) {
        best = rank[index];
        front.push(index);
      }
    }
    return front;
  }
  let front = [];

  // -- words ---------------------------------------------------------------------------------------------------

  const percent = (value) => (Number.isNaN(value) ? "missing" : value.toFixed(2));

  // -- drawing -------------------------------------------------------------------------------------------------

  function prepare(canvas) {
    const { width, height } = canvas.parentElement.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    return { context, width, height };
  }

  function ticks(low, high, most) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= rough * 0.999);
    const step = factor * power;
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
    return { found, decimals: Math.max(0, (factor === 2.5 ? 1 : 0) - Math.round(Math.log10(power)) - (factor === 10 ? 1 : 0)) };
  }

  // A frame with gridlines; returns where a value is drawn.
  function drawAxes({ context, width, height }, [xLow, xHigh], [yLow, yHigh], xText) {
    const box = { left: 46, right: width - 14, top: 8, bottom: height - 24 };
    const x = (value) => box.left + ((value - xLow) / (xHigh - xLow)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - yLow) / (yHigh - yLow)) * (box.bottom - box.top);
    context.strokeStyle = css("--line");
    context.fillStyle = css("--muted");
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const vertical = ticks(yLow, yHigh, Math.max(2, height / 45));
    for (const value of vertical.found) {
      context.beginPath();
      context.moveTo(box.left, y(value));
      context.lineTo(box.right, y(value));
      context.stroke();
      context.fillText(value.toFixed(vertical.decimals), box.left - 6, y(value));
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const value of ticks(xLow, xHigh, Math.max(2, width / 64)).found) {
      context.beginPath();
      context.moveTo(x(value), box.bottom);
      context.lineTo(x(value), box.bottom + 4);
      context.stroke();
      context.fillText(xText(value), x(value), box.bottom + 7);
    }
    return { x, y, box };
  }

  function rangeOf(indices, values, margin) {
    let low = Infinity;
    let high = -Infinity;
    for (const index of indices) {
      low = Math.min(low, values[index]);
      high = Math.max(high, values[index]);
    }
    const pad = (high - low || Math.abs(high) || 1) * margin;
    return [low - pad, high + pad];
  }

  let scale = null;
  const pixelX = new Float32Array(NUM_ARCHS);
  const pixelY = new Float32Array(NUM_ARCHS);

  const highestRun = runs.reduce((most, accuracy) => (accuracy > most ? accuracy : most), -Infinity);

  function drawPoints() {
    const target = prepare($("points"));
    const { context } = target;
    const cost = arrays[state.axis];
    const [low, high] = rangeOf(trained, cost, 0.02);
    const [lowest, highest] = rangeOf(trained, mean, 0.04);
    scale = drawAxes(target, [Math.max(0, low), high], [lowest, Math.max(highest, highestRun)], short);
    for (const index of trained) {
      pixelX[index] = scale.x(cost[index]);
      pixelY[index] = scale.y(mean[index]);
    }
    const size = trained.length > 2000 ? 2 : 4;
    const dot = (index) => context.fillRect(pixelX[index] - size / 2, pixelY[index] - size / 2, size, size);
    context.globalAlpha = 0.35;
    context.fillStyle = css("--outside");
    for (const index of trained) if (!fits(index)) dot(index);
    context.globalAlpha = trained.length > 2000 ? 0.55 : 0.9;
    const colours = data.slots[0].channels.map((_, width) => css(state.colour === null ? "--point" : `--width${width + 1}`));
    if (state.colour === null) context.fillStyle = colours[0];
    for (const index of trained) {
      if (!fits(index)) continue;
      if (state.colour !== null) context.fillStyle = colours[digitOf(index, state.colour)];
      dot(index);
    }
    context.globalAlpha = 1;
    drawFront(context);
    const budget = state.budget[state.axis];
    if (budget < high) {
      context.strokeStyle = css("--text");
      context.setLineDash([5, 4]);
      context.beginPath();
      context.moveTo(scale.x(budget), scale.box.top);
      context.lineTo(scale.x(budget), scale.box.bottom);
      context.stroke();
      context.setLineDash([]);
    }
    drawMarks();
  }

  function drawFront(context) {
    context.strokeStyle = context.fillStyle = css("--front");
    context.lineWidth = 2;
    context.beginPath();
    front.forEach((index, position) => {
      if (position === 0) context.moveTo(pixelX[index], pixelY[index]);
      else {
        context.lineTo(pixelX[index], pixelY[front[position - 1]]); // what a cost buys stays until the next step
        context.lineTo(pixelX[index], pixelY[index]);
      }
    });
    context.stroke();
    for (const index of front) {
      context.beginPath();
      context.arc(pixelX[index], pixelY[index], 2.5, 0, 7);
      context.fill();
    }
  }

  // The layer above the points, drawn anew for every move of the pointer: the chosen architecture and the one pointed at.
  function drawMarks() {
    const { context } = prepare($("marks"));
    const { index, hover } = state;
    if (rank[index] > 0) {
      context.strokeStyle = context.fillStyle = css("--chosen");
      context.lineWidth = 1.5;
      for (let run = 0; run < data.num_runs; run++) {
        const y = scale.y(runs[index * data.num_runs + run]);
        if (!(y >= scale.box.top && y <= scale.box.bottom)) continue; // missing, or far below all means
        context.beginPath();
        context.moveTo(pixelX[index] - 9, y);
        context.lineTo(pixelX[index] + 9, y);
        context.stroke();
      }
      context.lineWidth = 3;
      context.beginPath();
      context.arc(pixelX[index], pixelY[index], 7, 0, 7);
      context.stroke();
    }
    if (hover >= 0) {
      context.strokeStyle = css("--text");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(pixelX[hover], pixelY[hover], 5, 0, 7);
      context.stroke();
    }
  }

  function nearest(event) {
    const box = $("plot").getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    let found = -1;
    let least = CLICK_RADIUS ** 2;
    for (const index of trained) {
      const distance = (pixelX[index] - x) ** 2 + (pixelY[index] - y) ** 2;
      if (distance < least && fits(index)) {
        least = distance;
        found = index;
      }
    }
    return found;
  }

  function showTip(index) {
    state.hover = index;
    const tip = $("tip");
    tip.hidden = index < 0;
    if (index >= 0) {
      const costs = `${short(arrays.flops[index])} FLOPs, ${short(arrays.params[index])} parameters`;
      tip.textContent = `${textOf(index)}  ${mean[index].toFixed(3)}%  rank ${whole(rank[index])}\n${costs}`;
      const { width, height } = $("plot").getBoundingClientRect();
      const left = pixelX[index] + 12 + tip.offsetWidth > width ? pixelX[index] - 12 - tip.offsetWidth : pixelX[index] + 12;
      const top = pixelY[index] + 12 + tip.offsetHeight > height ? pixelY[index] - 12 - tip.offsetHeight : pixelY[index] + 12;
      tip.style.left = `${Math.max(0, left)}px`;
      tip.style.top = `${Math.max(0, top)}px`;
    }
    drawMarks();
  }

  // -- the chosen architecture ---------------------------------------------------------------------------------

  let addressTimer = 0;

  function choose(index) {
    state.index = index;
    const text = textOf(index);
    const there = rank[index] > 0;
    const channels = channelsOf(index);
    $("arch").value = text;
    $("arch").removeAttribute("aria-invalid");
    $("arch-error").textContent = "";
    $("accuracy").textContent = there ? `${mean[index].toFixed(3)}%` : "not in this table";
    const all = Array.from({ length: data.num_runs }, (_, run) => percent(runs[index * data.num_runs + run]));
    const share = (axis) => `${whole(arrays[axis][index])} (${((100 * arrays[axis][index]) / arrays[axis][NUM_ARCHS - 1]).toFixed(1)}% of widest)`;
    fillList($("facts"), [
      ...(there
        ? [
            ["Rank", `${whole(rank[index])} of ${whole(data.num_ranked)}`],
            [data.num_runs === 1 ? "Run" : "Runs", all.join(", ")],
            ["Std of runs", Number.isNaN(std[index]) ? "unknown, a single run" : `${std[index].toFixed(3)} points (ddof=1)`],
            ["Front", front.includes(index) ? `on it, for ${AXES[state.axis]}` : `not on it, for ${AXES[state.axis]}`],
          ]
        : []),
      ["FLOPs", share("flops")],
      ["Parameters", share("params")],
      ...(limited() ? [["Budget", fits(index) ? "within" : "exceeded"]] : []),
      ["Channels", channels.join(", ")],
    ]);
    $("code").textContent = data.code.replace("ARCH", text);
    $("copied").textContent = "";
    data.slots.forEach((slot, i) => {
      const digit = digitOf(index, i);
      const input = $(`slot-${i}`);
      input.value = digit + 1;
      input.setAttribute("aria-valuetext", `${channels[i]} channels, digit ${digit + 1} of ${NUM_WIDTHS}`);
      $(`channels-${i}`).textContent = channels[i];
      [...$(`ticks-${i}`).children].forEach((tick, width) => tick.classList.toggle("now", width === digit));
    });
    const axes = `${data.metric} against ${AXES[state.axis]} of ${whole(trained.length)} architectures`;
    $("points").setAttribute("aria-label", `${axes}; chosen: ${text}, ${$("accuracy").textContent}`);
    // Browsers allow about a hundred changes of the address in half a minute, and a slider makes more.
    clearTimeout(addressTimer);
    addressTimer = setTimeout(() => history.replaceState(null, "", `#${text}`), 400);
    if (scale) drawMarks();
    drawCurves();
  }

  function makeSliders() {
    data.slots.forEach((slot, i) => {
      const box = element("div", "", { class: "slot" });
      const name = element("div", "", { class: "name" });
      name.append(
        element("label", `Slot ${i}: ${slot.role}`, { for: `slot-${i}` }),
        element("output", "", { id: `channels-${i}`, for: `slot-${i}` }),
      );
      const input = element("input", "", { type: "range", min: 1, max: NUM_WIDTHS, step: 1, id: `slot-${i}` });
      input.addEventListener("input", () => choose(indexOf(data.slots.map((_, j) => $(`slot-${j}`).value).join(""))));
      const marks = element("div", "", { class: "ticks", id: `ticks-${i}`, "aria-hidden": "true" });
      marks.append(...slot.channels.map((channels) => element("span", channels)));
      box.append(name, input, marks);
      $("sliders").append(box);
      $("colour").append(element("option", `slot ${i}: ${slot.role}`, { value: i }));
    });
  }

  // -- learning curves -----------------------------------------------------------------------------------------

  let curves = null; // Uint16Array (NUM_ARCHS, num_runs, num_epochs), in steps of data.curves.unit

  async function loadCurves() {
    $("curves-note").textContent = data.curves_note;
    if (!data.curves) return;
    if (typeof DecompressionStream === "undefined") {
      $("curves-note").textContent = "This browser cannot unpack the learning curves; one of 2023 or later can.";
      return;
    }
    const packed = new Blob([bytesOf(data.curves.base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
    curves = new KINDS[data.curves.dtype](await new Response(packed).arrayBuffer());
    drawCurves();
  }

  function drawCurves() {
    if (!curves) return;
    const [, numRuns, numEpochs] = data.curves.shape;
    const lines = Array.from({ length: numRuns }, (_, run) => {
      const start = (state.index * numRuns + run) * numEpochs;
      return Array.from(curves.subarray(start, start + numEpochs), (step) => (step === data.curves.missing ? NaN : step * data.curves.unit));
    });
    const known = lines.flat().filter((value) => !Number.isNaN(value));
    $("curves-body").hidden = known.length === 0;
    $("curves-note").textContent = known.length === 0 ? "This architecture has no learning curves." : data.curves_note;
    if (known.length === 0) return;
    const target = prepare($("curves-canvas"));
    const { context } = target;
    const [low, high] = rangeOf(known.keys(), known, 0.05);
    const at = drawAxes(target, [1, Math.max(2, numEpochs)], [low, Math.min(101, high)], (epoch) => (Number.isInteger(epoch) ? epoch : ""));
    lines.forEach((line, run) => {
      context.strokeStyle = context.fillStyle = css(`--width${NUM_WIDTHS - (run % NUM_WIDTHS)}`);
      context.lineWidth = 2;
      context.setLineDash(DASHES[run % DASHES.length]);
      context.beginPath();
      line.forEach((value, epoch) => Number.isNaN(value) || context.lineTo(at.x(epoch + 1), at.y(value)));
      context.stroke();
      context.setLineDash([]);
      const best = line.indexOf(Math.max(...line.filter((value) => !Number.isNaN(value))));
      if (best < 0) return;
      context.beginPath();
      context.arc(at.x(best + 1), at.y(line[best]), 4.5, 0, 7);
      context.fill();
    });
    $("curves-legend").replaceChildren(
      ...lines.map((line, run) => {
        const best = Math.max(...line.filter((value) => !Number.isNaN(value)));
        const style = ["solid", "dashed", "dotted", "dash-dotted"][run % DASHES.length];
        const words = `run ${run} (${style}): `;
        if (best === -Infinity) return element("li", `${words}missing`);
        const last = line[numEpochs - 1];
        return element("li", `${words}best ${best.toFixed(2)} in epoch ${line.indexOf(best) + 1}, last ${Number.isNaN(last) ? "none, diverged" : last.toFixed(2)}`);
      }),
    );
  }

  // -- axis, budget, legend ------------------------------------------------------------------------------------

  function readBudgets() {
    const wrong = [];
    for (const axis of Object.keys(AXES)) {
      const input = $(`max-${axis}`);
      const value = parseBudget(input.value, arrays[axis][NUM_ARCHS - 1]);
      input.toggleAttribute("aria-invalid", false);
      if (Number.isNaN(value)) {
        input.setAttribute("aria-invalid", "true");
        wrong.push(`"${input.value}" is not a budget; it is left out`);
      }
      state.budget[axis] = Number.isNaN(value) ? Infinity : value;
    }
    const num = trained.filter(fits).length;
    const none = num === 0 ? "No architecture keeps to this budget." : `${whole(num)} of ${whole(trained.length)} architectures keep to the budget.`;
    $("budget-state").textContent = wrong.length ? wrong.join("; ") : limited() ? none : "";
    $("budget-state").classList.toggle("error", wrong.length > 0 || num === 0);
    $("best").disabled = num === 0;
    $("best").textContent = limited() ? "Choose the best within the budget" : "Choose the best";
  }

  // Best mean; of equal ones the one with fewer FLOPs, as Table.top.
  function chooseBest() {
    const fitting = byCost.flops.filter(fits);
    if (fitting.length) choose(fitting.reduce((best, index) => (rank[index] < rank[best] ? index : best)));
  }

  function refresh() {
    readBudgets();
    front = paretoFront();
    state.hover = -1;
    $("tip").hidden = true;
    $("x-name").textContent = `${AXES[state.axis]}${state.axis === "flops" ? ", multiply-accumulates of one image" : ""}`;
    const legend = [["line", "--front", "Pareto front"], ["ring", "--chosen", `chosen, with ${data.num_runs === 1 ? "its run" : "its runs as bars"}`]];
    if (state.colour === null) legend.push(["", "--point", "an architecture"]);
    else data.slots[state.colour].channels.forEach((channels, width) => legend.push(["", `--width${width + 1}`, `${channels} channels`]));
    if (trained.some((index) => !fits(index))) legend.push(["", "--outside", "over the budget"]);
    $("legend").replaceChildren(
      ...legend.map(([kind, colour, words]) => element("li", words, { class: kind, style: `--colour: var(${colour})` })),
    );
    $("front-title").textContent = `Pareto front for ${AXES[state.axis]}: ${whole(front.length)} architectures`;
    $("front-rows").replaceChildren(
      ...front.map((index) => {
        const row = element("tr");
        const button = element("button", textOf(index), { type: "button", "aria-label": `choose ${textOf(index)}` });
        button.addEventListener("click", () => choose(index));
        const cell = element("td");
        cell.append(button);
        const numbers = [mean[index].toFixed(3), whole(rank[index]), whole(arrays.flops[index]), whole(arrays.params[index])];
        row.append(cell, ...numbers.map((number) => element("td", number)));
        return row;
      }),
    );
    drawPoints();
    choose(state.index);
  }

  // -- start ---------------------------------------------------------------------------------------------------

  function setTheme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $("theme").textContent = dark ? "Light theme" : "Dark theme";
    if (scale) {
      drawPoints();
      drawCurves();
    }
  }

  async function copy() {
    const text = $("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = element("textarea", text); // where the page may not use the clipboard, the old way
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      $("copy").focus();
      if (!done) {
        $("copied").textContent = "The browser refused: select the line and copy it.";
        return;
      }
    }
    $("copied").textContent = "Copied.";
  }

  $("title").textContent = data.title;
  $("about").textContent = data.about;
  $("noise").textContent = data.noise;
  $("y-name").textContent = `${data.metric}, percent${data.num_runs > 1 ? `, mean over ${data.num_runs} runs` : ""}`;
  fillList($("provenance"), data.provenance);
  makeSliders();

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => setTheme(dark.matches));
  setTheme(dark.matches);
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  $("axis").addEventListener("change", () => {
    state.axis = $("axis").value;
    refresh();
  });
  $("colour").addEventListener("change", () => {
    state.colour = $("colour").value === "" ? null : Number($("colour").value);
    refresh();
  });
  for (const axis of Object.keys(AXES)) $(`max-${axis}`).addEventListener("input", refresh);
  $("best").addEventListener("click", chooseBest);
  $("copy").addEventListener("click", copy);
  $("arch").addEventListener("input", () => {
    const text = $("arch").value;
    if (/^[1-4]{7}$/.test(text)) choose(indexOf(text));
    else {
      $("arch").setAttribute("aria-invalid", "true");
      $("arch-error").textContent = "Seven digits 1 to 4, such as 4344424.";
    }
  });
  $("plot").addEventListener("pointermove", (event) => event.pointerType === "mouse" && showTip(nearest(event)));
  $("plot").addEventListener("pointerleave", () => showTip(-1));
  $("plot").addEventListener("click", (event) => {
    const found = nearest(event);
    if (found >= 0) choose(found);
  });

  const asked = location.hash.slice(1);
  state.index = /^[1-4]{7}$/.test(asked) ? indexOf(asked) : byCost.flops.reduce((best, index) => (rank[index] < rank[best] ? index : best));
  refresh();
  loadCurves();
  new ResizeObserver(() => {
    drawPoints();
    drawCurves();
  }).observe($("plot"));
})();
