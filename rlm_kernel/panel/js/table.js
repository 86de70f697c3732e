// What Python has told, by key (see store.py), and questions to it.

const PATIENCE = 700; // milliseconds after which a question counts as undelivered
const UNDELIVERED = "This front end delivers nothing while a cell runs.";
const GONE = "The kernel that held the run has ended.";
const KEPT = 30; // bodies that were asked for and are kept

// One table for all views of a model. Patches arrive at most 17 times a second; views hear which keys changed.
export class Table {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.waiting = new Map();
    this.asked = 0;
    this.borrowed = []; // places whose bodies were asked for, oldest first
    const state = model.get("state") ?? {};
    this.late = state.seq > 0 && !state.over; // this page was loaded while the run went on
    this.reset(state);
    this.listen = (message) => this.receive(message);
    model.on("msg:custom", this.listen);
    this.gone = false;
    this.leave = () => this.lost();
    model.on("comm_live_update", this.leave);
  }

  // What ipywidgets says when the kernel was restarted or shut down.
  lost() {
    if (this.gone) return;
    this.gone = true;
    for (const view of this.views) view.lost(GONE);
  }

  close() {
    this.model.off("msg:custom", this.listen);
    this.model.off("comm_live_update", this.leave);
  }

  reset({ seq = 0, now = null, set = {} }) {
    this.values = new Map(Object.entries(set));
    this.seq = seq;
    this.began = now === null ? null : performance.now() - now * 1000;
    for (const view of this.views) view.reset();
  }

  get root() {
    for (const key of this.values.keys()) if (key.startsWith("h/")) return key.slice(2);
    return null;
  }

  get(key) {
    return this.values.get(key);
  }

  receive(message) {
    for (const answer of message.answers ?? []) {
      this.waiting.get(answer.id)?.(answer);
      this.waiting.delete(answer.id);
    }
    if (message.seq <= this.seq) return;
    if (message.seq > this.seq + 1) return void this.resync();
    this.seq = message.seq;
    if (message.now !== undefined) this.began = message.now === null ? null : performance.now() - message.now * 1000;
    this.apply(message);
  }

  apply({ drop = [], set = {}, add = {}, rows = {} }) {
    const changed = [];
    for (const key of drop) {
      // what a reader has open stays; it goes when it is closed
      if (![...this.views].some((view) => view.holds(key))) this.values.delete(key);
    }
    for (const [key, value] of Object.entries(set)) {
      this.values.set(key, value);
      changed.push([key, null]);
    }
    for (const [key, text] of Object.entries(add)) {
      this.values.set(key, (this.values.get(key) ?? "") + text);
      changed.push([key, text]);
    }
    for (const [key, more] of Object.entries(rows)) {
      const known = this.values.get(key) ?? {};
      this.values.set(key, Object.assign(known, more));
      changed.push([key, more]);
    }
    for (const view of this.views) view.update(changed);
  }

  async resync() {
    if (this.syncing) return;
    this.syncing = true;
    const { answer } = this.ask({ sync: true });
    const state = await answer;
    this.syncing = false;
    this.reset(state);
  }

  // `answer` comes when it comes; `late` becomes the words that say why it did not come in time, or nothing.
  ask(question) {
    const id = `q${(this.asked += 1)}`;
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    try {
      this.model.send({ id, ...question });
    } catch {
      this.lost();
    }
    const excuse = (resolve) => setTimeout(() => resolve(this.gone ? GONE : UNDELIVERED), this.gone ? 0 : PATIENCE);
    const late = Promise.race([answer.then(() => ""), new Promise(excuse)]);
    return { answer, late };
  }

  async borrow(run, n) {
    const { answer, late } = this.ask({ body: [run, n] });
    answer.then((made) => {
      const place = `${run}/${n}`;
      this.borrowed = [...this.borrowed.filter((p) => p !== place), place];
      this.apply({ set: made.set ?? {} });
      while (this.borrowed.length > KEPT) this.forget(this.borrowed.shift());
    });
    return late;
  }

  forget(place) {
    const gone = [...this.values.keys()].filter((k) => !"htais".includes(k[0]) && `${k.slice(k.indexOf("/") + 1)}/`.startsWith(`${place}/`));
    for (const key of gone) if (![...this.views].some((view) => view.holds(key))) this.values.delete(key);
  }
}
