"use strict";
// All tests over all runs: a strip of outcomes, and what the check closest to its limit used of it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS_SHOWN = 40;  // newest ones, of which a strip has room
const search = document.getElementById("filter-q");
const show = document.getElementById("filter-show");
let found = [];

const percent = (used) => (used > 1 ? `${used.toPrecision(3)} ×` : `${(used * 100).toPrecision(2)} %`);
const known = (index) => DATA.used[index].filter((used) => used !== null);

function drifting(index) {
  const used = known(index);
  if (used.length < 2) return false;
  const [first, last] = [used[0], used[used.length - 1]];
  return last - first >= 0.05 && last >= 1.5 * first;
}

const CHOICES = {
  "": () => true,
  flaky: (index) => DATA.flakiness[index] > 0,
  changed: (index) => DATA.changed[index] === 1,
  failing: (index) => {
    const ends = DATA.ends[index];
    const last = ends[ends.length - 1];
    return last >= 0 && DATA.tones[DATA.outcomes[last]] === "bad";
  },
  drifting,
};

function strip(index) {
  const ends = DATA.ends[index].slice(-RUNS_SHOWN);
  return h("span", { class: "strip", role: "img", "aria-label": ends.map((end) => (end < 0 ? "-" : DATA.outcomes[end])).join(" ") },
    ends.map((end) => h("i", { class: end < 0 ? "i-none" : `i-${DATA.tones[DATA.outcomes[end]]}`, title: end < 0 ? "-" : DATA.outcomes[end] })));
}

function row(position) {
  const index = found[position];
  const used = known(index);
  const last = used.length ? used[used.length - 1] : null;
  return h("div", { class: "row", role: "listitem" },
    h("div", { class: "what" }, h("span", { class: "name" }, DATA.tests[index]), h("span", { class: "sentence" }, DATA.requirements[DATA.requirement[index]][1])),
    h("div", {}, strip(index)),
    h("div", { class: "number" }, DATA.flakiness[index] ? [word("flaky"), ` ${(100 * DATA.flakiness[index]).toFixed(0)} %`] : ""),
    h("div", { class: "number" }, used.length > 1 && used[0] !== last ? `${percent(used[0])} → ${percent(last)}` : last === null ? "" : percent(last)));
}

const list = new LongList(document.getElementById("list"), row, 2000);

function refresh() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  found = [];
  for (let index = 0; index < DATA.tests.length; index++) {
    if (!CHOICES[show.value](index)) continue;
    const text = `${DATA.tests[index]} ${DATA.requirements[DATA.requirement[index]].join(" ")}`.toLowerCase();
    if (words.every((one) => text.includes(one))) found.push(index);
  }
  list.show(found.length);
  document.getElementById("shown").replaceChildren(word("shown", { shown: found.length, total: DATA.tests.length }));
}

search.addEventListener("input", refresh);
show.addEventListener("change", refresh);
for (const button of document.querySelectorAll("button[data-show]")) {
  button.addEventListener("click", () => {
    show.value = button.dataset.show;
    refresh();
    document.getElementById("tests").scrollIntoView();
  });
}
refresh();
