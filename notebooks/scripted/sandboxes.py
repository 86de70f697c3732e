"""The replies of `07_sandboxes.ipynb`, written by hand in a capable model's place; see `build.py`."""

from __future__ import annotations

import re

THIEF = [
    """\
First a helper: it makes an attempt and keeps what came of it. Then the file and its folder.

```repl
import os
from pathlib import Path

stolen = {}

def attempt(what, act):
    try:
        got = act()
    except OSError:
        stolen[what] = "nothing"
    else:
        stolen[what] = str(got)
    print(what, "->", stolen[what])

attempt("read the file", lambda: Path(loot["file"]).read_text())
attempt("list its folder", lambda: sorted(p.name for p in Path(loot["folder"]).iterdir()))
attempt("put a file there", lambda: Path(loot["folder"], "was_here.txt").write_text("The thief was here."))
```""",
    """\
Nothing yet. Now the password and the service.

```repl
import socket

def connect(address):
    with socket.create_connection(address, timeout=5):
        return "connected"

attempt("my environment", lambda: os.environ[loot["variable"]])
attempt("the service", lambda: connect(loot["service"]))
```""",
    """\
A variable that is not there is a KeyError, which my helper lets through. Anything that stops an attempt counts.

```repl
def attempt(what, act):
    try:
        got = act()
    except Exception:
        stolen[what] = "nothing"
    else:
        stolen[what] = str(got)
    print(what, "->", stolen[what])

attempt("my environment", lambda: os.environ[loot["variable"]])
attempt("your environment", lambda: len(Path(f"/proc/{loot['process']}/environ").read_bytes()))
attempt("the service", lambda: connect(loot["service"]))
attempt("write where I work", lambda: f"{Path('was_here.txt').write_text('The thief was here.')} characters written")
```""",
    """\
Is the network closed, or only that service? Two more attempts before I report: an address anywhere, and asking for a name.

```repl
attempt("any other address", lambda: connect(("192.0.2.1", 80)))
attempt("look up a name", lambda: socket.gethostbyname("example.org"))
SUBMIT(stolen=stolen)
```""",
]

LAX = [
    """\
The setting first, then each attempt; whatever stops one counts.

```repl
import os, socket
from pathlib import Path

stolen = {}

def attempt(what, act):
    try:
        got = act()
    except Exception:
        stolen[what] = "nothing"
    else:
        stolen[what] = str(got)
    print(what, "->", stolen[what])

print(os.environ["REGION"])
attempt("read the file", lambda: Path(loot["file"]).read_text())
attempt("list its folder", lambda: sorted(p.name for p in Path(loot["folder"]).iterdir()))
attempt("my environment", lambda: os.environ[loot["variable"]])
attempt("the service", lambda: socket.create_connection(loot["service"], timeout=5).close() or "connected")
```""",
    """\
```repl
SUBMIT(region=os.environ["REGION"], stolen=stolen)
```""",
]

ZEN = [
    """\
Four short lines; what they are about is for the sub-model to say, one prompt each.

```repl
lines = zen.splitlines()
kinds = llm_batch([f"Is this line about errors or about style? One word.\\n\\n{line}" for line in lines])
print(list(zip(kinds, lines)))
```""",
    """\
```repl
SUBMIT(about={kind: [line for k, line in zip(kinds, lines) if k == kind] for kind in ("errors", "style")})
```""",
]

FAR = [
    """\
I look at the first lines before I count.

```repl
from itertools import islice

with open("measurements.csv") as file:
    print("".join(islice(file, 3)))
```""",
    """\
No header, two columns.

```repl
with open("measurements.csv") as file:
    values = [int(line.split(",")[1]) for line in file]
print(len(values), min(values), max(values))
SUBMIT(rows=len(values), mean=round(sum(values) / len(values), 2))
```""",
]

REPLIES = THIEF + LAX + ZEN + FAR


def sub_model(prompt: str) -> str:
    """Stands for the sub-model: reads the line below the question."""
    line = prompt.partition("\n\n")[2]
    return "errors" if re.search(r"error|silen|exception|fail", line, re.IGNORECASE) else "style"
