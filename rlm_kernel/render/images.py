"""Which pictures the sandbox's output holds, told from what the bytes are and not from what they are called.

A MIME bundle is hostile: what is taken for a picture begins as that kind of picture must, and its `uri` is base64 that
was made here, so that it can stand in an attribute. A browser that shows it in an `img` runs and loads nothing, in a
drawing (SVG) neither.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rlm_kernel.render.clean import clip
from rlm_kernel.render.story import steady

if TYPE_CHECKING:
    from rlm_kernel.trajectory import Iteration

__all__ = ["Image", "image", "pictures", "said"]

PIXELS = 50_000_000
"""A picture of more is not shown: a few packed bytes can fill a browser's memory."""
SIDE = 30_000
"""A picture that is longer is not shown either."""
_HEADS = (8192, 400_000)
"""Characters of base64 in which the header is looked for; that of a JPEG may stand behind a colour profile."""
_DRAWING = "image/svg+xml"
NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that is what its MIME type says."""

    mime: str
    size: int
    """Bytes."""
    width: int
    """Pixels, as its header tells; 0 when that is not told, in a drawing that fits any size."""
    height: int
    alt: str
    """What the sandbox says in its place, on one clean line; may be empty."""
    source: str = field(repr=False)
    """Base64 as it came, or the text of a drawing: hostile."""

    @property
    def words(self) -> str:
        """What stands for a picture that is not shown: `a picture, image/png, 812 x 600, 240 KB`."""
        sides = [f"{self.width:,} x {self.height:,}"] if self.width else []
        return ", ".join(["a picture", self.mime, *sides, _bytes(self.size)])

    def uri(self, room: int) -> str | None:
        """The picture as a `data:` URI of at most `room` characters.

        None when it is longer, has so many pixels that it would fill the reader's memory, or is damaged.
        """
        head = f"data:{self.mime};base64,"
        if len(head) + (self.size + 2) // 3 * 4 > room:
            return None
        if max(self.width, self.height) > SIDE or self.width * self.height > PIXELS:
            return None
        content = self.source.encode("utf-8", "replace") if self.mime == _DRAWING else _decoded(self.source)
        return head + base64.b64encode(content).decode("ascii") if content else None


def image(data: Mapping[str, Any]) -> Image | None:
    """The picture in a MIME bundle, the first of its kinds that begins as it must; None when there is none.

    Cheap however large it is: only `uri` looks at the whole.
    """
    for mime, read in _KINDS.items():
        if isinstance(given := data.get(mime), str) and (found := read(given)):
            plain = data.get("text/plain")
            alt = clip(steady(plain[:2000]), 160) if isinstance(plain, str) else ""
            return Image(mime, found.size, found.width, found.height, alt, found.source)
    return None


def pictures(iteration: Iteration) -> list[Image]:
    """The pictures among the output of an iteration."""
    return [found for c in iteration.cells for o in c.outputs if o.data and (found := image(o.data))]


def said(text: str) -> str:
    """The text that comes with a picture, unless it only names the object, as `<Figure size 640x480>` does."""
    return "" if text.strip().startswith("<") and text.strip().endswith(">") else text


def _bytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{max(1, round(number / 1000)):,} KB"


class _Found(NamedTuple):
    size: int
    width: int
    height: int
    source: str


def _decoded(given: str) -> bytes | None:
    try:
        return binascii.a2b_base64("".join(given.split()), strict_mode=True)
    except ValueError:
        return None


def _packed(sides: Callable[[bytes], tuple[int, int] | None]) -> Callable[[str], _Found | None]:
    """Reads base64 of a kind of picture; `sides` are those of one that begins as it must."""

    def read(given: str) -> _Found | None:
        for chars in _HEADS:
            letters = "".join(given[:chars].split())
            head = _decoded(letters if len(given) <= chars else letters[: len(letters) // 4 * 4])
            if head is None:
                return None
            if found := sides(head):
                size = (len(given) - given.count("\n") - given[-4:].count("=")) * 3 // 4
                return _Found(size, *found, given) if min(found) > 0 else None
        return None

    return read


def _png(content: bytes) -> tuple[int, int] | None:
    if not content.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") or len(content) < 33:
        return None
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def _gif(content: bytes) -> tuple[int, int] | None:
    if content[:6] not in (b"GIF87a", b"GIF89a") or len(content) < 13:
        return None
    return int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")


def _webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return None
    if kind == b"VP8X":
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    if kind == b"VP8L" and content[20] == 0x2F:
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF
    return None


def _jpeg(content: bytes) -> tuple[int, int] | None:
    """The sides stand in the frame header, after a row of segments that each tell their length."""
    at = 2
    for _ in range(1000 if content.startswith(b"\xff\xd8\xff") else 0):
        marker, length = content[at + 1 : at + 2], int.from_bytes(content[at + 2 : at + 4])
        if content[at : at + 1] != b"\xff" or not marker:
            return None
        if marker in _FRAMES and at + 9 <= len(content):
            return int.from_bytes(content[at + 7 : at + 9]), int.from_bytes(content[at + 5 : at + 7])
        if marker in b"\xd9\xda" or (length < 2 and marker != b"\xff"):  # the picture itself, or nothing sensible
            return None
        at += 1 if marker == b"\xff" else 2 + length  # padding, or a segment
    return None


_FRAMES = bytes(n for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC))
_BEFORE = re.compile(r"\s+|<\?.{0,500}?\?>|<!--.{0,5000}?-->|<!DOCTYPE[^\[>]{0,500}>", re.DOTALL)
_ROOT = re.compile(r"<svg(?=[\s>/])([^<>]{0,5000})>")
_SIDE = r"\s{}\s{{0,9}}=\s{{0,9}}[\"'](\d{{1,6}}(?:\.\d{{0,12}})?)(px|pt|)[\"']"
_BOX = re.compile(r"\sviewBox\s{0,9}=\s{0,9}[\"']([\d\s.,-]{7,100})[\"']")


def _svg(given: str) -> _Found | None:
    """A drawing, which is text; what stands before its root, where entities could be defined, is left out."""
    at = 1 if given.startswith("\ufeff") else 0
    while before := _BEFORE.match(given, at):
        at = before.end()
    root = _ROOT.match(given, at)
    if not root:
        return None
    sides = [re.search(_SIDE.format(name), root[1]) for name in ("width", "height")]
    width, height = (round(float(s[1]) * (4 / 3 if s[2] == "pt" else 1)) if s else 0 for s in sides)
    if not (width and height):
        box = re.findall(r"[\d.-]+", found[1]) if (found := _BOX.search(root[1])) else []
        width, height = (_whole(n) for n in box[2:]) if len(box) == 4 else (0, 0)
    # Without a namespace a browser takes it for a drawing only where it stands in a page.
    name = "<svg" if "xmlns=" in root[1] else f"<svg {NAMESPACE}"
    source = f"{name}{given[root.start(1) :].rstrip()}"
    size = len(source if source.isascii() else source.encode("utf-8", "replace"))
    return _Found(size, *((width, height) if width and height else (0, 0)), source)


def _whole(number: str) -> int:
    try:
        return max(0, round(float(number)))
    except (ValueError, OverflowError):
        return 0


_KINDS: dict[str, Callable[[str], _Found | None]] = {
    "image/png": _packed(_png),
    "image/jpeg": _packed(_jpeg),
    "image/webp": _packed(_webp),
    "image/gif": _packed(_gif),
    _DRAWING: _svg,
}
