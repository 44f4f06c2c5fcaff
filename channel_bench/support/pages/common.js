"use strict";
// What the scripts of all pages share: unpacking of channel_bench.support.page.pack_array, numbers as words, budgets, elements.
const common = (() => {
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const KINDS = { "<f8": Float64Array, "<f4": Float32Array, "<i4": Int32Array, "<u2": Uint16Array };

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  const unpack = ({ dtype, base64 }) => new KINDS[dtype](bytesOf(base64).buffer);

  const whole = (value) => value.toLocaleString("en-US");

  function short(value) {
    for (const [scale, suffix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= scale) return `${Number((value / scale).toPrecision(3))}${suffix}`;
    }
    return String(Number(value.toPrecision(3)));
  }

  // A budget in the words of the command line: a number, with k, M or G, or a share of the widest ("0.5x"). Infinity
  // where nothing is said, NaN where it is no budget.
  function parseBudget(text, most) {
    if (text.trim() === "") return Infinity;
    const match = /^\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?|[0-9]+\.)\s*([kMGx]?)\s*$/.exec(text);
    const value = match ? Number(match[1]) * { "": 1, k: 1e3, M: 1e6, G: 1e9, x: most }[match[2]] : NaN;
    return value > 0 && Number.isFinite(value) ? value : NaN;
  }

  function element(tag, text = "", attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function fillList(list, rows) {
    list.replaceChildren(...rows.flatMap(([term, value]) => [element("dt", term), element("dd", value)]));
  }

  return { $, css, KINDS, bytesOf, unpack, whole, short, parseBudget, element, fillList };
})();
