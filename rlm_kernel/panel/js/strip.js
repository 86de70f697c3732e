// The time strip: where the time went, in three lanes.
import { h, duration } from "./elements.js";

export class Strip {
  constructor(view) {
    this.view = view;
    this.canvas = h("canvas", { class: "rlm-strip", role: "img", "aria-label": "where the time went", onclick: (e) => this.click(e), onmousemove: (e) => this.hover(e), onmouseleave: () => (this.canvas.title = "") });
    this.el = h("div", { class: "rlm-time" },
      h("div", { class: "rlm-lanes", "aria-hidden": "true" }, h("span", {}, "model"), h("span", {}, "code"), h("span", {}, "sub-calls")), this.canvas);
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(this.canvas);
  }

  draw() {
    const { table } = this.view;
    const root = table.root;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!root || !width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.view.el);
    const colour = (name) => style.getPropertyValue(`--rlm-${name}`).trim() || "#888";
    const now = this.view.seconds();
    const end = Math.max(now, 0.05);
    const x = (t) => (Math.min(t, end) / end) * width;
    const bar = (from, to, top, tall, fill) => {
      pen.fillStyle = fill;
      pen.fillRect(x(from), top, Math.max(x(to) - x(from), 1), tall);
    };
    pen.fillStyle = colour("track");
    for (const top of [0, 13]) pen.fillRect(0, top, width, 10);
    pen.fillRect(0, 26, width, height - 26);
    const [model, run, call, bad] = ["model", "run", "call", "bad"].map(colour);
    const spent = { model: 0, code: 0, calls: 0 };
    this.spans = [];
    for (const item of this.view.root?.items.values() ?? []) {
      const [at, seconds, cells, calls] = table.get(`s/${item.place}`) ?? [item.value.at ?? 0, null, [], []];
      const written = at + (seconds ?? (item.value.state === "now" && !item.value.written ? now - at : 0));
      bar(at, written, 0, 10, model);
      spent.model += written - at;
      let last = written;
      for (const [from, took, status] of cells) {
        const to = from + (took ?? now - from);
        bar(from, to, 13, 10, ["ok", "submitted", "running"].includes(status) ? run : bad);
        spent.code += to - from;
        last = Math.max(last, to);
      }
      spent.calls += this.calls(pen, item, calls, now, bar, height, call, bad);
      this.spans.push([at, last, item]);
    }
    this.canvas.setAttribute("aria-label", `Where the time went: model ${duration(spent.model)}, code ${duration(spent.code)}, of it sub-calls ${duration(spent.calls)}`);
  }

  // Parallel calls lie under one another, as many as there is room for.
  calls(pen, item, ended, now, bar, height, call, bad) {
    const cells = (this.view.table.get(`b/${item.place}`)?.parts ?? []).filter(([kind]) => kind === "c");
    const rows = cells.flatMap(([, c]) => Object.values(this.view.table.get(`q/${item.place}/${c}`) ?? {}).slice(-2000));
    const live = rows.length > 0 && (item.value.state === "now" || !ended.length);
    const spans = live
      ? rows.map(([state, at, seconds]) => [at, state ? at + seconds : now, state === 2])
      : ended.map(([from, to]) => [from, to, false]);
    if (!spans.length) return 0;
    spans.sort((a, b) => a[0] - b[0]);
    const lanes = [];
    const placed = spans.map(([from, to, failed]) => {
      let lane = lanes.findIndex((free) => free <= from + 1e-4);
      if (lane < 0) lane = lanes.length < 8 ? lanes.length : spans.indexOf(spans[0]);
      lanes[lane] = Math.max(lanes[lane] ?? 0, to);
      return [from, to, lane, failed];
    });
    const room = height - 26;
    const tall = Math.max(1.5, Math.min(10, room / Math.max(lanes.length, 1)));
    let [spent, until] = [0, -1];
    for (const [from, to, lane, failed] of placed) {
      bar(from, to, 26 + lane * tall, Math.max(1, tall - (tall > 2 ? 1 : 0.5)), failed ? bad : call);
      spent += Math.max(0, to - Math.max(from, until));
      until = Math.max(until, to);
    }
    return spent;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const t = ((event.clientX - box.left) / box.width) * Math.max(this.view.seconds(), 0.05);
    return [t, (this.spans ?? []).findLast(([from]) => from <= t)?.[2]];
  }

  click(event) {
    const [, item] = this.at(event);
    if (item) this.view.reveal(item);
  }

  hover(event) {
    const [t, item] = this.at(event);
    this.canvas.title = item ? `${duration(t)} · iteration ${item.n} · ${item.about.textContent}` : duration(t);
  }
}
