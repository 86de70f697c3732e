"""`--tools` of `%%rlm` in a real notebook kernel, with a real sandbox kernel behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebook.book import Book

SETUP = '''
import threading
def read_file(path: str) -> str:
    """Read a text file of this machine."""
    print("reading", path)
    with open(path) as file:
        return file.read()
class Store:
    def lookup(self, key: str) -> int:
        """The number of a key."""
        return {"a": 1}[key]
store = Store()
async def fetch_url(url: str) -> str:
    """Fetch a page."""
    return f"<html>{url}</html>"
people = [{"name": "Alice", "age": 30}, {"name": "Bob", "age": 25}]
users = rlm_kernel.DataTool("users", people, "User records: {name, age}")
'''


@pytest.fixture
def book(book: Book) -> Book:
    """The notebook with tools of its own."""
    book.ok(SETUP)
    return book


def test_functions_of_the_notebook(book: Book, tmp_path: Path) -> None:
    """By name, also of an object. They run in the notebook, which shows what they print; the model is told of them."""
    (tmp_path / "a.txt").write_text("from the host")
    cell = f"SUBMIT([read_file({str(tmp_path / 'a.txt')!r}), fetch_url('x'), str(lookup('a'))])"
    book.ok(f"script({cell!r})")
    ran = book.ok("%%rlm --tools read_file,fetch_url, store.lookup -> found: list[str]\nQ")
    assert book.value("rlm_result.found") == ["from the host", "<html>x</html>", "1"]
    assert ran.stream("stdout") == f"reading {tmp_path}/a.txt\n"
    assert book.value(
        "'- `read_file(path: str) -> str`\\n    Read a text file of this machine.' in model.requests[0].system"
    )
    assert "3 tool calls" in ran.bundles[0]["text/plain"]
    assert "read_file" in ran.bundles[0]["text/html"]


def test_data_of_the_notebook(book: Book) -> None:
    """As in rlm-ts: who is the oldest user?"""
    book.ok('script(\'SUBMIT(max(users, key=lambda u: u["age"])["name"])\')')
    book.ok("%%rlm --tools users\nWho is the oldest user?")
    assert book.value("rlm_result.answer") == "Alice"
    assert book.value("'User records: {name, age}' in model.requests[0].system")


def test_tools_for_every_question(book: Book) -> None:
    """`%config`, `configure`, and another `--tools` in their place."""
    book.ok("script('SUBMIT(str(lookup(\"a\")))', 'SUBMIT(str(lookup(\"a\")))', 'SUBMIT(fetch_url(\"y\"))')")
    book.ok("%config RLMMagics.tools = [store.lookup]")
    book.ok("%%rlm\nQ")
    assert book.value("rlm_result.answer") == "1"
    assert "The code can have lookup called in the notebook's process" in book.ok("%rlm status").stream("stdout")
    book.ok("configure(tools=[rlm_kernel.tool(store.lookup)])")
    book.ok("%%rlm\nQ")
    book.ok("%%rlm --tools fetch_url\nQ")
    assert book.value("rlm_result.answer") == "<html>y</html>"
    assert book.value("'lookup' in model.requests[-1].system") is False


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--tools read_fil", "--tools: nothing is called 'read_fil' (did you mean 'read_file'?)"),
        ("--tools store.nothing", "--tools store.nothing: 'Store' object has no attribute 'nothing'"),
        ("--tools plain", "'plain' is no function; data goes into the signature"),
        ("--tools read_file,read_file", "two tools are called 'read_file'"),
        ("--tools", "option --tools needs a value"),
        ("read_file --tools read_file", "'read_file' is both a variable of the question and a tool"),
        ("--tools read_file --max-tool-calls some", "max_tool_calls: 'some' is not a number"),
        ("--tools read_file --tool-timeout 0", "tool_timeout has to be at least 0.01, not 0"),
    ],
)
def test_mistakes_are_told_in_one_line(book: Book, line: str, says: str) -> None:
    """Nothing is started, nothing is bound."""
    book.ok("plain = [1]\nscript('SUBMIT(1)')\nrlm_result = 'before'")
    assert says in book.run(f"%%rlm {line}\nQ").usage_error
    assert book.value("rlm_result") == "before"


def test_help_and_tab(book: Book) -> None:
    """`%%rlm?` says what a tool is; Tab offers the notebook's functions, and nothing else."""
    (page,) = [p["data"]["text/plain"] for p in book.ok("%%rlm?").reply["payload"]]
    assert "--tools NAME,…" in " ".join(page.split())
    assert "each is a hole in the sandbox, made on purpose" in " ".join(page.split())
    book.ok("read_data = [1]")
    assert [c for c in book.complete("%%rlm df --tools rea") if "rea" in c] == ["%%rlm df --tools read_file"]
    assert book.complete("%%rlm --tools=read_file,use") == ["%%rlm --tools=read_file,users"]
    assert "%%rlm --tool" not in book.complete("%%rlm --tools read_file -> n")
    assert {"%%rlm --tools", "%%rlm --tool-timeout"} <= set(book.complete("%%rlm --tool"))


def test_stop_while_a_tool_hangs(book: Book, marker: Path) -> None:
    """■ ends the run at once; the result tells of the call, and the notebook works on."""
    book.ok(
        "release = threading.Event()\n"
        f"def hangs() -> None:\n    open({str(marker)!r}, 'w').close()\n    release.wait(60)\n"
        "script('kept = 3\\nhangs()', 'SUBMIT(str(kept))')"
    )
    book.interrupt_when(marker)
    ran = book.run("%%rlm --tools hangs\nQ")
    assert ran.errors[0]["ename"] == "InterruptedRunError"
    assert book.value("release.is_set()") is False
    assert book.value("rlm_result.trajectory.tool_calls[0].error") == "cancelled: its cell was stopped"
    assert "goes on in this process" in book.value("rlm_result.trajectory.iterations[0].notes[-1]")
    book.ok("release.set()\n")
    book.ok("%%rlm\nQ")
    assert book.value("rlm_result.answer") == "3"
