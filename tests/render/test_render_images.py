"""Pictures that the sandbox displays: recognised by what they are, shown within a budget, else named."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from render_reader import UNSEEN, Page
from story_maker import events, run

from rlm_kernel.render import TextView, to_html, to_markdown, to_text
from rlm_kernel.render.images import PIXELS, Image, image

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><rect width="9" height="9"/></svg>'
FIGURE = "<Figure size 640x480 with 1 Axes>"


def drawn(kind: str = "png", width: int = 31, height: int = 17, noise: bool = False, **options: Any) -> bytes:
    """A picture; with noise, one that cannot be packed."""
    made = Pillow.new("RGB", (width, height), "red")
    if noise:
        made = Pillow.frombytes("RGB", (width, height), os.urandom(3 * width * height))
    file = io.BytesIO()
    made.save(file, kind, **options)
    return file.getvalue()


def bundle(content: bytes, mime: str = "image/png", plain: str = FIGURE) -> dict[str, Any]:
    """As a kernel sends it: base64 in lines."""
    return {mime: base64.encodebytes(content).decode(), "text/plain": plain}


def shown(*bundles: dict[str, Any], **options: Any) -> Any:
    """A run whose code displays these, in each of its iterations."""
    return run(outputs=tuple(("display", f"{b.get('text/plain', '')}\n", b) for b in bundles), **options)


@pytest.mark.parametrize(
    ("kind", "mime", "options"),
    [
        ("png", "image/png", {}),
        ("jpeg", "image/jpeg", {}),
        ("jpeg", "image/jpeg", {"progressive": True, "exif": b"Exif\0\0" + b"x" * 3000, "icc_profile": b"y" * 90_000}),
        ("gif", "image/gif", {}),
        ("webp", "image/webp", {}),
        ("webp", "image/webp", {"lossless": True}),
        ("webp", "image/webp", {"exif": b"Exif\0\0x"}),
    ],
)
def test_each_kind_of_picture_is_known_by_its_bytes(kind: str, mime: str, options: dict[str, Any]) -> None:
    """Its sides come from its header; its base64 loses its line ends and nothing else."""
    content = drawn(kind, **options)
    found = image(bundle(content, mime))
    assert found is not None
    assert (found.mime, found.width, found.height, found.size, found.alt) == (mime, 31, 17, len(content), FIGURE)
    uri = f"data:{mime};base64,{base64.b64encode(content).decode()}"
    assert found.uri(len(uri)) == uri
    assert found.uri(len(uri) - 1) is None


def test_a_header_is_found_wherever_it_stands() -> None:
    """Also where what is looked at first ends in the middle of it."""
    for length in range(5600, 6200):
        content = drawn("jpeg")
        content = content[:2] + b"\xff\xe1" + length.to_bytes(2) + b"x" * (length - 2) + content[2:]
        found = image(bundle(content, "image/jpeg"))
        assert found is not None
        assert (found.width, found.height) == (31, 17)


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8" + b"\xff" * 100_000,
     b"GIF89a", b"GIF89a\0\0\0\0\0\0\0", b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 30, b"<script>alert(1)</script>",
     b"<html><svg></svg></html>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 30, b"\0" * 100],
    ids=lambda c: repr(c[:20]),
)  # fmt: skip
def test_what_is_no_picture_is_none(mime: str, content: bytes) -> None:
    """Whatever it is called, and however it is written down."""
    assert image(bundle(content, mime)) is None
    assert image({mime: content.decode("latin-1")}) is None
    assert not Page(to_html(shown(bundle(content, mime, plain="")))).pictures


@pytest.mark.parametrize(
    "spoil",
    [lambda t: t[:-3], lambda t: t + "!", lambda t: '"' + t, lambda t: t[:8] + "\u202e" + t[8:],
     lambda t: t.replace("A", "-"), lambda t: ["x"], lambda t: None, lambda t: {"a": 1}, lambda t: 3],
)  # fmt: skip
def test_what_is_not_base64_is_not_shown(spoil: Any) -> None:
    """A letter too many or too few, one of another alphabet, or no text at all; however far from the beginning."""
    for content in (drawn(), drawn(noise=True, width=90, height=90)):
        data = {"image/png": spoil(base64.b64encode(content).decode()), "text/plain": "spoilt"}
        found = image(data)
        assert found is None or found.uri(10**6) is None
        page = Page(to_html(shown(data)))
        assert not page.pictures
        assert not page.faults
        assert "spoilt" in page.text


def test_another_kind_in_the_bundle_is_taken_where_the_first_is_none() -> None:
    """A bundle may hold several; JPEG under the name of PNG is none of them."""
    jpeg = drawn("jpeg")
    found = image(bundle(jpeg) | {"image/jpeg": base64.b64encode(jpeg).decode()})
    assert found is not None
    assert found.mime == "image/jpeg"
    assert image(bundle(jpeg)) is None


@pytest.mark.parametrize(
    ("source", "width", "height"),
    [
        (SVG, 30, 20),
        (
            f'\ufeff<?xml version="1.0" encoding="utf-16"?>\n<!-- a > b -->\n<!DOCTYPE svg PUBLIC "a" "b">\n{SVG}',
            30,
            20,
        ),
        ("<svg width='460.8pt' height='345.6pt'/>", 614, 461),
        ('<svg\n viewBox="0 0 640 480"></svg>', 640, 480),
        ('<svg width="100%" viewBox="-3.5,0 99.6 1e9"></svg>', 0, 0),
        ('<svg viewBox="0,0,  99.6,-.5"></svg>', 0, 0),
        ('<svg viewBox="0,0,--,.."></svg>', 0, 0),
        (f'<svg viewBox="{"9" * 90} 0 0 {"9" * 5}"></svg>', 0, 0),
        (f'<svg viewBox="{"," * 4900}"></svg>', 0, 0),
        (f"<svg {'width = ' * 600}></svg>", 0, 0),
        ("<svg></svg>", 0, 0),
    ],
)
def test_a_drawing_is_known_by_its_root(source: str, width: int, height: int) -> None:
    """What stands before the root is left out, and a namespace that browsers want is put in."""
    found = image({"image/svg+xml": source, "text/plain": "<IPython.core.display.SVG object at 0x7f00>"})
    assert found is not None
    assert (found.width, found.height) == (width, height)
    content = base64.b64decode((found.uri(10**6) or "").partition(",")[2])
    assert found.size == len(content)
    assert content.startswith(b"<svg")
    assert content.count(b'xmlns="http://www.w3.org/2000/svg"') == 1
    assert found.alt == "<IPython.core.display.SVG object>"


@pytest.mark.parametrize(
    "source",
    ["svg", "<svgx></svgx>", "<svg", "text <svg></svg>", "<!--" + "--><!--" * 50_000, "<svg " + "a='<' " * 9,
     '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>', " " * 100_000, "<?" * 50_000],
    ids=lambda s: s[:12],
)  # fmt: skip
def test_a_text_without_that_root_is_no_drawing(source: str) -> None:
    """Entities, which could unfold without end, can be defined only before the root: such a text is none."""
    assert image({"image/svg+xml": source}) is None


def test_a_plot_is_shown_in_the_page() -> None:
    """In place of the words that stand for it, with these as its description; on white ground, never wider than it."""
    png, svg = drawn(), SVG + "<!-- <script> -->"
    source = to_html(shown(bundle(png), {"image/svg+xml": svg, "text/plain": "a <drawing> & more"}))
    page = Page(source)
    assert not page.faults
    assert page.pictures == [png, svg.encode()]
    assert page.alts == [FIGURE, "a <drawing> & more"]
    assert "Figure" not in page.text
    assert "<svg" not in source
    for style in ("max-width:100%", "background-color:#ffffff", "padding:6px", "border-radius:5px"):
        assert style in source
    assert "2 pictures" in page.text


def test_a_picture_that_is_too_large_is_named_in_every_form() -> None:
    """With its kind, its sides and its size; what only names the object is left out, other text stays."""
    large = drawn(width=300, height=200, noise=True)
    words = f"a picture, image/png, 300 x 200, {len(large) / 1000:.0f} KB"
    t = shown(bundle(large), bundle(large, plain="x**2"))
    page = Page(to_html(t))
    assert not page.pictures
    assert page.text.count(f"{words}, in rlm_result.trajectory") == 2
    assert to_markdown(t).count(f"{words}, in `rlm_result.trajectory`") == 2
    assert "· 2 pictures" in to_text(t)
    assert f"· {words}" in to_text(shown(bundle(large)))
    lines: list[str] = []
    view = TextView(lines.append)
    for event in events(outputs=(("display", FIGURE, bundle(large)), ("display", "x**2", bundle(large)))):
        view(event)
    assert "".join(lines).count(words) == 2
    for told in (page.text, to_markdown(t), "".join(lines)):
        assert "x**2" in told
        assert "Figure" not in told


def test_a_picture_of_too_many_pixels_is_named() -> None:
    """However few bytes it takes: unpacked, it would fill the reader's memory."""
    header = bytearray(drawn())
    header[16:24] = (60_000).to_bytes(4) * 2
    found = image(bundle(bytes(header)))
    assert found is not None
    assert found.uri(10**6) is None
    assert "a picture, image/png, 60,000 x 60,000, 1 KB" in to_html(shown(bundle(bytes(header))))
    assert Image("image/png", 3, 5000, PIXELS // 5000, "", "AAAA").uri(100) is not None
    assert Image("image/png", 3, 5000, PIXELS // 5000 + 1, "", "AAAA").uri(100) is None


def test_the_last_pictures_are_shown_first() -> None:
    """Of more than the page has room for, those of the last iterations are shown and the others named."""
    plots = [drawn(width=100, height=80 + n, noise=True) for n in range(8)]
    t = run(iterations=8)
    for plot, iteration in zip(plots, t, strict=True):
        iteration.cells[0].outputs.extend(shown(bundle(plot)).cells[0].outputs)
    source = to_html(t)
    page = Page(source)
    assert page.pictures == plots[-len(page.pictures) :]
    assert 2 <= len(page.pictures) < 8
    assert sum(len(p) for p in page.pictures) * 4 / 3 <= 100_000
    assert page.text.count("in rlm_result.trajectory") == 8 - len(page.pictures)
    assert not page.faults


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 60, "reply": "word " * 20_000},
        {"iterations": 60, "subcalls": 40, "prompt": "<&" * 2000, "answer": "$" * 3000},
        {"values": {f"field_{i}": "text " * 5000 for i in range(30)}, "iterations": 100},
        {"question": "q" * 100_000, "thinking": "t" * 100_000, "note": "n" * 5000},
    ],
    ids=["reply", "sub-calls", "fields", "question"],
)
def test_pictures_and_everything_else_stay_within_the_limit(options: dict[str, Any]) -> None:
    """The text gives way to the pictures, as far as its half, and all three forms together take at most 300 KB."""
    t = shown(bundle(drawn(width=90, height=90, noise=True)), bundle(drawn("gif"), "image/gif"), **options)
    made = to_html(t), to_markdown(t), to_text(t)
    assert sum(len(m.encode()) for m in made) < 300_000
    page = Page(made[0])
    assert page.pictures
    assert not page.faults


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "text/plain"]),
        st.text(st.characters(exclude_categories=[]))
        | st.binary().map(lambda b: base64.b64encode(drawn() + b).decode())
        | st.binary().map(lambda b: base64.b64encode(b"\xff\xd8\xff" + b).decode())
        | st.text().map(lambda t: f'<svg onload="alert(1)" width="9" {t}>{t}</svg>')
        | st.integers(),
    )
)
def test_hostile_bundles_do_no_harm(data: dict[str, Any]) -> None:
    """Whatever a bundle holds, the page is well-formed and a picture is one of the kinds that are known."""
    made = to_html(run(outputs=(("display", "", data), ("result", "x", data))))
    assert not Page(made).faults
    assert not UNSEEN.search(made)
    assert not {"image", "svg", "script"} & set(Page(made).tags)
