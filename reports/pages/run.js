"use strict";
// The list of all tests of a run, and one test in full. Details are packed; a test's are unpacked when it is opened.

const DATA = JSON.parse(document.getElementById("data").textContent);
const TONE = DATA.tones;  // by name of an outcome: "good", "bad", "known" or "open"
const NAMES = ["q", "outcome", "library", "feature", "level", "sort"];
const CHECKS_SHOWN = 12;
const number = new Map(DATA.tests.map((nodeid, index) => [nodeid, index]));
const searched = DATA.requirements.map(([id, , sentence]) => `${id} ${sentence}`.toLowerCase());
const control = Object.fromEntries(NAMES.map((name) => [name, document.getElementById(`filter-${name}`)]));
const dialog = document.getElementById("detail");
const unpacked = new Map();
let found = [];
let opened = null;

const outcomeOf = (index) => DATA.outcomes[DATA.outcome[index]];

function badge(outcome) {
  const element = word(outcome);
  element.className = `outcome o-${TONE[outcome] || "open"}`;
  return element;
}

function link(nodeid) {
  return "#" + encodeURIComponent(nodeid).replace(/%(2F|3A|5B|5D)/g, (code) => decodeURIComponent(code));
}

function percent(used) {
  if (used === null) return "";
  if (used > 100) return "> 100 ×";
  return used >= 1.005 ? `${used.toPrecision(3)} ×` : `${(used * 100).toPrecision(2)} %`;
}

function figures(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "" : String(value);
  return value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(+value.toPrecision(4)) : value.toExponential(2);
}

function meter(used) {
  const bar = h("i");
  bar.style.width = `${Math.min(100, used * 100)}%`;
  return h("span", { class: `meter ${used > 1 ? "m-over" : used > 0.5 ? "m-near" : ""}` }, bar);
}

function row(position) {
  const index = found[position];
  const nodeid = DATA.tests[index];
  const used = DATA.headroom[index];
  return h("a", { class: "row", href: link(nodeid), role: "listitem" },
    h("div", {}, badge(outcomeOf(index))),
    h("div", { class: "what" }, h("span", { class: "name" }, nodeid), h("span", { class: "sentence" }, DATA.requirements[DATA.requirement[index]][2])),
    h("div", { class: "bar-cell" }, used === null ? null : [meter(used), h("span", { class: "number small" }, percent(used))]),
    h("div", { class: "number" }, DATA.seconds[index] === null ? "" : `${DATA.seconds[index].toFixed(1)} s`));
}

const list = new LongList(document.getElementById("list"), row, 2000);

function matches() {
  const words = control.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const [outcome, library, feature, level] = ["outcome", "library", "feature", "level"].map((name) => control[name].value);
  const kept = [];
  for (let index = 0; index < DATA.tests.length; index++) {
    const [id, itsLevel, , itsLibrary] = DATA.requirements[DATA.requirement[index]];
    if (outcome && outcomeOf(index) !== outcome && !(outcome === "bad" && TONE[outcomeOf(index)] === "bad")) continue;
    if (library && itsLibrary !== library) continue;
    if (level && itsLevel !== level) continue;
    if (feature && !DATA.featureSets[DATA.features[index]].includes(feature)) continue;
    if (words.length) {
      const name = DATA.tests[index].toLowerCase();
      const more = searched[DATA.requirement[index]];
      if (!words.every((one) => name.includes(one) || more.includes(one))) continue;
    }
    kept.push(index);
  }
  const by = {
    name: (a, b) => (DATA.tests[a] < DATA.tests[b] ? -1 : 1),
    headroom: (a, b) => (DATA.headroom[b] ?? -1) - (DATA.headroom[a] ?? -1),
    seconds: (a, b) => (DATA.seconds[b] ?? -1) - (DATA.seconds[a] ?? -1),
  }[control.sort.value];
  return by ? kept.sort(by) : kept;  // they come worst first
}

function refresh() {
  found = matches();
  list.show(found.length);
  const shown = document.getElementById("shown");
  shown.replaceChildren(word("shown", { shown: found.length, total: DATA.tests.length }));
  document.getElementById("nothing").hidden = found.length > 0;
  document.getElementById("clear").hidden = NAMES.every((name) => !control[name].value);
}

function filterHash() {
  const chosen = new URLSearchParams();
  for (const name of NAMES) if (control[name].value) chosen.set(name, control[name].value);
  return chosen.size ? `#?${chosen}` : "";
}

function remember() {
  history.replaceState(null, "", filterHash() || location.pathname + location.search);
}

function filter(wanted) {
  for (const name of NAMES) if (name !== "sort") control[name].value = wanted[name] || "";
  refresh();
  remember();
  document.getElementById("tests").scrollIntoView();
}

async function detailOf(index) {
  const part = Math.floor(index / DATA.part);
  if (!unpacked.has(part)) {
    const packed = atob(document.getElementById(`part-${part}`).textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(part, JSON.parse(await new Response(stream).text()));
    if (unpacked.size > 8) unpacked.delete(unpacked.keys().next().value);
  }
  return unpacked.get(part)[index % DATA.part];
}

function section(key, ...content) {
  return h("section", {}, word(key, null, "h3"), ...content);
}

function command(line) {
  return h("div", { class: "command" }, h("pre", {}, line), copyButton("copy", () => line));
}

// On a phone a row is stacked, and each cell brings its own head.
function table(heads, rows) {
  const cell = (value, column) => h("td", { class: typeof value === "number" ? "number" : "wide" },
    column ? word(heads[column], null, "small") : null, value instanceof Node || Array.isArray(value) ? value : figures(value));
  const made = h("table", { class: "stack" },
    h("thead", {}, h("tr", {}, heads.map((key) => word(key, null, "th")))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map(cell)))));
  for (const label of made.querySelectorAll("td > small")) label.className = "label";
  return h("div", { class: "scroll" }, made);
}

function legend(keys) {
  return h("div", { class: "legend" }, keys.map(([style, key]) => h("span", {}, h("i", { class: style }), word(key))));
}

function curve(one) {
  const plot = one.svg ? document.importNode(new DOMParser().parseFromString(one.svg, "image/svg+xml").documentElement, true) : null;
  const keys = [["l-card", "curve_card"]];
  if (one.reference) keys.push(["l-cpu", "curve_cpu"]);
  if (one.band) keys.push(["l-band", "curve_band"]);
  return h("figure", {}, h("figcaption", {}, h("b", {}, one.name), " ", one.reference && plot ? word("curve_parts") : null),
    plot || word("curve_not_drawn", null, "p"), plot ? legend(keys) : null);
}

function checks(all) {
  const order = all.map((check, index) => [check, index]).sort(([a, i], [b, j]) => (a.passed - b.passed) || ((b.used ?? -1) - (a.used ?? -1)) || i - j);
  const box = h("div");
  const line = ([check]) => [
    h("span", { class: "name" }, check.check), check.statistic,
    check.limit === null ? (check.passed ? word("exact") : badge("FAIL")) : h("span", {}, meter(check.used), " ", percent(check.used)),
    check.measured, check.limit];
  const draw = (count) => {
    box.replaceChildren(table(["check", "statistic", "used", "measured", "limit"], order.slice(0, count).map(line)));
    if (count < order.length) {
      const button = word("show_all", { count: order.length }, "button");
      button.addEventListener("click", () => draw(order.length));
      box.append(button);
    }
  };
  draw(CHECKS_SHOWN);
  return box;
}

function rankTable(ranks) {
  return table(["rank", "card", "end", "detail", "allocations", "peak_memory"], ranks.map((one, index) => [
    String(one.rank ?? index), one.facts?.card ?? "", h("span", { class: `outcome o-${one.end === "finished" ? "good" : one.end === "skipped" || one.end === "stopped" ? "open" : "bad"}` }, word(one.end)),
    one.detail ?? "", one.facts?.allocations ?? null, one.facts?.peak_bytes ? megabytes(one.facts.peak_bytes) : ""]));
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function folded(key, content, open) {
  return h("details", { open: open ? "" : null }, word(key, null, "summary"), h("pre", {}, content));
}

function article(index, detail) {
  const [id, level, sentence] = DATA.requirements[DATA.requirement[index]];
  const outcome = outcomeOf(index);
  const parts = [
    h("p", {}, badge(outcome), " ", h("span", { class: "name" }, id), " ", word(level)),
    h("h2", { lang: "en" }, sentence),
    h("p", { class: "name soft" }, DATA.tests[index]),
    word(`${outcome}_means`, null, "p"),
  ];
  if (detail.reason) parts.push(section("reason", h("pre", {}, detail.reason)));
  if (detail.waiver) {
    parts.push(section("waiver", h("p", {}, h("b", {}, detail.waiver.defect), " ", detail.waiver.reason), detail.waiver.link ? h("p", {}, detail.waiver.link) : null));
  }
  parts.push(section("reproduce", command(detail.reproduce)));
  if (detail.ranks.length) parts.push(section("rank_table", rankTable(detail.ranks)));
  if (detail.curves.length) parts.push(section("curves", ...detail.curves.map(curve)));
  if (detail.checks.length) parts.push(section("checks", checks(detail.checks)));
  if (detail.fallbacks.length) parts.push(section("fallbacks", h("ul", {}, detail.fallbacks.map((one) => h("li", { class: "mono" }, one)))));
  if (detail.findings.length) parts.push(section("findings", h("pre", {}, detail.findings.map((one) => JSON.stringify(one)).join("\n"))));
  if (detail.performance.length) {
    parts.push(section("speed", table(["workload", "ranks", "step_time", "throughput", "peak_memory"], detail.performance.map((one) => [
      h("span", { class: "name" }, one.workload), one.world_size, `${(one.step * 1000).toFixed(1)} ms`, one.throughput === null ? "" : one.throughput.toFixed(1), one.peak_bytes ? megabytes(one.peak_bytes) : ""]))));
  }
  parts.push(section("facts", h("dl", { class: "facts" }, Object.entries(detail.facts).map(([key, value]) => h("div", {}, word(key, null, "dt"), h("dd", {}, figures(value)))))));
  if (Object.keys(detail.values).length) parts.push(folded("values", JSON.stringify(detail.values, null, 1), false));
  if (detail.log) parts.push(folded("log", detail.log, true));
  return parts;
}

async function open(index) {
  opened = index;
  const box = dialog.querySelector("article");
  if (typeof DecompressionStream === "undefined") {
    box.replaceChildren(word("old_browser", null, "p"));
  } else {
    const detail = await detailOf(index);
    if (opened !== index) return;
    box.replaceChildren(...article(index, detail));
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function step(by) {
  const place = found.indexOf(opened) + by;
  if (place >= 0 && place < found.length) location.hash = link(DATA.tests[found[place]]);
}

function route() {
  const hash = location.hash.slice(1);
  const message = document.getElementById("no-such-test");
  message.hidden = true;
  if (hash.startsWith("?")) {
    const wanted = new URLSearchParams(hash.slice(1));
    for (const name of NAMES) control[name].value = wanted.get(name) || "";
    refresh();
  }
  if (!hash || hash.startsWith("?") || document.getElementById(hash)) {
    if (dialog.open) dialog.close();
    return;
  }
  let nodeid = hash;
  try { nodeid = decodeURIComponent(hash); } catch { /* not encoded: taken as it is */ }
  if (number.has(nodeid)) {
    open(number.get(nodeid));
  } else {
    message.hidden = false;
    message.replaceChildren(word("unknown_test"), `: ${nodeid}`);
  }
}

for (const name of NAMES) control[name].addEventListener(name === "q" ? "input" : "change", () => { refresh(); remember(); });
document.getElementById("clear").addEventListener("click", () => filter({}));
for (const button of document.querySelectorAll("button[data-library], button[data-outcome]")) {
  button.addEventListener("click", () => filter(button.dataset));
}
dialog.addEventListener("close", () => { opened = null; remember(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
document.getElementById("close").addEventListener("click", () => dialog.close());
document.getElementById("previous").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
document.getElementById("copy-link").replaceWith(copyButton("copy_link", () => location.href));
addEventListener("hashchange", route);
refresh();
route();
