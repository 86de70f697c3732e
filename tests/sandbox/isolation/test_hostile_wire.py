"""Code that speaks to the host itself: forged, malformed and endless messages over the sockets that the kernel has."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from rlm_kernel.sandbox.isolation.policy import MB
from tests.sandbox.isolation.hostile import goes_on, goes_on_anew
from tests.sandbox.lab import Lab, Ran


def test_a_forged_idle(tooled: Lab) -> None:
    """It does not end a cell: the reply is waited for, and what is printed after it is heard."""
    ran = tooled.run(
        "print('before', flush=True)\niopub('status', {'execution_state': 'idle'})\ntime.sleep(0.2)\nprint('after')"
    )

    assert (ran.status, ran.text()) == ("ok", "before\nafter\n")
    assert goes_on(tooled)


def test_a_forged_end(tooled: Lab) -> None:
    """A cell that says it has ended harms itself only: what it prints later is no other cell's."""
    ran = tooled.run("""
shell('execute_reply', {'status': 'ok', 'payload': [], 'execution_count': 1})
iopub('status', {'execution_state': 'idle'})
time.sleep(0.3)
print('late')
""")
    assert ran.status == "ok"
    assert goes_on(tooled)


def test_forged_replies(tooled: Lab) -> None:
    """Payloads of Jupyter's are passed over, and what claims to be ours comes out as words or not at all."""
    ran = tooled.run("""
payload = [{'source': 'set_next_input', 'text': 'rm -rf /', 'replace': True}, {'source': 'page',
      'data': {'text/plain': 'x'}},
           {'source': 'ask_exit'}, {'source': 'edit', 'filename': '/etc/passwd'},
           {'source': 'rlm_kernel', 'changed': [['x', 1, {'a': 2}, None], 'y', ['z'], None],
           'removed': {'a': 1}, 'restored': [[1], None]}]
shell('execute_reply', {'status': 'ok', 'payload': payload, 'execution_count': 'x'})
iopub('status', {'execution_state': 'idle'})
""")
    words = [x for v in ran.result.changed for x in (v.name, v.type, v.size, v.preview)]

    assert ran.status == "ok"
    assert all(isinstance(word, str) for word in (*words, *ran.result.removed, *ran.result.restored))
    assert goes_on(tooled)


@pytest.mark.parametrize(
    "content",
    [
        "None",
        "[]",
        "'x'",
        "{}",
        "{'status': ['ok']}",
        "{'status': 'ok', 'payload': 7}",
        "{'payload': [[]], 'ename': {}}",
    ],
)
def test_replies_of_another_form(tooled: Lab, content: str) -> None:
    """None of them raises in the host."""
    ran = tooled.run(
        f"shell('execute_reply', {content})\niopub('status', {{'execution_state': ['idle']}})\nprint('end')"
    )

    assert ran.status in {"ok", "error"}
    assert goes_on(tooled)


def test_comms_and_displays(tooled: Lab) -> None:
    """Comms go nowhere; a display that updates another's id is text like any other."""
    ran = tooled.run("""
iopub('comm_open', {'comm_id': 'a', 'target_name': 'jupyter.widget', 'data': {'state': {'_model_name': 'HTMLModel'}}})
iopub('comm_msg', {'comm_id': 'a', 'data': {'method': 'update'}}, buffers=[b'x' * 1000])
iopub('comm_close', {'comm_id': 'a'})
iopub('clear_output', {'wait': False})
iopub('execute_input', {'code': 'import os', 'execution_count': 1})
iopub('update_display_data', {'data': {'text/plain': 'mine', 'text/html': '<script>'},
      'transient': {'display_id': 'yours'}})
iopub('display_data', {'data': 'no bundle'})
iopub('stream', {'name': 'stdout', 'text': {'no': 'text'}})
iopub('error', {'traceback': 'no list', 'ename': None, 'evalue': 7})
""")
    assert "mine\n" in ran.text("display")
    assert "jupyter.widget" not in ran.text()
    assert goes_on(tooled)


def test_questions_to_the_user(tooled: Lab) -> None:
    """The notebook's user is asked nothing: what is no request of ours is answered with nothing."""
    ran = tooled.run("""
import getpass
try:
    print(getpass.getpass('your password?'))
except RuntimeError as error:
    print(error)
print(repr(kernel.raw_input('and here?')))
print(repr(kernel.raw_input('{"rlm": 1, "new": 7, "forget": []}')), repr(kernel.raw_input('[' * 100_000)))
""")
    assert ran.text("stdout").splitlines()[1:] == ["''", "'' ''"]
    assert tooled.asked == []
    assert goes_on(tooled)


def test_requests_of_another_form(tooled: Lab) -> None:
    """A request that does not fit is no fault of the host's."""
    ran = tooled.run("""
import json
for new in ([{'id': 1, 'method': 'submit', 'params': {}}], [{'id': True, 'method': 'x', 'params': {'a': 1}}],
            [{'id': 10**400, 'method': '__class__', 'params': {}}], [{'id': -1, 'method': 'llm_query',
            'params': {'prompts': [7]}}]):
    kernel.raw_input(json.dumps({'rlm': 1, 'new': new, 'forget': [1, None, {}]}))
""")
    assert ran.status in {"ok", "error"}
    assert goes_on(tooled)


def test_malformed_frames(tooled: Lab) -> None:
    """What is no message is dropped, signed or not."""
    ran = tooled.run(r"""
raw(b'')
raw(b'forged', b'<IDS|MSG>')
raw(b'<IDS|MSG>', b'x', b'{}', b'{}', b'{}', b'{}')
raw(b'forged', b'no delimiter', *[b'{}'] * 5)
raw(*[b'x'] * 1000)
head = b'{"msg_type": "stream", "msg_id": "1"}'
for body in (b'', b'{', b'[]', b'null', b'7', b'"x"', b'\xff\xfe', b'\0', b'[' * 100_000, b'9' * 10_000,
      b'{"a":' * 50_000, b'NaN',
             b'{"text": "\\ud800"}', b'1e999999'):
    signed(head, b'{}', b'{}', body)
    signed(body, body, body, body)
    signed(head, b'{"msg_id": [1]}', body, b'{}')
print('end')
""")
    assert (ran.status, ran.text()) == ("ok", "end\n")
    assert goes_on(tooled)


def test_a_pickle(tooled: Lab) -> None:
    """The host takes no pickle for anything: none of it is run."""
    forged = Path.home() / f".rlm-pickled-{os.getpid()}"
    ran = tooled.run(f"""
import pickle, base64
class Evil:
    def __reduce__(self):
        return os.system, ('touch {forged}',)
evil = pickle.dumps(Evil())
signed(evil, evil, evil, evil)
head = b'{{"msg_type": "display_data", "msg_id": "1"}}'
signed(head, session.pack({{'msg_id': kernel.get_parent()['header']['msg_id']}}), b'{{}}', evil)
iopub('display_data', {{'data': {{'text/plain': 'x',
      'application/python-pickle': base64.b64encode(evil).decode()}}}}, buffers=[evil])
print(base64.b64encode(evil).decode())
submitted = evil
""")
    found = forged.exists()
    forged.unlink(missing_ok=True)

    assert ran.status == "ok"
    assert not found
    assert goes_on(tooled)


def memory() -> int:
    """Bytes that the host uses."""
    used: int = psutil.Process().memory_info().rss
    return used


def highest_while(running: Future[Ran]) -> int:
    """The most memory that the host uses until a cell has ended."""
    highest = 0
    while not running.done():
        highest = max(highest, memory())
        time.sleep(0.005)
    return highest


SOCKETS = ["iopub_thread.socket", "shell_stream.socket", "stdin_socket", "control_stream.socket"]


@pytest.mark.parametrize("channel", SOCKETS)
def test_a_message_of_ever_more_frames(tooled: Lab, channel: str) -> None:
    """It takes no memory of the host's, on any socket; where the host listens the cell ends as flooded."""
    before = memory()
    running = tooled.later(
        tooled._run(
            f"""
import zmq
piece, socket = b'x' * {MB}, kernel.{channel}
if socket.type == zmq.ROUTER:
    socket.send(kernel._parent_ident['shell'][0], zmq.SNDMORE)
for _ in range(1000):
    socket.send(piece, zmq.SNDMORE, copy=False)
socket.send(b'end')
time.sleep(0.5)
""",
            None,
        )
    )
    highest = highest_while(running)
    ran = running.result(0)

    assert ran.status == ("ok" if channel.startswith("control") else "flooded")
    assert highest - before < 200 * MB
    assert goes_on(tooled)


def test_an_endless_frame(tooled: Lab) -> None:
    """A frame that says it has 2**60 bytes is passed over as it comes: the cell is stopped, and the kernel with it."""
    before = memory()
    running = tooled.later(
        tooled._run(
            """
import socket, threading
for name in os.listdir('/proc/self/fd'):
    try:
        raw = socket.socket(fileno=os.dup(int(name)))
        if raw.family != socket.AF_UNIX or raw.type != socket.SOCK_STREAM:
            continue
        raw.getpeername()
        raw.setblocking(False)
        raw.send(b'\2' + (2**60).to_bytes(8, 'big'))
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            try:
                raw.send(b'x' * 65536)
            except BlockingIOError:
                time.sleep(0.001)
    except OSError:
        continue
while True:
    time.sleep(1)
""",
            None,
        )
    )
    highest = 0
    for _ in range(300):
        highest = max(highest, memory())
        time.sleep(0.01)
    tooled.later(tooled.sandbox.interrupt()).result(10)
    with contextlib.suppress(TimeoutError):  # the interrupt got through, the reply cannot: a deadline's grace is over
        running.result(5)
    assert highest - before < 200 * MB
    assert goes_on_anew(tooled)
    assert running.result(10).status == "died"


def test_answers_to_cells_that_are_not_asked_yet(tooled: Lab) -> None:
    """The next cell's messages cannot be sent before it: its id is not known."""
    ran = tooled.run("""
import re
mine = kernel.get_parent()['header']
session_id, name = mine['session'], mine['msg_id']
for guess in (name, re.sub(r'\\d+$', lambda m: str(int(m[0]) + 1), name), session_id, '', None):
    for number in range(50):
        above = {'header': {**mine, 'msg_id': f'{session_id}_{os.getppid()}_{number}' if number else guess}}
        session.send(kernel.iopub_socket, 'stream', {'name': 'stdout', 'text': 'FORGED'}, parent=above, ident=b'x')
        session.send(kernel.shell_stream, 'execute_reply', {'status': 'error'}, parent=above,
                     ident=kernel._parent_ident['shell'])
        session.send(kernel.iopub_socket, 'status', {'execution_state': 'idle'}, parent=above, ident=b'x')
""")
    assert ran.status in {"ok", "error"}
    for _ in range(3):
        assert goes_on(tooled)


def test_requests_without_waiting_for_answers(tooled: Lab) -> None:
    """They are passed over until the cell is stopped; the host's loop goes on and the next cell can ask."""
    ran = tooled.run("""
import json
asked = json.dumps({'rlm': 1, 'new': [{'id': 10**6, 'method': 'llm_query', 'params': {'prompts': ['x' * 100]}}],
      'forget': []})
ident = kernel._parent_ident['shell']
while True:
    session.send(kernel.stdin_socket, 'input_request', {'prompt': asked, 'password': False},
          parent=kernel.get_parent(), ident=ident)
""")
    assert ran.status == "flooded"
    assert len(tooled.asked) < 20_000
    # the interrupt may have cut a message in two, to which the next one was added: that call fails, it does not hang
    assert tooled.run("try:\n    llm_query('a')\nexcept RuntimeError:\n    pass").status == "ok"
    assert tooled.run("print(llm_query('a'))").text() == "A\n"
    assert goes_on(tooled)


def test_requests_after_the_cell_has_ended(tooled: Lab) -> None:
    """A thread that goes on asking is refused, does not keep the host busy, and disturbs no later cell."""
    tooled.run("""
import threading
def ask():
    while not stop.is_set():
        try:
            llm_query('late')
        except RuntimeError:
            pass
stop = threading.Event()
thread = threading.Thread(target=ask)
thread.start()
""")
    tooled.asked.clear()
    time.sleep(0.3)
    assert tooled.asked == []
    assert tooled.run("stop.set()\nthread.join()\nprint('over')").text() == "over\n"
    assert goes_on(tooled)


def test_a_flood_between_cells(tooled: Lab) -> None:
    """What a thread sends while no cell runs takes little of the host's time, and the next cell is heard."""
    tooled.run("""
import threading
stop = threading.Event()
def flood():
    while not stop.is_set():
        iopub('stream', {'name': 'stdout', 'text': 'x' * 10_000})
thread = threading.Thread(target=flood, daemon=True)
thread.start()
""")
    used = psutil.Process().cpu_times()
    time.sleep(1)
    since = psutil.Process().cpu_times()
    assert since.user + since.system - used.user - used.system < 0.5
    assert tooled.run("stop.set()\nthread.join()\nprint('heard')").text().endswith("heard\n")
    assert goes_on(tooled)


def test_an_oversized_message(tooled: Lab) -> None:
    """One message of 200 MB ends the cell as flooded, and the host keeps little of it."""
    before = psutil.Process().memory_info().rss
    ran = tooled.run(f"iopub('stream', {{'name': 'stdout', 'text': 'x' * {200 * MB}}})\ntime.sleep(1)")

    assert ran.status == "flooded"
    assert len(ran.text()) < 20 * MB
    assert goes_on(tooled)
    assert psutil.Process().memory_info().rss - before < 700 * MB


def test_tiny_messages(tooled: Lab) -> None:
    """A hundred thousand are taken as they come, and the next cell does not wait for long."""
    begun = time.monotonic()
    running = tooled.later(
        tooled._run("for _ in range(100_000): iopub('stream', {'name': 'stdout', 'text': 'x'})\nprint('end')", None)
    )
    ran = running.result(60)

    assert ran.status in {"ok", "flooded"}
    assert len(ran.text()) <= 100_004
    assert time.monotonic() - begun < 60
    assert goes_on(tooled)
