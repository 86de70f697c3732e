// A piece of code, what came out of it, its sub-calls, its calls of tools and the variables that it changed.
import { h, build, code, plural, shape } from "./elements.js";
import { Stretch } from "./text.js";
import { Calls } from "./calls.js";

export class Cell {
  constructor(view, run, place) {
    Object.assign(this, { view, run, place, blocks: new Map() });
    this.code = h("div");
    this.out = h("div");
    this.state = h("p", { class: "rlm-state", hidden: true });
    this.lists = new Map();
    this.sub = { q: h("div"), u: h("div") };
    this.vars = h("div");
    this.el = h("div", { class: "rlm-cell" }, this.code, this.out, this.state, this.sub.q, this.sub.u, this.vars);
    const keys = [...view.table.values.keys()].filter((key) => `${key.slice(2)}/`.startsWith(`${place}/`));
    for (const kind of "cowxynqmuv") for (const key of keys) if (key[0] === kind) this.update(key, null);
  }

  update(key, grown) {
    const value = this.view.table.get(key);
    const block = key.split("/")[4];
    switch (key[0]) {
      case "c": {
        this.code.replaceChildren(code(value.code));
        this.el.classList.toggle("rlm-running", value.status === "running");
        this.state.hidden = !value.words;
        this.state.textContent = value.words ?? "";
        break;
      }
      case "o": return this.list(value);
      case "w": return this.block(block).replaceChildren(...shape(value));
      case "x": return this.text(block, value, grown);
      case "y": return this.stretch(block)?.rest(value);
      case "n": case "q": return this.calls("q", key[0], grown);
      case "m": case "u": return this.calls("u", key[0], grown);
      case "v": {
        const rows = value.filter((n) => n[0] === "table").flatMap((n) => n[1]?.slice(1) ?? []).length;
        this.vars.replaceChildren(h("details", { class: "rlm-vars" }, h("summary", {}, rows ? `${plural(rows, "variable")} changed` : "variables removed"), ...value.map(build)));
      }
    }
  }

  list(shown) {
    this.kinds = new Map(shown.map(([n, kind]) => [String(n), kind]));
    for (const [n, el] of this.blocks) if (n !== "left" && !this.kinds.has(n)) el.remove();
    for (const [n] of shown) this.block(String(n));
  }

  block(n) {
    if (!this.blocks.has(n)) {
      const el = h("div");
      this.blocks.set(n, el);
      if (n === "left") this.out.prepend(el);
      else this.out.append(el);
    }
    return this.blocks.get(n);
  }

  stretch(n) {
    const el = this.block(n);
    const [, run, i, c] = ["", ...this.place.split("/")];
    el.stretch ??= new Stretch(this.kinds?.get(n) ?? "stdout", (from) =>
      this.view.table.ask({ more: [run, Number(i), Number(c), Number(n)], from }));
    if (!el.firstChild) el.append(el.stretch.el);
    return el.stretch;
  }

  text(n, value, grown) {
    const stretch = this.stretch(n);
    if (grown) stretch.grow(grown);
    else stretch.set(value);
  }

  calls(rows, kind, grown) {
    const list = this.lists.get(rows);
    if (!list) {
      const made = new Calls(this.view, this.run, this.place, rows);
      this.lists.set(rows, made);
      this.sub[rows].append(made.el);
      made.draw();
    } else if (kind !== rows) list.counts();
    else list.rows(grown ?? this.view.table.get(list.key));
  }
}
