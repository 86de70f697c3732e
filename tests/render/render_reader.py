"""Reads what was rendered the way a browser would, and says what must not be in it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

ALLOWED = {
    "div": {"style"}, "p": {"style"},
    "strong": {"style"}, "em": set(), "s": set(), "span": {"style"}, "code": {"style"},
    "pre": {"style"}, "br": set(), "hr": {"style"}, "details": {"style"},
    "summary": {"style"}, "blockquote": {"style"},
    "ul": {"style"}, "ol": {"style", "start"}, "li": {"style"}, "table": {"style"}, "thead": set(), "tbody": set(),
    "tr": {"style"}, "th": {"style", "align"}, "td": {"style", "align"}, "a": {"href", "rel", "style"},
    "img": {"src", "alt", "style"},
}  # fmt: skip
VOID = {"br", "hr", "img"}
PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,([A-Za-z0-9+/]+={0,2})")
STYLE = re.compile(r"[a-z-]+:\s?[a-zA-Z0-9#.,%() -]+")
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


class Page(HTMLParser):
    """Text, tags and faults of a page."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.hrefs: list[str] = []
        self.pictures: list[bytes] = []
        self.alts: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        if self.open:
            self.faults.append(f"never closed: {self.open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ALLOWED:
            self.faults.append(f"tag {tag}")
            return
        for name, value in attrs:
            if name not in ALLOWED[tag]:
                self.faults.append(f"attribute {tag}.{name}")
            if name == "href":
                self.hrefs.append(value or "")
                if not re.match(r"(https?://|mailto:)", value or "", re.IGNORECASE):
                    self.faults.append(f"link to {value}")
            if name == "src":
                self.handle_picture(value or "")
            if name == "alt":
                self.alts.append(value or "")
            if name == "style":
                self.faults += [f"style {p}" for p in (value or "").split(";") if p and not STYLE.fullmatch(p)]
                self.faults += ["style with url"] if "url" in (value or "") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_picture(self, source: str) -> None:
        if found := PICTURE.fullmatch(source):
            self.pictures.append(base64.b64decode(found[1], validate=True))
        else:
            self.faults.append(f"source {source}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"end of {tag} out of place")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data[:40]}")

    def handle_decl(self, decl: str) -> None:
        self.faults.append(f"declaration {decl[:40]}")

    def unknown_decl(self, data: str) -> None:
        self.faults.append(f"declaration {data[:40]}")

    def handle_pi(self, data: str) -> None:
        self.faults.append(f"instruction {data[:40]}")
