// An iteration: a line, and below it what happened. It is built when it is opened.
import { h, build, number, plural, duration } from "./elements.js";
import { Stretch, Draft } from "./text.js";
import { Cell } from "./cell.js";

export class Iteration {
  constructor(view, run, n) {
    Object.assign(this, { view, run, n, place: `${run}/${n}`, cells: new Map(), auto: true });
    this.mark = h("span", { class: "rlm-mark" });
    this.about = h("span", { class: "rlm-about" });
    this.words = h("span", { class: "rlm-words" });
    this.facts = h("span", { class: "rlm-facts" });
    this.body = h("div", { class: "rlm-body" });
    this.el = h("details", { class: "rlm-it", "data-n": n, ontoggle: () => this.toggled() },
      h("summary", { onclick: () => (this.auto = false) }, this.mark, h("span", { class: "rlm-n" }, n), this.about, this.words, this.facts), this.body);
    this.line();
  }

  line() {
    const v = this.view.table.get(`i/${this.place}`) ?? {};
    this.value = v;
    this.mark.textContent = v.mark ?? "";
    this.mark.className = `rlm-mark rlm-${{ ok: "good", submitted: "good", now: "now", none: "short", running: "short" }[v.state] ?? "bad"}`;
    this.about.textContent = v.about ?? (v.state === "now" ? "" : "…");
    const notes = v.notes ? plural(v.notes, "note") : "";
    const calls = v.calls ? plural(v.calls, "sub-call") + (v.bad ? `, ${number(v.bad)} failed` : "") : "";
    const tools = v.tools ? plural(v.tools, "tool call") : "";
    this.words.textContent = [v.words, calls, tools, notes].filter(Boolean).join(" · ");
    const spent = (v.model ?? 0) + (v.code ?? 0);
    this.facts.textContent = [v.tokens ? `${number(v.tokens)} tok` : "", spent ? duration(spent) : ""].filter(Boolean).join(" · ");
    if (v.written && this.run === this.view.root?.run) this.view.written(this);
    this.el.classList.toggle("rlm-trouble", Boolean(v.bad) || this.mark.classList.contains("rlm-bad"));
  }

  open(yes) {
    if (this.el.open !== yes) this.el.open = yes;
  }

  toggled() {
    if (!this.el.open) return this.empty();
    if (this.view.table.get(`b/${this.place}`) || this.view.table.get(`r/${this.place}`) !== undefined || this.value.state === "now") this.fill();
    else this.fetch();
    this.view.settled();
  }

  async fetch() {
    const note = h("p", { class: "rlm-note" }, "Loading…");
    this.body.replaceChildren(note);
    const late = await this.view.table.borrow(this.run, this.n);
    if (late) note.textContent = this.view.over ? late : `${late} This older iteration can be read when the run has ended.`;
  }

  empty() {
    this.body.replaceChildren();
    this.cells.clear();
    this.made = this.draft = this.thinking = null;
  }

  // What is there already stays where it is: taken out and put back, it would lose the focus and where it was scrolled to.
  fill() {
    const b = this.view.table.get(`b/${this.place}`);
    if (!b) return this.stream();
    this.draft = this.thinking = null;
    const [old, made] = [this.made ?? new Map(), new Map()];
    const keep = (name, make) => made.set(name, old.get(name) ?? make());
    (b.notes ?? []).forEach((n, at) => keep(`note ${at} ${n}`, () => h("p", { class: "rlm-note" }, `Note: ${n}`)));
    if (b.thinking) keep("thinking", () => h("details", { class: "rlm-think" }, h("summary", {}, "Thinking"), ...b.thinking.map(build)));
    (b.parts ?? []).forEach(([kind, value], at) => {
      if (kind === "p") keep(`${at} ${JSON.stringify(value)}`, () => h("div", { class: "rlm-prose" }, ...value.map(build)));
      else keep(`cell ${value}`, () => this.cell(String(value)).el);
    });
    this.made = made;
    const wanted = new Set(made.values());
    for (const el of [...this.body.childNodes]) if (!wanted.has(el)) el.remove();
    let next = this.body.firstChild;
    for (const el of wanted) {
      if (el === next) next = next.nextSibling;
      else this.body.insertBefore(el, next);
    }
    for (const cell of this.cells.values()) for (const list of cell.lists.values()) list.draw();
  }

  stream() {
    const table = this.view.table;
    for (const [kind, name] of [["k", "thinking"], ["r", "draft"]]) {
      const text = table.get(`${kind}/${this.place}`);
      if (!text) continue;
      if (!this[name]) {
        this[name] = kind === "r" ? new Draft() : new Stretch("stdout");
        this.body.append(kind === "r" ? this.draft.el : h("details", { class: "rlm-think", open: true }, h("summary", {}, "Thinking"), this.thinking.el));
      }
      this[name].set(text);
      const rest = table.get(`${kind}t/${this.place}`);
      if (rest && kind === "k") this.thinking.rest(rest);
      else if (rest) {
        this.late ??= new Stretch("raw");
        this.late.rest(rest);
        this.draft.el.append(this.late.el);
      }
    }
  }

  cell(c) {
    if (!this.cells.has(c)) this.cells.set(c, new Cell(this.view, this.run, `${this.place}/${c}`));
    return this.cells.get(c);
  }

  update(key, grown) {
    if (key[0] === "i") return this.line();
    if (!this.el.open) return;
    const [kind, , , c] = key.split("/");
    if (kind === "b") this.fill();
    else if ("rk".includes(kind[0])) this.stream();
    else if (c !== undefined && this.cells.has(c)) this.cells.get(c).update(key, grown);
  }
}

// A run: its iterations, in order.
export class Run {
  constructor(view, run) {
    Object.assign(this, { view, run, items: new Map() });
    this.el = h("div", { class: "rlm-run" });
    view.runs.set(run, this);
    for (const key of view.table.values.keys()) if (key.startsWith(`i/${run}/`)) this.item(Number(key.split("/")[2]));
  }

  item(n) {
    if (!this.items.has(n)) {
      const made = new Iteration(this.view, this.run, n);
      const next = this.last?.n > n ? [...this.items.values()].find((i) => i.n > n) : null;
      this.items.set(n, made);
      this.el.insertBefore(made.el, next?.el ?? null);
      if (!next) this.last = made;
    }
    return this.items.get(n);
  }

  update(key, grown) {
    const n = Number(key.split("/")[2]);
    if (this.items.has(n) || key[0] === "i") this.item(n).update(key, grown);
  }
}
