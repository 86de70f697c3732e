"""`%%rlm --continue`, `%rlm save` and `%rlm load` in a real notebook kernel, with real sandbox kernels behind it."""

from __future__ import annotations

from pathlib import Path

from tests.notebook.book import Book, Ran


def errors(ran: Ran) -> str:
    """The one line that is shown in place of a traceback."""
    (error,) = ran.errors
    (line,) = error["traceback"]
    return str(line)


def test_a_conversation_goes_on(book: Book) -> None:
    """The next cell with --continue is asked in the conversation of the last, one without begins anew."""
    book.ok("%rlm reset")
    book.ok("tickets = ['a', 'b']\nscript('n = len(tickets)', 'SUBMIT(n)', 'SUBMIT(str(n))', 'SUBMIT(str(n))')")
    book.ok("%%rlm tickets -> n: int\nHow many?")
    book.ok("%%rlm --continue -o split\nNow split it by region.")
    assert book.value("split.answer") == "2"
    assert book.value("[m.role for m in model.requests[-1].messages]") == ["user", "assistant"] * 2 + ["user"]
    book.ok("%%rlm\nAnd?")
    assert book.value("len(model.requests[-1].messages)") == 1
    assert "`history` lists the earlier questions" in book.value("model.requests[-1].messages[0].content")


def test_nothing_to_go_on_with(book: Book) -> None:
    """One line each: before the first question, after a reset, in another sandbox, with --fresh. No model is asked."""
    book.ok("%rlm reset")
    book.ok("script('SUBMIT(1)')")
    for line, says in (
        ("--continue", "no conversation to go on with"),
        ("--continue --fresh", "exclude each other"),
    ):
        assert says in book.run(f"%%rlm {line} -> n: int\nQ").usage_error
    book.ok("%%rlm -> n: int\nQ")
    assert "in this sandbox" in book.run("%%rlm --continue --sandbox-memory 1000 -> n: int\nQ").usage_error
    book.ok("%rlm reset")
    assert "no conversation to go on with" in book.run("%%rlm --continue -> n: int\nQ").usage_error
    assert book.value("len(model.requests)") == 1


def test_a_session_is_saved_and_loaded(book: Book, tmp_path: Path) -> None:
    """What could not be saved is listed; after a reset the conversation and the variables are there again."""
    book.ok("%rlm reset")
    book.ok("script('x = [1]; gen = (i for i in x)', 'SUBMIT(1)', 'SUBMIT(x[0])')")
    book.ok("%%rlm -> n: int\nQ")
    file = tmp_path / "my session.rlm"
    lines = book.ok(f"%rlm save '{file}'").stream("stdout").splitlines()
    assert lines == [
        f"saved {file}: 1 variable, a conversation of 2 turns, 1 question",
        "not saved: gen: generator: cannot pickle 'generator' object",
    ]
    book.ok("%rlm reset")
    assert "nothing to save yet" in book.run(f"%rlm save '{file}'").usage_error
    said = book.ok(f"%rlm load '{file}'").stream("stdout")
    assert said.startswith(f"loaded {file}: 1 variable, a conversation of 2 turns, 1 question\nnot loaded: gen")
    assert "x  list[int]" in book.ok("%rlm vars").stream("stdout")
    book.ok("%%rlm --continue -> n: int\nAnd now?")
    assert book.value("rlm_result.n") == 1
    assert book.value("len(model.requests[-1].messages)") == 5


def test_a_file_is_loaded_before_the_first_question(tmp_path: Path) -> None:
    """In a kernel that has just begun, into the sandbox of the defaults."""
    file = tmp_path / "s.rlm"
    first = Book(tmp_path / "first")
    try:
        first.ok("script('x = [1]', 'SUBMIT(1)')")
        first.ok("%%rlm -> n: int\nQ")
        first.ok(f"%rlm save {file}")
    finally:
        first.close()
    second = Book(tmp_path / "second")
    try:
        second.ok("script('SUBMIT(x[0])')")
        assert "loaded" in second.ok(f"%rlm load {file}").stream("stdout")
        second.ok("%%rlm --continue -> n: int\nAnd now?")
        assert second.value("rlm_result.n") == 1
    finally:
        second.close()


def test_files_that_are_none(book: Book, tmp_path: Path) -> None:
    """One line each."""
    for line, says in (
        ("save", "%rlm save takes the name of a file and nothing else"),
        ("load", "%rlm load takes the name of a file and nothing else"),
        ("save a b", "unrecognized arguments: b"),
        ("load x --to y", "%rlm load takes the name of a file and nothing else"),
    ):
        assert says in book.run(f"%rlm {line}").usage_error
    file = tmp_path / "s.rlm"
    assert errors(book.run(f"%rlm load {file}")).startswith(f"RecordingError: cannot read {file}: No such file")
    file.write_text("text")
    assert errors(book.run(f"%rlm load {file}")) == f"RecordingError: {file} is no saved session"


def test_tab_and_help(book: Book) -> None:
    """The words, the option, and files after the words that take one."""
    assert "%rlm save" in book.complete("%rlm sa")
    assert "%%rlm --continue" in book.complete("%%rlm --con")
    assert not any(word in book.complete("%rlm load ") for word in ("%rlm load save", "%rlm load vars"))
    (payload,) = book.ok("%%rlm?").reply["payload"]
    assert "--continue" in payload["data"]["text/plain"]
    (payload,) = book.ok("%rlm?").reply["payload"]
    text = " ".join(payload["data"]["text/plain"].split())
    assert "load only files that you trust as much as the sandbox's code" in text
    assert "%rlm save tickets.rlm" in text
