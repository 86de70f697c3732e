// Elements made from nodes (see nodes.py), and numbers in words.
//
// Everything shown comes from a model, a sandbox or data, so: text is set as text, elements are made from the kinds
// below and no others, and HTML is never parsed.

const KINDS = {
  p: "p", h: "p", ul: "ul", ol: "ol", li: "li", q: "blockquote", table: "table", thead: "thead", tbody: "tbody",
  tr: "tr", th: "th", td: "td", thnum: "th", num: "td", b: "strong", i: "em", s: "s", c: "code", br: "br", hr: "hr",
  big: "p", note: "p", tight: "span",
};
const IMAGE = /^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+$/;

export function h(tag, attributes = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") el.className = value;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children);
  return el;
}

export function build(node) {
  if (!Array.isArray(node)) return document.createTextNode(String(node));
  const [kind, ...rest] = node;
  if (kind === "pre") return code(rest[0]);
  if (kind === "a") {
    const ok = typeof rest[0] === "string" && /^(https?:\/\/|mailto:)/i.test(rest[0]);
    return h("a", ok ? { href: rest[0], target: "_blank", rel: "noopener noreferrer nofollow" } : {},
      ...rest.slice(1).map(build));
  }
  const el = h(KINDS[kind] ?? "span", ["h", "num", "thnum", "big", "note", "q"].includes(kind) ? { class: `rlm-${kind}` } : {},
    ...rest.map(build));
  return kind === "table" ? h("div", { class: "rlm-wide", tabindex: 0, role: "group", "aria-label": "table" }, el) : el;
}

// A text so long that it may have to be scrolled can be reached with the Tab key.
export function reachable(el, name) {
  if (el.hasAttribute("tabindex") || (el.textContent.length < 700 && el.textContent.split("\n").length < 15)) return el;
  for (const [key, value] of [["tabindex", 0], ["role", "group"], ["aria-label", name]]) el.setAttribute(key, value);
  return el;
}

export function code(spans) {
  const el = h("pre", { class: "rlm-code" });
  for (const span of spans ?? []) {
    el.append(Array.isArray(span) ? h("span", { class: `rlm-t${String(span[0])[0]}` }, String(span[1])) : String(span));
  }
  return reachable(el, "code");
}

const grouped = new Intl.NumberFormat("en-US");
export const number = (n) => grouped.format(n);
export const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
export function duration(s) {
  if (s < 0.0995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 99.5) return `${Math.round(s)} s`;
  const [m, rest] = [Math.floor(Math.round(s) / 60), Math.round(s) % 60];
  return m < 60 ? `${m} min ${String(rest).padStart(2, "0")} s` : `${Math.floor(m / 60)} h ${String(m % 60).padStart(2, "0")} min`;
}

// A block of output that is no text.
export function shape(value) {
  if (value.nodes) return value.nodes.map(build);
  return IMAGE.test(value.image) ? [h("img", { class: "rlm-image", src: value.image, alt: value.alt })] : [];
}
