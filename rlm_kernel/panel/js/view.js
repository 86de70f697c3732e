// The whole panel, one for each place where the widget is shown.
import { h, build, number, plural, duration } from "./elements.js";
import { Table } from "./table.js";
import { Run } from "./iteration.js";
import { Strip } from "./strip.js";
import { Tools } from "./tools.js";

const STEADY = 300; // pixels below which the list does not shrink again: what stands below it shall not jump
const LATE = "This page was loaded while the run went on, so the cell keeps the panel, which ends with the kernel. To keep the result in the notebook, show it in a new cell.";
const HAND = 1000; // milliseconds for which the list may scroll on after the reader moved it

let panels = 0;

class View {
  constructor(table, parent) {
    Object.assign(this, { table, runs: new Map(), follow: true, uid: `rlm${(panels += 1)}` });
    this.badge = h("span", { class: "rlm-badge" });
    this.question = h("p", { class: "rlm-question" });
    this.whole = h("button", { type: "button", class: "rlm-link", hidden: true, "aria-expanded": "false", onclick: () => this.unfold() }, "Show all of the question");
    this.stop = h("button", { type: "button", class: "rlm-stop", onclick: () => this.halt() }, h("span", { class: "rlm-square", "aria-hidden": "true" }), h("span", {}, "Stop"));
    this.told = h("p", { class: "rlm-told", role: "status", hidden: true });
    this.stats = h("dl", { class: "rlm-stats" });
    this.about = h("div");
    this.strip = new Strip(this);
    this.answer = h("div", { class: "rlm-answer", hidden: true });
    this.list = h("div", { class: "rlm-list", tabindex: 0, role: "region", "aria-label": "iterations of the run", onscroll: () => this.scrolled(), ...this.hands() });
    this.jump = h("button", { type: "button", class: "rlm-jump", hidden: true, onclick: () => this.toEnd() }, "Follow ↓");
    this.tools = new Tools(this);
    this.el = h("section", { class: "rlm", "aria-label": "a run of %%rlm", onkeydown: (e) => this.key(e) },
      h("header", {}, h("div", { class: "rlm-top" }, this.badge, h("div", { class: "rlm-ask" }, this.question, this.whole), this.stop),
        this.told, this.stats, this.about, this.strip.el, this.tools.el),
      this.answer, h("div", { class: "rlm-hold" }, this.list, this.jump));
    parent.append(this.el);
    table.views.add(this);
    this.reset();
    this.clock = setInterval(() => this.tick(), 250);
    this.ours = (event) => this.keep(event);
    window.addEventListener("keydown", this.ours, true);
  }

  close() {
    clearInterval(this.clock);
    window.removeEventListener("keydown", this.ours, true);
    this.strip.size.disconnect();
    window.removeEventListener("pointerup", this.lifted, true);
    this.table.views.delete(this);
  }

  reset() {
    this.runs.clear();
    this.root = null;
    this.list.replaceChildren();
    const run = this.table.root;
    if (run === null) {
      this.badge.textContent = "Starting";
      this.badge.className = "rlm-badge rlm-now";
      return;
    }
    this.root = new Run(this, run);
    this.list.append(this.root.el);
    this.head();
    this.totals();
    this.shown();
    const last = this.newest();
    if (last) this.began(last);
    this.tick();
  }

  update(changed) {
    if (!this.root) return this.reset();
    const before = this.newest();
    for (const [key, grown] of changed) {
      const [kind, run] = key.split("/");
      if (kind === "h") run === this.root.run && this.head();
      else if (kind === "t") run === this.root.run && this.totals();
      else if (kind === "a") run === this.root.run && this.shown();
      else this.runs.get(run)?.update(key, grown);
    }
    if (this.newest() !== before) this.began(this.newest());
    this.settled();
  }

  holds(key) {
    const [, run, n] = key.split("/");
    return Boolean(this.runs.get(run)?.items.get(Number(n))?.el.open);
  }

  head() {
    const v = this.table.get(`h/${this.root.run}`) ?? {};
    this.value = v;
    this.over = v.tone !== "now";
    this.badge.textContent = v.words ?? "Running";
    this.badge.className = `rlm-badge rlm-${v.tone ?? "now"}`;
    if (this.question.textContent !== v.question) {
      this.question.textContent = v.question ?? "";
      requestAnimationFrame(() => (this.whole.hidden = this.question.scrollHeight <= this.question.clientHeight + 2));
      const models = [v.model, v.sub && v.sub !== v.model ? `sub-calls: ${v.sub}` : ""].filter(Boolean).join(", ");
      this.about.replaceChildren(h("details", { class: "rlm-vars" },
        h("summary", {}, [v.signature, models, v.isolation ? `sandbox: ${v.isolation.split(":")[0]}` : ""].filter(Boolean).join(" · ")),
        ...(v.variables ?? []).map(build), v.isolation ? h("p", { class: "rlm-note" }, `Sandbox: ${v.isolation}`) : "",
        v.tools ? h("p", { class: "rlm-note" }, `Tools: ${v.tools.join("; ")}`) : ""));
    }
    this.stop.hidden = this.over;
    this.tools.el.hidden = !this.over;
    this.el.classList.toggle("rlm-over", this.over);
    if (this.over) {
      const words = [v.detail, this.table.late ? LATE : ""].filter(Boolean).join(" ");
      this.told.hidden = !words;
      this.told.textContent = words;
      this.tools.sift();
    }
    this.strip.draw();
  }

  totals() {
    const v = this.table.get(`t/${this.root.run}`) ?? {};
    const limit = this.value?.iterations;
    const stats = [
      ["iteration", limit ? `${number(v.iterations ?? 0)} of ${number(limit)}` : number(v.iterations ?? 0)],
      ["time", ""],
      ["tokens", number(v.tokens ?? 0), v.cached ? `${number(v.cached)} cached` : ""],
      ["cost", v.cost ?? "–"],
      ["sub-calls", this.value?.calls ? `${number(v.calls ?? 0)} of ${number(this.value.calls)}` : number(v.calls ?? 0)],
      ...(v.tools ? [["tool calls", number(v.tools)]] : []),
    ];
    this.stats.replaceChildren(...stats.map(([name, value, more]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, ` ${more}`) : ""))));
    this.time = this.stats.children[1].lastChild;
    this.time.textContent = duration(this.seconds());
  }

  shown() {
    const fields = this.table.get(`a/${this.root.run}`);
    this.answer.hidden = !fields;
    if (!fields) return;
    const alone = fields.length === 1 && fields[0][0] === "answer";
    this.answer.replaceChildren(...fields.flatMap(([name, nodes]) =>
      [alone ? "" : h("p", { class: "rlm-label" }, name), h("div", { class: "rlm-field" }, ...nodes.map(build))]));
  }

  seconds() {
    if (this.value?.seconds !== undefined) return this.value.seconds;
    return this.table.began === null ? 0 : (performance.now() - this.table.began) / 1000;
  }

  tick() {
    if (!this.root) return;
    const text = duration(this.seconds());
    if (this.time && this.time.textContent !== text) this.time.textContent = text;
    if (!this.over) this.strip.draw();
  }

  // -- following: the newest step is open and in sight, until the reader goes elsewhere
  began(item) {
    if (this.over) return;
    if (this.follow) item.open(true);
    if (item.value.written) this.written(item);
    this.told.hidden = true;
  }

  // The step before stays open until the new one is written: there is time to read what came of it.
  written(item) {
    if (!this.follow || this.over || item !== this.newest()) return;
    for (const other of this.root.items.values()) if (other !== item && other.auto && other.el.open) other.open(false);
  }

  newest() {
    return this.root?.last;
  }

  // The browser scrolls too, when something in sight changes its size: only what the reader does ends the following.
  hands() {
    this.moved = -Infinity;
    this.lifted = () => (this.held = false);
    window.addEventListener("pointerup", this.lifted, true);
    const moves = () => (this.moved = performance.now());
    return { onwheel: moves, ontouchmove: moves, onkeydown: moves, onfocusin: moves, onpointerdown: () => (this.held = true) };
  }

  scrolled() {
    if (Math.abs(this.list.scrollTop - (this.put ?? -1)) < 2) return;
    if (this.follow && !this.held && performance.now() - this.moved > HAND) return this.settled();
    this.follow = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 30;
    this.jump.hidden = this.follow || this.over;
  }

  settled() {
    if (this.over) return void (this.list.style.minHeight = "");
    if (this.list.offsetHeight > (this.tallest ?? 0)) {
      this.tallest = Math.min(this.list.offsetHeight, STEADY);
      this.list.style.minHeight = `${this.tallest}px`;
    }
    if (!this.follow) return;
    this.list.scrollTop = this.list.scrollHeight;
    this.put = this.list.scrollTop;
  }

  toEnd() {
    this.follow = true;
    this.jump.hidden = true;
    const last = this.newest();
    if (last) this.began(last);
    this.settled();
    this.list.focus();
  }

  reveal(item) {
    if (!this.over) {
      this.follow = false;
      this.jump.hidden = false;
    }
    item.auto = false;
    item.open(true);
    const top = item.el.offsetTop - this.list.offsetTop;
    this.list.scrollTop = top;
    this.put = this.list.scrollTop;
  }

  unfold() {
    const open = this.question.classList.toggle("rlm-open");
    this.whole.setAttribute("aria-expanded", String(open));
    this.question.tabIndex = open ? 0 : -1;
    this.whole.textContent = open ? "Show less" : "Show all of the question";
  }

  lost(words) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.clock);
    this.el.classList.add("rlm-gone");
    this.badge.textContent = "Unfinished";
    this.badge.className = "rlm-badge rlm-short";
    for (const el of [this.stop, this.jump]) el.hidden = true;
    this.told.textContent = words;
    this.told.hidden = false;
  }

  // -- Stop
  async halt() {
    this.stopping(true);
    const { answer, late } = this.table.ask({ stop: true });
    answer.then(() => this.stopping(true)); // it was delivered after all
    const words = await late;
    if (words && !this.over) {
      this.stopping(false);
      this.told.textContent = `${words} Use the interrupt button of the notebook (■).`;
      this.told.hidden = false;
    }
  }

  stopping(is) {
    if (this.over) return;
    this.stop.disabled = is;
    this.stop.lastChild.textContent = is ? "Stopping…" : "Stop";
    this.told.hidden = true;
  }

  // Keys typed here are no commands of the notebook ("d", "d" deletes the cell), but it can be saved from here. The mark
  // has to be on the very element that has the focus, before the notebook hears of the key.
  keep(event) {
    if (!this.el.contains(event.target)) return;
    const saves = (event.ctrlKey || event.metaKey) && event.key === "s";
    event.target.toggleAttribute("data-lm-suppress-shortcuts", !saves);
  }

  key(event) {
    if (event.key !== "Escape") return;
    if (this.tools.emptied(event.target)) return;
    event.target.blur();
    this.el.parentElement.closest("[tabindex]")?.focus({ preventScroll: true }); // the notebook's cell
    event.preventDefault();
  }
}

// What anywidget asks for; all views of a widget share its table.
const tables = new Map();

export default {
  initialize({ model }) {
    const table = new Table(model);
    tables.set(model.get("uid"), table);
    return () => {
      table.close();
      tables.delete(model.get("uid"));
    };
  },
  render({ model, el }) {
    const view = new View(tables.get(model.get("uid")), el);
    return () => view.close();
  },
};
