"""The replies of `04_tools.ipynb`, written by hand in a capable model's place; see `build.py`."""

from __future__ import annotations

OLDEST = [
    """\
A few records by the look of it; ages can be missing.

```repl
print(len(users))
print(users)
```""",
    """\
Carol's age is not known, so she is left out, and I say so.

```repl
known = [u for u in users if u["age"] is not None]
unknown = [u["name"] for u in users if u["age"] is None]
oldest = max(known, key=lambda u: u["age"])
print(oldest, "unknown:", unknown)
SUBMIT(answer=f"{oldest['name']}, {oldest['age']}. The age of {', '.join(unknown)} is not known.")
```""",
]

FACTS = [
    """\
I look around before I read anything.

```repl
for path in (".", "etc", "var", "var/log"):
    print(path, list_dir(path))
```""",
    """\
`os-release` names the distribution, and `disk.txt` looks like the output of `df`. I read both.

```repl
release = read_file("etc/os-release")
disk = run_command("cat var/disk.txt")
print(release)
print(disk)
```""",
    """\
Two file systems, and one of them is full: the answer has to say both.

```repl
about = dict(line.split("=", 1) for line in release.replace('"', "").splitlines())
rows = [line.split() for line in disk.splitlines()[1:]]
space = ", ".join(f"{row[5]}: {row[3]} of {row[1]}" for row in rows)
answer = f"{about['NAME']} {about['VERSION']}. Available: {space}; /var is full."
print(answer)
SUBMIT(answer=answer, sources=["etc/os-release", "cat var/disk.txt"])
```""",
]

ATTACK = [
    """\
A helper that tries a call and keeps what came of it, then the folder above.

```repl
def attempt(call):
    try:
        return repr(eval(call))
    except Exception as error:
        return f"{type(error).__name__}: {error}"

for call in ('list_dir()', 'list_dir("..")'):
    print(call, "->", attempt(call))
```""",
    """\
Now the token, through each of the three: a path that climbs, a link that leads out (`var/backup` may be one), a second \
command behind a harmless one, an option. And something to be left behind.

```repl
calls = [
    'list_dir("..")',
    'read_file("../private/token")',
    'read_file("var/backup/token")',
    'run_command("cat ../private/token")',
    'run_command("head -n 1 etc/os-release; cat ../private/token")',
    'run_command("grep -r token ..")',
    'run_command("echo I was here > motd")',
]
tried = [{"call": call, "result": attempt(call)} for call in calls]
for row in tried:
    print(row["call"], "->", row["result"])
```""",
    """\
The last one prints nothing when it works, so I look whether the file is there, and hand in the table.

```repl
import pandas as pd

tried.append({"call": 'read_file("motd")', "result": attempt('read_file("motd")')})
print(tried[-1])
SUBMIT(tried=pd.DataFrame(tried))
```""",
]

STOPPED = [
    """\
The end of the log, and whether a disk is full.

```repl
print(run_command("tail -n 6 var/log/web.log"))
print(run_command("df -h"))
```""",
    """\
`df` is not allowed here. `/upload` fails for want of space; the system's own log would say more.

```repl
print(read_file("var/log/messages"))
```""",
    """\
There is none. So: what is there, and which errors, by path and message?

```repl
from collections import Counter

print(list_dir("var"), list_dir("var/log"))
errors = [line.split(maxsplit=4) for line in run_command("grep ERROR var/log/web.log").splitlines()]
for (path, message), count in Counter((e[2], e[4]) for e in errors).most_common():
    print(count, path, message)
print(read_file("var/disk.txt"))
```""",
    """\
`/var` is full, and uploads cannot be written. The timeouts are few and everywhere: another matter. I check that no upload \
has worked since the first of these errors.

```repl
full = [e for e in errors if "No space left" in e[4]]
since = full[0][0]
worked = [line for line in run_command("grep INFO var/log/web.log").splitlines() if line.split()[2] == "/upload"]
print(len(full), "failed since", since, "- the last that worked:", worked[-1])
assert worked[-1].split()[0] < since
SUBMIT(
    path="/upload",
    since=since,
    failed=len(full),
    cause="/var is full (20G, nothing available), so uploads cannot be written: No space left on device.",
)
```""",
]

REPLIES = OLDEST + FACTS + ATTACK + ATTACK + STOPPED


def sub_model(prompt: str) -> str:
    """No question of this notebook asks the sub-model."""
    raise AssertionError(prompt)
