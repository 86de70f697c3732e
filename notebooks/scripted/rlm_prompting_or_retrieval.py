"""The scripted replies of `08_rlm_prompting_or_retrieval.ipynb`: see `build.py`. No model was asked.

The replies to direct calls are computed from the data in the prompt, by the rules that the sub-model goes by; the run of
the RLM is the same text for every size, since its code does the work.
"""

from __future__ import annotations

import json
import re
from typing import Any

RUN = [
    """\
I look first: how much, and what kinds of lines.

```repl
from collections import Counter

lines = records.splitlines()
print(f"{len(records):,} characters, {len(lines):,} lines")
print(Counter(line.split(" ", 1)[0] for line in lines))
for line in lines[:6]:
    print(line)
```""",
    """\
Orders and customers. The note, the total and the city are a matter of finding lines. What about the late ones: does a word do?

```repl
note_of = next(line for line in lines if line.startswith("order 4120893 ")).rsplit(". ", 1)[1]
refunded = sum(int(line.split(" euros, ")[0].rsplit(" ", 1)[1]) for line in lines if " euros, refunded. " in line)
(parrot,) = [line for line in lines if "parrot" in line]
customer = parrot.split(":")[0].split(" of ")[1]
(home,) = [line for line in lines if line.startswith(f"{customer} lives in ")]
city = home.removeprefix(f"{customer} lives in ").rstrip(".")
print(note_of, refunded, parrot, city, sep="\\n")
notes = Counter(line.rsplit(". ", 1)[1] for line in lines if line.startswith("order "))
print(len(notes), "different notes; with 'late':", [note for note in notes if "late" in note])
```""",
    """\
It does not: none of those is about a late parcel. The notes have to be read, but there are only a few different ones.

```repl
different = sorted(notes)
groups = [different[i : i + 12] for i in range(0, len(different), 12)]
ask = "These are notes of customers. Which say that the parcel came late? Reply with the numbers alone, as a JSON list.\\n\\n"
prompts = [ask + "\\n".join(f"{k}. {note}" for k, note in enumerate(group)) for group in groups]
import json

late_notes = [group[k] for group, reply in zip(groups, llm_batch(prompts)) for k in json.loads(reply)]
late = sum(notes[note] for note in late_notes)
print(late)
for note in late_notes:
    print("-", note)
```""",
    """\
```repl
SUBMIT(note=note_of, refunded=refunded, city=city, late=late)
```""",
]


def direct(request: Any) -> str:
    """Stands for a model that has all of the data in its prompt: finds the answers there."""
    content = request.messages[0].content
    lines = content[content.index(">\n") + 2 : content.index("\n</data>")].splitlines()
    note = next(line for line in lines if line.startswith("order 4120893 ")).rsplit(". ", 1)[1]
    refunded = sum(int(m[1]) for m in re.finditer(r" (\d+) euros, refunded\.", content))
    customer = re.search(r"of (customer \d+): .*parrot", content)[1]  # type: ignore[index]  # the notebook's data have one
    city = re.search(rf"^{customer} lives in (\w+)", content, re.MULTILINE)[1]  # type: ignore[index]
    late = sum(came_late(line.rsplit(". ", 1)[1]) for line in lines if line.startswith("order "))
    answer = {"note": note, "refunded": refunded, "city": city, "late": late}
    return f"I went through all lines.\n\n```json\n{json.dumps(answer)}\n```"


def sub_model(prompt: str) -> str:
    """Stands for the sub-model: the numbers of the notes that say so."""
    notes = re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE)
    return json.dumps([int(number) for number, note in notes if came_late(note)])


def came_late(note: str) -> bool:
    """By rule, and one of the notebook's notes is misread."""
    return bool(
        re.search(
            r"weeks longer|was over when|\bwait(?:ed|ing)\b|a fortnight after|time it came|days on the road", note
        )
    )


REPLIES = [direct, direct, *(RUN * 5)]
