"""Attempts on the network and on other processes."""

from __future__ import annotations

from tests.sandbox.isolation.cells import Cell

__all__ = ["NETWORK", "PROCESSES"]

NETWORK: dict[str, Cell] = {
    "tcp to the loopback": Cell("tries(tcp=lambda: socket.create_connection(('127.0.0.1', O['tcp']), 1).close())"),
    "tcp by a fast open": Cell("""
def send():
    s = socket.socket()
    s.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', O['tcp']))
    s.close()
tries(send=send)
"""),
    "tcp over ipv6, mptcp": Cell("""
tries(six=lambda: socket.create_connection(('::ffff:127.0.0.1', O['tcp']), 1).close(),
      multipath=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', O['tcp'])))
"""),
    "tcp to the outside": Cell(
        "for there in ('192.0.2.1', 80), ('1.1.1.1', 53): tries(out=lambda: socket.create_connection(there, 1))",
        control=False,
    ),
    "udp": Cell("""
def send():
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.sendto(b'x', ('127.0.0.1', O['udp']))
    s.close()
tries(send=send)
"""),
    "names": Cell(
        "tries(host=lambda: socket.getaddrinfo('example.org', 443), interfaces=lambda: socket.if_nameindex())",
    ),
    "a server that waits": Cell("""
def serve():
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()
tries(serve=serve)
"""),
    "families of sockets": Cell("""
names = {'netlink': (16, 3, 0), 'packet': (17, 3, 3), 'raw': (2, 3, 1), 'vsock': (40, 1, 0), 'crypto': (38, 5,
      0), 'can': (29, 3, 1),
         'bluetooth': (31, 1, 3), 'kernel': (32, 2, 0), 'key': (15, 3, 2), 'xdp': (44, 3, 0), 'inet': (2, 2,
         0), 'six': (10, 2, 0),
         'tipc': (30, 5, 0), 'rds': (21, 5, 0), 'datagrams': (1, 2, 0), 'packets': (1, 5, 0)}
tries(**{n: lambda w=w: socket.socket(*w).close() or 'a socket' for n, w in names.items()})
"""),
    "pairs of sockets": Cell("""
tries(datagrams=lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) and 'a pair')
"""),
    "an abstract socket": Cell("""
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect('\\0' + O['abstract'])
    s.close()
tries(connect=connect)
"""),
    "a socket in a folder, as docker has one": Cell("""
def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.close()
def by_descriptor():
    connect(f"/proc/self/fd/{os.open(O['unix'], os.O_PATH)}")
def by_folder():
    fd = os.open(O['home'], os.O_PATH)
    connect(f'/proc/self/fd/{fd}/docker.sock')
tries(path=lambda: connect(O['unix']), by_descriptor=by_descriptor, by_folder=by_folder)
"""),
    "the sockets of the services of a desktop": Cell(
        """
def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return path
names = ['/run/docker.sock', '/var/run/docker.sock', '/run/dbus/system_bus_socket', f'/run/user/{os.getuid()}/bus',
         '/tmp/.X11-unix/X0', '\\0/tmp/.X11-unix/X0', '/run/systemd/private',
         '/run/containerd/containerd.sock', '/dev/log']
tries(**{n: lambda n=n: connect(n) for n in names})
""",
        control=False,  # not every machine has one
    ),
    "io_uring": Cell("tries(ring=lambda: call(425, 4, ctypes.create_string_buffer(256)))"),
    "another program": Cell("""
code = f"import socket; socket.create_connection(('127.0.0.1', {O['tcp']}), 1)"
print(subprocess.run([sys.executable, '-S', '-I', '-c', code], capture_output=True).returncode)
"""),
}

PROCESSES: dict[str, Cell] = {
    "signals": Cell("""
p = O['process']
def by_descriptor():
    call((424, 424), call((434, 434), p, 0), int(signal.SIGUSR1), None, 0)
tries(kill=lambda: os.kill(p, signal.SIGUSR1), group=lambda: os.killpg(p, signal.SIGUSR2),
      thread=lambda: silent(call((234, 131), p, p, int(signal.SIGUSR1))), descriptor=by_descriptor)
"""),
    "a signal by the owner of a pipe": Cell("""
def owner():
    r, w = socket.socketpair()
    fcntl.fcntl(r, fcntl.F_SETOWN, O['process'])
    fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    w.send(b'x')
    time.sleep(0.1)
tries(owner=owner)
"""),
    "stopping it": Cell("tries(stop=lambda: os.kill(O['process'], signal.SIGSTOP))"),
    "killing it and its group": Cell("""
tries(term=lambda: os.kill(O['process'], signal.SIGTERM), kill=lambda: os.kill(O['process'], 9),
      group=lambda: os.killpg(O['process'], 9))
"""),
    "the notebook's own process": Cell("""
tries(host=lambda: os.kill(O['host'], 0) or 'host', group=lambda: os.killpg(os.getpgid(O['host']), 0) or 'group')
"""),
    "tracing": Cell("""
def attach():
    call((101, 117), 16, O['process'], None, None)
    os.waitpid(O['process'], 0x40000000)
    call((101, 117), 17, O['process'], None, None)
    return 'traced'
tries(attach=attach)
"""),
    "reading its memory from afar": Cell("""
buffer = ctypes.create_string_buffer(8)
def read():
    lines = open(f"/proc/{O['process']}/maps").read().splitlines()
    start, end = (int(x, 16) for x in next(line for line in lines if '[stack]' in line).split()[0].split('-'))
    buffer = ctypes.create_string_buffer(end - start)
    here, there = struct.pack('PN', ctypes.addressof(buffer), end - start), struct.pack('PN', start, end - start)
    call((310, 270), O['process'], here, 1, there, 1, 0)
    print(buffer.raw)
tries(read=read)
"""),
    "reading one's own memory by that call": Cell("""
a, b = ctypes.create_string_buffer(b'abc'), ctypes.create_string_buffer(3)
there, here = struct.pack('PN', ctypes.addressof(a), 3), struct.pack('PN', ctypes.addressof(b), 3)
tries(read=lambda: call((310, 270), os.getpid(), here, 1, there, 1, 0))
"""),
    "its descriptors": Cell("""
tries(take=lambda: call((438, 438), call((434, 434), O['process'], 0), 3, 0))
"""),
    "the list of processes": Cell("""
tries(all=lambda: len([p for p in os.listdir('/proc') if p.isdigit() and int(p) == O['process']]) or 1 / 0,
      line=lambda: open(f"/proc/{O['process']}/cmdline").read(),
      status=lambda: len(open(f"/proc/{O['process']}/status").read()))
"""),
    "whether a process runs": Cell(
        """
def there():
    try:
        os.kill(O['process'], 0)
    except PermissionError:
        pass
    return 'it runs'
tries(there=there, folder=lambda: os.stat(f"/proc/{O['process']}").st_uid)
""",
        by_design=("landlock",),
    ),
    "its place in the queue": Cell("""
p = O['process']
tries(nice=lambda: os.setpriority(os.PRIO_PROCESS, p, 5), group=lambda: os.setpriority(os.PRIO_PGRP, p, 6),
      cpus=lambda: os.sched_setaffinity(p, {0}), batch=lambda: os.sched_setscheduler(p, os.SCHED_IDLE,
      os.sched_param(0)),
      disk=lambda: silent(call((251, 30), 1, p, 3 << 13)))
"""),
    "its limits": Cell("""
tries(files=lambda: silent(resource.prlimit(O['process'], resource.RLIMIT_NOFILE, (100, 100))),
      victim=lambda: silent(open(f"/proc/{O['process']}/oom_score_adj", 'w').write('1000')))
"""),
    "shared memory of System V": Cell("""
libc.shmat.restype = ctypes.c_void_p
def attach():
    address = libc.shmat(O['shm'], None, 0)
    if address in (None, 2**64 - 1):
        raise OSError(ctypes.get_errno(), 'refused')
    print(ctypes.string_at(address, 100))
tries(attach=attach)
"""),
    "things that outlive it": Cell("""
def made(kind, number, *words):
    name = call(number, *words)
    call({'shared': (31, 195), 'semaphores': (66, 191), 'messages': (71, 187)}[kind], name,
          *([0] if kind == 'semaphores' else []), 0, 0)
    return name
def queue():
    call((240, 180), b'rlm-canary', os.O_CREAT | os.O_RDWR, 0o600, None)
    call((241, 181), b'rlm-canary')
    return 'made'
tries(shared=lambda: made('shared', (29, 194), 0, 4096, 0o1600), semaphores=lambda: made('semaphores', (64,
      190), 0, 1, 0o1600),
      messages=lambda: made('messages', (68, 186), 0, 0o1600), queue=queue)
"""),
    "leaving its session and group": Cell(
        """
def leave(how):
    pid = os.fork()
    if not pid:
        try:
            how()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return 'left' if os.waitpid(pid, 0)[1] == 0 else 1 / 0
tries(session=lambda: leave(os.setsid), group=lambda: leave(os.setpgrp))
""",
        by_design=("full",),
    ),
}
