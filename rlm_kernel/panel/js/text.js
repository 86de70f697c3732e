// Text that grows.
import { h, plural, reachable } from "./elements.js";

// A stretch of text with its beginning, its end, and a word between about what is left out.
export class Stretch {
  constructor(kind, more) {
    this.head = document.createTextNode("");
    this.tail = document.createTextNode("");
    this.gap = h("span", { class: "rlm-gap", hidden: true });
    this.more = more;
    this.from = null; // where the next page begins; Python knows where the head ends: it counts before it cleans
    this.el = h("pre", { class: `rlm-out rlm-${kind}` }, this.head, this.gap, this.tail);
  }

  grow(text) {
    this.head.appendData(text);
    reachable(this.el, "output");
  }

  set(text) {
    if (this.head.data !== text) this.head.data = text;
    reachable(this.el, "output");
  }

  rest([left, tail]) {
    this.tail.data = tail;
    this.gap.hidden = !left;
    if (!left) return;
    if (!this.button) {
      this.words = document.createTextNode("");
      this.button = h("button", { class: "rlm-link", type: "button", onclick: () => this.fetch() }, "Show more");
      this.gap.append(this.words, this.more ? this.button : "");
    }
    this.words.data = `\n… ${plural(left, "character")} left out … `;
  }

  async fetch() {
    this.button.disabled = true;
    const { answer, late } = this.more(this.from);
    late.then((words) => words && (this.button.textContent = words));
    const { more } = await answer;
    this.button.disabled = false;
    this.button.textContent = "Show more";
    if (!more) return;
    this.from = more.next;
    this.head.appendData(more.text);
    if (more.left) this.words.data = `\n… ${plural(more.left, "character")} left … `;
    else {
      this.gap.hidden = true;
      this.tail.data = "";
    }
  }
}

// A reply while it is written: prose and code, told apart by fences, before Python has read it as Markdown.
export class Draft {
  constructor() {
    this.el = h("div", { class: "rlm-draft" });
    this.text = "";
    this.held = "";
    this.fenced = false;
    this.part = null;
  }

  set(text) {
    if (text.startsWith(this.text)) return this.grow(text.slice(this.text.length));
    this.el.replaceChildren();
    Object.assign(this, { text: "", held: "", fenced: false, part: null });
    this.grow(text);
  }

  grow(text) {
    this.text += text;
    const lines = (this.held + text).split("\n");
    this.held = "";
    lines.forEach((line, place) => {
      const whole = place < lines.length - 1;
      const fence = this.begins(place) && /^ {0,3}(`{1,}|~{1,})[^`]*$/.test(line);
      if (fence && !whole) this.held = line;
      else if (fence && /^ {0,3}(```|~~~)/.test(line)) {
        this.fenced = !this.fenced;
        if (this.part) this.part.data = this.part.data.trimEnd();
        this.part = null;
      } else this.write(line + (whole ? "\n" : ""));
      this.middle = !whole && line !== "" && this.held === "";
    });
  }

  begins(place) {
    return place > 0 || !this.middle;
  }

  write(text) {
    if (!this.part) {
      if (!text.trim()) return;
      this.part = document.createTextNode("");
      this.el.append(h("pre", { class: this.fenced ? "rlm-code" : "rlm-raw" }, this.part));
    }
    this.part.appendData(text);
    if (this.fenced) reachable(this.part.parentElement, "code");
  }
}
