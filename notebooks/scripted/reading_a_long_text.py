"""The scripted replies of `05_reading_a_long_text.ipynb`: see `build.py`. No model was asked.

The main model's replies are texts. The sub-model is a small reader by rule: it takes the passages out of its prompt and
finds out whose face it is about, from names, pronouns and a few words that turn the sense. Of the novel it knows which first
names are women's and which names are places. It often errs, as the notebook shows; it stands where a sub-model would.
"""

from __future__ import annotations

import json
import re

READ = [
    """\
I look at the text first.

```repl
import re

print(f"{len(novel):,} characters, {len(novel.split()):,} words")
print(re.findall(r"^Chapter \\d+", novel, re.M)[-1])
paragraphs = [" ".join(p.split()) for p in re.split(r"\\n\\s*\\n", novel)]
print(len(paragraphs), "paragraphs, for example")
for p in paragraphs[3:7]:
    print("|", p[:160])
```""",
    """\
Finding the words is a job for code. Are they enough?

```repl
words = {
    "smile": r"\\bsmil\\w+\\b",
    "laugh": r"\\blaugh\\w*\\b",
    "blush": r"\\b(?:blush\\w*|colour(?:s|ed|ing)?|red|redden\\w*)\\b",
}
hits = [(n, sign) for n, p in enumerate(paragraphs) for sign, word in words.items() if re.search(word, p, re.I)]
for sign in words:
    print(sign, sum(s == sign for _, s in hits), "paragraphs")
print("Darcy smiled:", len(re.findall(r"Darcy smiled", novel)), "times")

def excerpt(n, sign, around=60):
    p = f" {paragraphs[n]} "
    m = re.search(words[sign], p, re.I)
    start = p.rfind(" ", 0, max(1, m.start() - around)) + 1
    return p[start : p.find(" ", min(len(p) - 1, m.end() + around))]

for n, sign in hits[5::15]:
    print(n, sign, "|", excerpt(n, sign))
```""",
    """\
They are not: it says "he" and "she" and "both"; some of it is talk, and a colour can be a coat's. Each passage has to be \
read, which is a job for the sub-model. One prompt for each.

```repl
TASK = '''You read passages of a novel. In the text of each, words are marked «so»; "before" is what comes before it.
Say whose face shows it there: who smiles, laughs, or blushes and changes colour, as the narrator tells it.
- Nobody, if it is only spoken of between quotation marks, if it is wished, denied or held back, or if the word means
  something else (the colour of a coat, the smile of a portrait).
- Put names for "she", "he", "his sister" where the passage tells them, "?" where it does not, and people without a name
  in brackets: "(the ladies)".
Reply with JSON alone, one object for each passage: [{"n": 1, "who": ["Jane"], "why": "a few words"}]'''

def passage(k, n, sign, before):
    p = paragraphs[n]
    end = list(re.finditer(words[sign], p, re.I))[-1].end() + 120
    marked = re.sub(words[sign], lambda m: f"«{m[0]}»", p[:end], flags=re.I)
    return f"[{k}] before: {before(n)}\\n    text: {marked}"

def tail(n):
    return paragraphs[n - 1][-250:]

replies = llm_batch([TASK + "\\n\\n" + passage(1, n, sign, tail) for n, sign in hits])
print(replies[0])
```""",
    """\
More than I may ask. Five passages to a prompt, then.

```repl
import json

def read(hits, before):
    groups = [hits[i : i + 5] for i in range(0, len(hits), 5)]
    prompts = ["\\n\\n".join([TASK, *(passage(k, n, sign, before) for k, (n, sign) in enumerate(g, 1))]) for g in groups]
    found = {}
    for group, reply in zip(groups, llm_batch(prompts)):
        rows = json.loads(reply)
        assert [row["n"] for row in rows] == list(range(1, len(group) + 1)), reply
        found.update(zip(group, rows))
    return found

reading = read(hits, tail)
for hit in hits[:12]:
    print(*hit, reading[hit]["who"], reading[hit]["why"], "|", excerpt(*hit, 30))
```""",
    """\
That can be used. Which names came back, and how many passages were too short to tell?

```repl
from collections import Counter

names = Counter(name for row in reading.values() for name in row["who"])
print(dict(sorted(names.items())))
unclear = [hit for hit in hits if "?" in reading[hit]["who"]]
print(len(unclear), "unclear")
```""",
    """\
The unclear ones get a second reading, with more of what comes before. And one person has several names here; the text says \
which are the same: Miss Bennet is Jane, the eldest; Lydia's mother is Mrs. Bennet.

```repl
def more(n):
    return " ".join(paragraphs[max(0, n - 6) : n])[-1500:]

reading.update(read(unclear, more))
print(sum("?" in reading[hit]["who"] for hit in hits), "still unclear")

same = {
    "Bingley": "Mr. Bingley",
    "Bingley's sister": "Miss Bingley",
    "Darcy": "Mr. Darcy",
    "Denny": "Mr. Denny",
    "Elizabeth's aunt": "Mrs. Gardiner",
    "Elizabeth's father": "Mr. Bennet",
    "Fitzwilliam": "Colonel Fitzwilliam",
    "Lizzy": "Elizabeth",
    "Lydia's mother": "Mrs. Bennet",
    "Miss Bennet": "Jane",
    "Wickham": "Mr. Wickham",
}

def people(row):
    return sorted({"others" if name.startswith("(") else same.get(name, name) for name in row["who"]})

shown = Counter((name, sign) for (n, sign), row in reading.items() for name in people(row))
print(sorted({name for name, _ in shown}))
```""",
    """\
Neither Wickham's daughter nor the father of Mrs. Collins is in such a scene: I call those two unclear rather than guess. Now the \
table, and before I hand it in I read some of it: every smile that is Mr. Darcy's.

```repl
import pandas as pd

same |= {"Wickham's daughter": "?", "Mrs. Collins's father": "?"}
shown = Counter((name, sign) for (n, sign), row in reading.items() for name in people(row))
everybody = sorted({name for name, _ in shown} - {"?", "others"})
faces = pd.DataFrame({"name": everybody, **{sign: [shown[name, sign] for name in everybody] for sign in words}})
faces = faces.sort_values(["smile", "laugh", "blush", "name"], ascending=[False, False, False, True], ignore_index=True)
print(faces.to_string())
his = [hit for hit in hits if hit[1] == "smile" and "Mr. Darcy" in people(reading[hit])]
for hit in his:
    print(*hit, reading[hit]["why"], "|", excerpt(*hit, 50))
```""",
    """\
That is plausible. I hand in every reading beside the table, so that each can be checked.

```repl
readings = pd.DataFrame(
    [
        {"paragraph": n, "sign": sign, "who": "; ".join(people(row)), "why": row["why"], "words": excerpt(n, sign, 30)}
        for (n, sign), row in reading.items()
    ]
)
most = faces.iloc[0]
SUBMIT(
    answer=f"As the passages were read, Mr. Darcy smiles in {len(his)} of them. {most['name']} smiles most often, in {most.smile}. "
    f"Of {len(readings)} passages {(readings.who == '?').sum()} stayed unclear.",
    faces=faces,
    readings=readings,
)
```""",
]
REPLIES = [*READ]

TITLES = ("Mr", "Mrs", "Miss", "Lady", "Sir", "Colonel")
TITLED = rf"(?:{'|'.join(TITLES)})\.? (?:and Mrs\.? )?(?:de )?[A-Z][a-z]+"
NAME = re.compile(rf"\b{TITLED}|\b[A-Z][a-z]{{2,}}\b")
WORDS = """
women: Elizabeth Lizzy Eliza Jane Lydia Kitty Mary Charlotte Maria Georgiana Caroline Louisa Anne Catherine
places: Netherfield Longbourn Meryton Pemberley Rosings Hunsford London Kent Derbyshire Brighton Lambton Hertfordshire Bath
    Lucas Lodge Park Parsonage Gracechurch Scarborough Ramsgate Newcastle Clapham Epsom Oakham Mount Hill Street Town
no names: The This That These Those They Their There Then Than She Her Hers His Him You Your One Once Two Both Each Every
    Some Many Such With Without When Where While What Which Who Whose How Why Here Now Nor Not Nothing Never But And For
    From After Before Upon Under Till Until Though Could Would Should Might Must May Shall Will Was Were Had Has Have Did
    Does Been Being Its Our All Any Most More Much Very Yes Indeed Pray Dear Lord God Good Well Smiles Laugh Vain Among
    Again Always Sunday Monday Tuesday Wednesday Thursday Friday Saturday Christmas Michaelmas January February March
    April June July August September October November December English French Chapter Madam Mamma Papa Aunt Uncle
    Dearest Too Let Make Take Are Can Even Only Just Like Soon Still Thus Perhaps Follies Intimate Tease Wholly Fond Sir
    Ladyship Long Fortunately
"""
WOMEN, PLACES, NO_NAMES = (set(part.split()) for part in re.split(r"^[a-z ]+: ", WORDS, flags=re.MULTILINE)[1:])
"""First names of women (of others that stand alone, a surname is a man's, as was the custom), and what is no person."""
KIN = "sister|sisters|mother|father|aunt|uncle|daughter|niece|cousin|wife|husband|friend|brother|son"
GROUPS = r"\b(?:the (?:girls|ladies|gentlemen|officers|whole party|mother and daughter|family|company|room)|[Mm]any|[Ee]verybody)\b"
NOT_SO = re.compile(
    r"\b(?:no need to|near|nearly|(?:could|would|can) (?:hardly|scarcely)(?: help| suppress| forbear)?|checked (?:her|his)|"
    r"no variation of|to be|suffered no|never|did not|not to|any other|forbore to|instead of|rather than)"
    r"(?: \w+){0,2} ?$"
)


def sub_model(prompt: str) -> str:
    """Stands for the sub-model: reads each passage of the prompt, replies as asked, with JSON."""
    found = re.findall(r"^\[(\d+)\] before: (.*)\n +text: (.*)$", prompt, re.MULTILINE)
    read = [{"n": int(n), **reading(before, text)} for n, before, text in found]
    return json.dumps(read, ensure_ascii=False).replace("}, {", "},\n {")


def reading(before: str, text: str) -> dict[str, object]:
    """Who shows it at the places that are marked, and why."""
    who: list[str] = []
    why: list[str] = []
    for mark in re.finditer("«([^»]*)»", text):
        names, reason = at(told(before), text, mark)
        who += [n for n in names if n not in who]
        why.append(reason)
    return {"who": who, "why": f"by rule: {'; '.join(dict.fromkeys(why))}"}


def told(text: str) -> str:
    """What the narrator says: the speeches become blanks."""
    parts = text.split('"')
    return '"'.join(part if place % 2 == 0 else " " * len(part) for place, part in enumerate(parts))


def at(before: str, text: str, mark: re.Match[str]) -> tuple[list[str], str]:
    """Who shows it at one place."""
    word = mark[1].lower()
    if text[: mark.start()].count('"') % 2:
        return [], "spoken of, not told"
    plain = told(text)
    start = _sentence(plain, mark.start())
    lead, rest = plain[start : mark.start()], re.sub("[«»]", "", plain[mark.end() :])
    rest = re.split(r"(?<!Mr)(?<!Mrs)[.;:!?\"]", rest, maxsplit=1)[0]
    if re.search(r"\bred\b|colour", word) and not _is_face(word, lead, rest):
        return [], "a colour, but not of a face"
    if re.search(r"\b(?:portrait|picture|likeness|resemblance|painted)\b", lead):
        return [], "a picture"
    if NOT_SO.search(lead) and not re.search(r"\b(?:not|nor|never|could)\b.*\bwithout\b", lead):
        return [], "it does not come to that"
    past = f"{before} {plain[:start]}"
    if found := re.match(rf"[a-z ]* (?:from|of|into|overspread) ({TITLED}|[A-Z]\w+)", rest):
        return [found[1]], "named after it"
    if found := re.match(rf" (?:of|from) ({GROUPS[2:-2]})", rest) or re.search(rf"{GROUPS}[^,;]*$", lead):
        return [f"({found[0].strip().removeprefix('of ')})"], "a group"
    if re.search(r"\b(?:both|Both|each)\b", lead + rest[:20]):
        two = list(dict.fromkeys(_names(past + lead)[::-1]))[:2]
        return two if len(two) == 2 else ["?"], "the two who were named last"
    return _subject(past, lead, rest)


def _is_face(word: str, lead: str, rest: str) -> bool:
    if word.startswith("colour") and word != "colour":
        return not lead.endswith("-")
    if word == "red":
        return bool(re.search(r"(?:turned|grew|looked|other) $", lead))
    return bool(re.search(r"chang|heighten|cheek|face|rose|increas|return|rush", lead + rest))


def _subject(past: str, lead: str, rest: str) -> tuple[list[str], str]:
    """The person nearest before the word, by name, by kinship or by pronoun."""
    pattern = rf"\b(?P<kin>(?:[Hh]er|[Hh]is|[A-Z]\w+'s) (?:{KIN}))\b|\b(?P<pro>[Ss]he|[Hh]e|[Hh]er|[Hh]is|[Hh]im)\b|(?P<name>{NAME.pattern})"
    found = [m for m in re.finditer(pattern, lead) if not m["name"] or _is_name(m["name"])]
    found = [m for m in found if not _is_object(m, lead)] or found
    if not found:
        after = re.search(r"\b(?:her|his|she|he)\b", rest)
        return [_last(past + lead, after[0]) if after else "?"], "nobody is named before it"
    last = found[-1]
    if last["name"]:
        return _pair(last["name"]), "named"
    if last["kin"]:
        owner, relation = last["kin"].split(" ", 1)
        if owner[0].isupper() and owner.endswith("'s"):
            return [last["kin"]], "a relation"
        person = _last(past + lead[: last.start()], owner)
        return [f"{person}'s {relation}" if person != "?" else "?"], "a relation"
    return [_last(past + lead[: last.start()], last["pro"])], f"'{last['pro'].lower()}' is whoever was named last"


def _is_object(found: re.Match[str], lead: str) -> bool:
    """Whether somebody only has to do with it: "turned to him", "on hearing her"."""
    if found["pro"] and found["pro"].lower() in ("her", "his", "him"):
        return len(lead[found.end() :].split()) > 2 or found["pro"] == "him"
    return bool(re.search(r"\b(?:at|to|towards|with|for|of|by|on|upon|from|joined|met) $", lead[: found.start()]))


def _pair(name: str) -> list[str]:
    both = re.fullmatch(r"(Mr|Mrs)\.? and (Mrs)\.? (\w+)", name)
    return [f"{both[1]}. {both[3]}", f"{both[2]}. {both[3]}"] if both else [name]


def _last(past: str, pronoun: str) -> str:
    """The person of the pronoun's sex who was named last."""
    woman = pronoun.lower() in ("she", "her")
    return next((n for n in reversed(_names(past)) if _is_woman(n) == woman), "?")


def _names(text: str) -> list[str]:
    return [name for m in NAME.finditer(text) if _is_name(m[0]) for name in _pair(m[0])]


def _is_name(word: str) -> bool:
    if word.split(maxsplit=1)[0].rstrip(".") in TITLES:
        return True
    return word not in NO_NAMES | PLACES and not word.endswith("ing")


def _is_woman(name: str) -> bool:
    return name.startswith(("Mrs", "Miss", "Lady")) or name.split(maxsplit=1)[0] in WOMEN


def _sentence(text: str, place: int) -> int:
    """Where the sentence begins that `place` is in."""
    ends = [m.end() for m in re.finditer(r"(?<!Mr)(?<!Mrs)[.!?;:]\"? +(?=[\"A-Z])|--", text[:place])]
    return ends[-1] if ends else 0
