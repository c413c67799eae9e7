"use strict";
// What every page has: two languages, light and dark, lists of any length. Data becomes text nodes, never markup.

const WORDS = JSON.parse(document.getElementById("words").textContent);
const THEMES = ["auto", "light", "dark"];
let language = 0;

function stored(name) {
  try { return localStorage.getItem("npu-conformance-" + name); } catch { return null; }  // a page may be denied storage
}

function store(name, value) {
  try { localStorage.setItem("npu-conformance-" + name, value); } catch { /* then it is asked for again */ }
}

function text(key, values) {
  const found = Object.hasOwn(WORDS, key) ? WORDS[key][language] : key.replaceAll("_", " ");
  return values ? found.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all) : found;
}

// An element: attributes whose name begins with "on" are listeners; children are nodes, or text.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// A word of the interface, which follows the language.
function word(key, values, tag = "span") {
  const element = h(tag, { "data-t": key }, text(key, values));
  if (values) element.dataset.values = JSON.stringify(values);
  return element;
}

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = ["en", "zh"][language];
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = text(element.dataset.t, element.dataset.values && JSON.parse(element.dataset.values));
  }
  for (const element of document.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = text(element.dataset.tPlaceholder);
    element.setAttribute("aria-label", element.placeholder);
  }
  for (const element of document.querySelectorAll("[data-t-title]")) element.title = text(element.dataset.tTitle);
}

function dress(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.dataset.t = "theme_" + theme;
  button.textContent = text(button.dataset.t);
}

function copyButton(key, content) {
  const button = word(key, null, "button");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(content());
    } catch {  // no clipboard for a page of a file in some browsers
      const area = h("textarea", {}, content());
      button.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.dataset.t = "copied";
    button.textContent = text("copied");
    setTimeout(() => { button.dataset.t = key; button.textContent = text(key); }, 1500);
  });
  return button;
}

// A list of any length in the page: only the rows in sight exist. ``row(number)`` makes an element of fixed height.
class LongList {
  constructor(container, row, printed) {
    this.container = container;
    this.row = row;
    this.printed = printed;  // rows that a printed page gets at most
    this.count = 0;
    this.range = "";
    this.printing = false;
    this.above = h("div");
    this.below = h("div");
    this.rows = h("div", { role: "list" });
    container.replaceChildren(this.above, this.rows, this.below);
    for (const event of ["scroll", "resize"]) addEventListener(event, () => this.later(), { passive: true });
    addEventListener("beforeprint", () => { this.printing = true; this.draw(true); });
    addEventListener("afterprint", () => { this.printing = false; this.draw(true); });
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  show(count) {
    this.count = count;
    this.draw(true);
  }

  height() {
    if (!this.rows.firstChild && this.count) this.rows.append(this.row(0));
    return this.rows.firstChild ? this.rows.firstChild.getBoundingClientRect().height || 56 : 56;
  }

  draw(anew) {
    const height = this.height();
    const top = this.container.getBoundingClientRect().top;
    let first = Math.max(0, Math.floor(-top / height) - 10);
    let last = Math.min(this.count, Math.max(first + 30, Math.ceil((innerHeight - top) / height) + 10));
    if (this.printing) [first, last] = [0, Math.min(this.count, this.printed)];
    first = Math.min(first, this.count);
    last = Math.max(first, last);
    if (!anew && this.range === `${first}-${last}-${height}`) return;
    this.range = `${first}-${last}-${height}`;
    const rows = [];
    for (let number = first; number < last; number++) rows.push(this.row(number));
    this.rows.replaceChildren(...rows);
    if (this.printing && last < this.count) this.rows.append(word("print_rest", { count: this.count - last }, "p"));
    this.above.style.height = this.printing ? "0" : `${first * height}px`;
    this.below.style.height = this.printing ? "0" : `${(this.count - last) * height}px`;
  }
}

document.getElementById("language").addEventListener("click", () => {
  speak(1 - language);
  store("language", language);
});
document.getElementById("theme").addEventListener("click", () => {
  const current = document.documentElement.dataset.theme || "auto";
  const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
  dress(next);
  store("theme", next);
});
dress(THEMES.includes(stored("theme")) ? stored("theme") : "auto");
speak(Number(stored("language") ?? (navigator.language.startsWith("zh") ? 1 : 0)) === 1 ? 1 : 0);
