// Reading a run that is over: step through it, filter it, find a text.
import { h, number, plural } from "./elements.js";

export class Tools {
  constructor(view) {
    this.view = view;
    this.scrub = h("input", { type: "range", min: 1, max: 1, value: 1, "aria-label": "step through the run", oninput: () => this.step() });
    this.search = h("input", { type: "search", placeholder: "Find a text", "aria-label": "find a text in the run", oninput: () => this.look(this.search.value) });
    this.found = h("span", { class: "rlm-note", role: "status" });
    this.choices = h("div", { class: "rlm-only", role: "group", "aria-label": "which iterations" }, ...["All", "Errors", "Sub-calls"].map((name) =>
      h("button", { type: "button", "aria-pressed": String(name === "All"), onclick: (e) => this.pick(e.currentTarget) }, name)));
    this.only = "All";
    this.numbers = null;
    this.el = h("div", { class: "rlm-tools", hidden: true }, h("label", {}, "iteration ", this.scrub), this.choices, this.search, this.found);
  }

  get items() {
    return [...this.view.root.items.values()];
  }

  step() {
    const wanted = this.items.filter((item) => !item.el.hidden);
    const item = wanted[Math.min(Number(this.scrub.value), wanted.length) - 1];
    for (const other of wanted) other.open(other === item);
    if (item) this.view.reveal(item);
  }

  pick(button) {
    for (const other of this.choices.children) other.setAttribute("aria-pressed", String(other === button));
    this.only = button.textContent;
    this.sift();
  }

  async look(text) {
    this.search.value = text;
    this.numbers = null;
    if (text.trim()) {
      const { answer, late } = this.view.table.ask({ find: text });
      late.then((words) => words && this.search.value === text && (this.found.textContent = words));
      const { found } = await answer;
      if (this.search.value !== text) return;
      this.numbers = new Set(found ?? []);
    }
    this.sift();
  }

  // Escape empties the search before it leaves the panel.
  emptied(target) {
    if (target !== this.search || !this.search.value) return false;
    this.look("");
    return true;
  }

  sift() {
    let left = 0;
    for (const item of this.items) {
      const fits = this.only === "All" || (this.only === "Errors" ? item.el.classList.contains("rlm-trouble") : Boolean(item.value.calls));
      item.el.hidden = !(fits && (!this.numbers || this.numbers.has(item.n)));
      left += !item.el.hidden;
    }
    this.scrub.max = String(Math.max(1, left));
    const all = this.only === "All" && !this.numbers;
    this.found.textContent = all ? "" : left ? `${number(left)} of ${plural(this.items.length, "iteration")}` : "no such iteration";
  }
}
