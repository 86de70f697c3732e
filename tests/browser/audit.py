"""What stands in a page: whether we made all of it, what it says and where, and what the page did."""

from __future__ import annotations

from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page

__all__ = ["PANEL", "SETTLED", "Watch", "faults"]

_FOLDS = {"details": ["open"], "summary": []}
_TABLE = {"table": [], "thead": [], "tbody": [], "tr": [], "th": [], "td": []}
_PROSE = {
    name: [] for name in ("p", "br", "hr", "ul", "li", "blockquote", "strong", "em", "s", "code", "pre", "span", "div")
}
PANEL: dict[str, list[str]] = {
    **_PROSE, **_TABLE, **_FOLDS, "ol": [], "i": [], "small": [], "section": ["data-lm-suppress-shortcuts"],
    "header": [], "dl": [], "dt": [], "dd": [], "label": [], "canvas": ["width", "height", "title"],
    "input": ["type", "min", "max", "value", "placeholder"], "button": ["type", "disabled"],
    "a": ["href", "target", "rel"], "img": ["src", "alt"],
}  # fmt: skip
"""The elements of the live panel, with the attributes that they may have besides those of all."""
SETTLED: dict[str, list[str]] = {
    **_PROSE, **_TABLE, **_FOLDS, "ol": ["start"], "th": ["align"], "td": ["align"], "a": ["href", "target", "rel"],
    "img": ["src", "alt"],
}  # fmt: skip
"""Those of the settled output."""

_AUDIT = r"""([selector, allowed, every]) => {
  const faults = new Set(), roots = [...document.querySelectorAll(selector)], html = "http://www.w3.org/1999/xhtml";
  const image = /^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+$/;
  if (!roots.length) faults.add(`nothing is ${selector}`);
  const check = (el) => {
    const tag = el.localName, own = allowed[tag];
    if (!own || el.namespaceURI !== html || el.shadowRoot) return faults.add(`element ${tag}`);
    for (const { name, value } of el.attributes) {
      const says = `${tag} ${name}=${value.slice(0, 60)}`;
      if (!own.includes(name) && !every.includes(name) && !/^(aria|data)-[a-z]+$/.test(name)) faults.add(says);
      if (name.startsWith("data-") && !/^data-(at|n|lm-suppress-shortcuts)$/.test(name)) faults.add(says);
      if (name === "href" && !["http:", "https:", "mailto:"].includes(el.protocol)) faults.add(says);
      if (name === "src" && !image.test(value)) faults.add(says);
      if (name === "style" && /url|expression|position|import|[{}<>\\]/i.test(value)) faults.add(says);
      if (name === "class" && !/^(rlm[a-z0-9-]*\s*)+$/.test(value) && value) faults.add(says);
      if (name === "id" && !/^rlm\d+-[qu]-[0-9.-]+$/.test(value)) faults.add(says);
    }
  };
  for (const root of roots) {
    check(root);
    root.querySelectorAll("*").forEach(check);
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_COMMENT | NodeFilter.SHOW_PROCESSING_INSTRUCTION);
    if (walk.nextNode()) faults.add("a comment");
  }
  return [...faults].slice(0, 20);
}"""
_ALL = ["class", "style", "id", "role", "tabindex", "hidden"]


def faults(page: Page, selector: str, allowed: dict[str, list[str]]) -> list[str]:
    """Elements, attributes, links and sources at and below `selector` that are none of ours."""
    every = _ALL if allowed is PANEL else ["style"]
    found: list[str] = page.evaluate(_AUDIT, [selector, allowed, every])
    return found


class Watch:
    """Within it, everything is noted that pages of the context do and that no page of ours does."""

    def __init__(self, context: BrowserContext, own: str) -> None:
        self._context, self._own = context, urlsplit(own).netloc
        self.seen: list[str] = []
        """Requests to other hosts, dialogs, exceptions, new pages and new addresses."""
        self._listeners: dict[Any, Any] = {
            "request": self._request,
            "dialog": lambda dialog: self.seen.append(f"dialog {dialog.type}: {dialog.message}"),
            "weberror": lambda error: self.seen.append(f"exception {error.error}"),
            "page": lambda page: self.seen.append(f"page {page.url}"),
        }

    def __enter__(self) -> Watch:
        for name, listener in self._listeners.items():
            self._context.on(name, listener)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for name, listener in self._listeners.items():
            self._context.remove_listener(name, listener)

    def _request(self, request: Any) -> None:
        found = urlsplit(request.url)
        if found.scheme not in ("data", "blob") and found.netloc != self._own:
            self.seen.append(f"request {request.url}")
        if request.is_navigation_request():
            self.seen.append(f"navigation {request.url}")
