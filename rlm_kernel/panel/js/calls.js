// The sub-calls of a cell, or its calls of tools: a list of any length, of which only the rows in sight exist.
import { h, number, plural, duration } from "./elements.js";
import { Stretch } from "./text.js";
import { Run } from "./iteration.js";

const ROW = 46; // pixels of one row, as in panel.css
const LISTS = {
  q: { counts: "n", noun: "sub-call", ask: "call", asked: "asked", said: "replied", waiting: "no reply yet" },
  u: { counts: "m", noun: "tool call", ask: "tool", asked: "called", said: "returned", waiting: "has not returned yet" },
};

export class Calls {
  constructor(view, run, place, rows) {
    Object.assign(this, { view, run, place, kind: LISTS[rows], key: `${rows}/${place}`, order: [], chosen: -1, shown: new Map(), front: 0, follow: true });
    this.words = h("span");
    this.bar = h("span", { class: "rlm-bar", "aria-hidden": "true" }, h("i", { class: "rlm-done" }), h("i", { class: "rlm-failed" }));
    this.inner = h("div", { role: "presentation" });
    this.list = h("div", {
      class: "rlm-calls", role: "listbox", tabindex: 0, "aria-label": `${this.kind.noun}s`,
      onscroll: () => this.scrolled(), onkeydown: (e) => this.key_(e), onclick: (e) => this.click(e),
    }, this.inner);
    this.detail = h("div", { class: "rlm-detail", hidden: true, onkeydown: (e) => e.key === "Escape" && this.left(e) });
    this.el = h("details", { class: "rlm-sub", open: true, ontoggle: () => this.draw() },
      h("summary", {}, this.words, this.bar), this.list, this.detail);
    this.counts();
    this.rows(view.table.get(this.key) ?? {});
  }

  counts() {
    const [asked = 0, done = 0, failed = 0, batches = 0] = this.view.table.get(`${this.kind.counts}/${this.place}`) ?? [];
    const within = batches > 1 ? ` in ${batches} batches` : batches ? " in a batch" : "";
    const progress = done < asked ? `${number(done)} of ${plural(asked, this.kind.noun)} done` : `${plural(asked, this.kind.noun)}${within}`;
    this.words.textContent = progress + (failed ? `, ${number(failed)} failed` : "");
    const [ok, bad] = this.bar.children;
    ok.style.width = `${asked ? (100 * (done - failed)) / asked : 0}%`;
    bad.style.width = `${asked ? (100 * failed) / asked : 0}%`;
    this.bar.classList.toggle("rlm-full", done === asked);
  }

  rows(more) {
    const known = this.order.length;
    const values = this.view.table.get(this.key) ?? {};
    const numbers = Object.keys(more);
    for (const n of numbers) this.shown.get(n)?.remove();
    for (const n of numbers) this.shown.delete(n);
    if (numbers.length) this.order = Object.keys(values);
    const rows = Math.min(this.order.length, 6);
    this.list.style.height = `${rows * ROW + 2}px`;
    if (known !== this.order.length) this.inner.style.height = `${this.order.length * ROW}px`;
    this.advance(values);
    this.draw();
  }

  // In sight is the first call that is not done yet, until the reader goes elsewhere in the list.
  advance(values) {
    while (this.front < this.order.length && values[this.order[this.front]][0]) this.front += 1;
    if (!this.follow || this.chosen >= 0 || this.front === this.order.length) return;
    this.list.scrollTop = Math.max(0, this.front - 4) * ROW;
    this.put = this.list.scrollTop;
  }

  scrolled() {
    if (Math.abs(this.list.scrollTop - (this.put ?? 0)) > 1) this.follow = false;
    this.draw();
  }

  draw() {
    if (!this.el.open || !this.el.isConnected) return;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 2);
    const wanted = this.order.slice(first, first + 12);
    for (const [n, el] of this.shown) {
      if (!wanted.includes(n)) {
        el.remove();
        this.shown.delete(n);
      }
    }
    const values = this.view.table.get(this.key) ?? {};
    let next = this.inner.firstChild; // in the order in which they are seen, for those who have them read out
    wanted.forEach((n, at) => {
      if (this.shown.has(n)) next = this.shown.get(n).nextSibling;
      else if (values[n]) {
        this.shown.set(n, this.row(n, values[n], first + at));
        this.inner.insertBefore(this.shown.get(n), next);
      }
    });
    const active = this.shown.get(this.order[this.chosen]);
    if (active) this.list.setAttribute("aria-activedescendant", active.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(n, [state, , seconds, tokens, prompt, said, run], at) {
    const marks = ["…", "✓", "✗"];
    const facts = state ? [seconds ? duration(seconds) : "", tokens ? `${number(tokens)} tok` : ""].filter(Boolean).join(" · ") : "waiting";
    return h("div", {
      class: `rlm-row rlm-row${state}`, role: "option", id: `${this.view.uid}-${this.key.replaceAll("/", "-")}-${n}`, "data-at": at,
      style: `top:${at * ROW}px`, "aria-selected": String(at === this.chosen), "aria-setsize": this.order.length, "aria-posinset": at + 1,
    },
    h("span", { class: "rlm-mark", "aria-label": ["waiting", "done", "failed"][state] }, marks[state]),
    h("span", { class: "rlm-n" }, n),
    h("span", { class: "rlm-asked" }, prompt),
    h("span", { class: "rlm-facts" }, run ? `own run · ${facts}` : facts),
    h("span", { class: "rlm-said" }, said));
  }

  choose(at, open) {
    if (!this.order.length) return;
    const before = this.shown.get(this.order[this.chosen]);
    before?.setAttribute("aria-selected", "false");
    this.chosen = Math.max(0, Math.min(this.order.length - 1, at));
    const top = this.chosen * ROW;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW - this.list.clientHeight;
    this.draw();
    this.shown.get(this.order[this.chosen])?.setAttribute("aria-selected", "true");
    if (open) this.open();
  }

  click(event) {
    const row = event.target.closest("[data-at]");
    if (row) this.choose(Number(row.dataset.at), true);
  }

  key_(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in steps) this.choose(this.chosen + steps[event.key], !this.detail.hidden);
    else if (event.key === "Enter" || event.key === " ") this.choose(Math.max(0, this.chosen), true);
    else if (event.key === "Escape" && !this.detail.hidden) this.shut();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  left(event) {
    this.shut();
    event.preventDefault();
    event.stopPropagation();
  }

  shut() {
    this.detail.hidden = true;
    this.list.focus();
  }

  async open() {
    const n = Number(this.order[this.chosen]);
    this.detail.hidden = false;
    this.detail.replaceChildren(h("p", { class: "rlm-note" }, "Loading…"));
    const { answer, late } = this.view.table.ask({ [this.kind.ask]: [this.run, n] });
    const chosen = () => Number(this.order[this.chosen]) === n && !this.detail.hidden;
    late.then((words) => words && chosen() && this.detail.replaceChildren(h("p", { class: "rlm-note" }, words)));
    const { call } = await answer;
    if (!call || !chosen()) return;
    const facts = [call.model, call.seconds ? duration(call.seconds) : "", call.tokens?.some(Boolean) ? `${number(call.tokens[0])} → ${number(call.tokens[1])} tokens` : "", call.cost];
    const part = (name, value, kind) => {
      const shown = new Stretch(kind, (from) => this.view.table.ask({ more: [this.run, n, name], from }));
      shown.set(value[0]);
      shown.rest(value.slice(1));
      return shown.el;
    };
    this.detail.replaceChildren(
      h("p", { class: "rlm-facts" }, `${n} · `, facts.filter(Boolean).join(" · "),
        h("button", { type: "button", class: "rlm-link rlm-shut", "aria-label": "close", onclick: () => this.shut() }, "✕")),
      h("p", { class: "rlm-label" }, this.kind.asked), part("prompt", call.prompt ?? ["", 0, ""], "stdout"),
      h("p", { class: "rlm-label" }, call.error ? "failed" : call.state ? this.kind.said : this.kind.waiting),
      call.error ? h("pre", { class: "rlm-out rlm-error" }, call.error) : call.state ? part("reply", call.reply ?? ["", 0, ""], "stdout") : "");
    if (call.run) {
      this.child = new Run(this.view, call.run);
      this.detail.append(h("p", { class: "rlm-label" }, "its own run"), this.child.el);
    }
  }
}
