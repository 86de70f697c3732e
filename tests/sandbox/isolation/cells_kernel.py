"""Attempts on the kernel itself."""

from __future__ import annotations

from tests.sandbox.isolation.cells import Cell

__all__ = ["KERNEL"]

KERNEL: dict[str, Cell] = {
    "new namespaces": Cell("""
flags = {'time': 0x80, 'mount': 0x20000, 'cgroup': 0x2000000, 'uts': 0x4000000, 'ipc': 0x8000000, 'user': 0x10000000,
         'pid': 0x20000000, 'net': 0x40000000}
tries(**{n: lambda f=f: in_child(lambda: call((272, 97), f) == 0) and n or 1 / 0 for n, f in flags.items()})
"""),
    "clone with namespaces": Cell("""
def clone(flag):
    pid = forks((56, 220)[COLUMN], flag | 17, None, None, None, None)
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
tries(user=lambda: clone(0x10000000), mount=lambda: clone(0x20000), net=lambda: clone(0x50000000))
"""),
    "clone3": Cell("""
def clone3():
    words = struct.pack('<11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    pid = forks(435, words, len(words))
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
tries(user=clone3)
"""),
    "joining a namespace": Cell(
        """
tries(**{n: lambda n=n: in_child(lambda: call((308, 268), os.open(f"/proc/{O['process']}/ns/{n}", os.O_RDONLY),
      0) == 0) and n or 1 / 0
         for n in ('net', 'uts', 'ipc')})
""",
        control="root",
    ),
    "mounting": Cell(
        """
os.makedirs('mounted', exist_ok=True)
def mount():
    return in_child(lambda: call((272, 97), 0x20000) == 0 and call((165, 40), b'x', b'mounted', b'tmpfs', 0,
          None) == 0) or 1 / 0
tries(new=mount, tree=lambda: call(428, -100, b'/', 1), context=lambda: call(430, b'tmpfs', 0),
      pick=lambda: call(433, -100, b'/', 0))
""",
        control="root",
    ),
    "undoing a mount": Cell(
        "tries(remount=lambda: call((165, 40), None, b'/', None, 0x20 | 0x1000, None), "
        "umount=lambda: call((166, 39), O['inbox'].encode(), 2), proc=lambda: call((166, 39), b'/proc', 2))",
        control=False,
    ),
    "another root": Cell(
        """
tries(chroot=lambda: in_child(lambda: call((161, 51), b'.') == 0) and 'root' or 1 / 0,
      pivot=lambda: in_child(lambda: call((155, 41), b'.', b'.') == 0) and 'root' or 1 / 0)
""",
        control="root",
    ),
    "bpf, perf, page faults": Cell("""
attributes = ctypes.create_string_buffer(struct.pack('<IIQ', 1, 112, 0), 112)
tries(bpf=lambda: call((321, 280), 0, ctypes.create_string_buffer(struct.pack('<IIIII', 1, 4, 4, 1, 0), 72), 72),
      perf=lambda: call((298, 241), attributes, 0, -1, -1, 0), faults=lambda: call((323, 282), 1))
"""),
    "keys": Cell(
        "tries(add=lambda: call((248, 217), b'user', b'rlm-own', b'x', 1, -2), join=lambda: call((250, 219), 0, -3, 1))"
    ),
    "tracing a child": Cell("""
def trace():
    pid = os.fork()
    if not pid:
        time.sleep(5)
        os._exit(0)
    try:
        call((101, 117), 16, pid, None, None)
        return 'traced'
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
tries(trace=trace)
"""),
    "personality": Cell(
        "tries(personality=lambda: in_child(lambda: call((135, 92), 0x0400000) >= 0) and 'changed' or 1 / 0)"
    ),
    "modules and other kernels": Cell(
        """
tries(module=lambda: call((175, 105), b'x', 1, b''), file=lambda: call((313, 273), 0, b'', 0),
      remove=lambda: call((176, 106), b'rlm', 0),
      kexec=lambda: call((246, 104), 0, 0, None, 0), ports=lambda: call((172, -1), 3), port=lambda: call((173,
      -1), 0, 1, 1))
""",
        control=False,
    ),
    "the machine's name, clock and log": Cell(
        """
tries(name=lambda: call((170, 161), os.uname().nodename.encode(), len(os.uname().nodename)),
      log=lambda: call((103, 116), 10, None, 0), clock=lambda: call((159, 171), ctypes.create_string_buffer(512)))
""",
        control="root",
    ),
    "raising its limits": Cell("""
def raised(name):
    which = getattr(resource, name)
    soft, hard = resource.getrlimit(which)
    more = hard if soft != hard else soft + 1
    resource.setrlimit(which, (more, more))
    resource.prlimit(0, which, (soft, hard))
    return name
def old_call():
    return call((160, 164), 7, struct.pack('<QQ', *resource.getrlimit(7)))
tries(memory=lambda: raised('RLIMIT_AS') if resource.getrlimit(resource.RLIMIT_AS)[0] >= 0 else 'has none',
      files=lambda: raised('RLIMIT_NOFILE'), core=lambda: raised('RLIMIT_CORE'), old_call=old_call)
"""),
    "calls of other instruction sets": Cell(
        """
def foreign(code):
    page = libc.mmap(None, 4096, 7, 0x22, -1, 0)
    ctypes.memmove(page, code, len(code))
    return ctypes.CFUNCTYPE(ctypes.c_long)(page)
def thirty_two():  # getpid by int 0x80
    pid = foreign(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')()
    return pid == os.getpid()
def x32():  # getpid with the bit of the x32 calls, which many kernels have not
    return libc.syscall(ctypes.c_long(0x40000000 + 39)) == os.getpid()
if COLUMN == 0:
    tries(thirty_two=lambda: in_child(thirty_two) and 'another set' or 1 / 0,
          x32=lambda: in_child(x32) and 'another set' or 1 / 0)
else:
    print('GOT nothing to try')
""",
        control="x86_64",
    ),
    "typing into a terminal": Cell(
        """
import pty
def inject():
    host, guest = pty.openpty()
    fcntl.ioctl(guest, 0x5412, b'x')
    return 'typed'
def linux():
    fcntl.ioctl(0, 0x541C, b'\\2')
    return 'pasted'
tries(inject=inject, linux=linux)
""",
        control="root",
    ),
    "memory that nobody counts": Cell("""
tries(anonymous=lambda: call((319, 279), b'x', 0), secret=lambda: call(447, 0))
"""),
}
