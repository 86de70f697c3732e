"""Attempts on files and secrets."""

from __future__ import annotations

from tests.sandbox.isolation.cells import Cell

__all__ = ["FILES"]

FILES: dict[str, Cell] = {
    "a secret in the home folder": Cell("show(O['secret'])"),
    "an ssh key": Cell("show(O['key'], os.path.dirname(O['key']) + '/./id_ed25519')"),
    "a kernel's connection file": Cell("show(O['connection'])"),
    "a file in the host's temporary folder": Cell("show(O['temporary'])"),
    "a file beside Python's folders": Cell("show(O['config'])"),
    "shared memory of other programs": Cell("show(O['posix_shm'])"),
    "etc shadow": Cell(
        "tries(shadow=lambda: open('/etc/shadow').read(1), group=lambda: open('/etc/gshadow').read(1))", control="root"
    ),
    "who uses this machine": Cell("tries(passwd=lambda: len(open('/etc/passwd').read()))"),
    "the bystander's environment by every path": Cell("""
p = O['process']
environ(*(f'/proc/{a}/environ' for a in (p, f'{p}/task/{p}', f'self/../{p}', f'thread-self/../../../{p}',
      f'{p}/root/proc/{p}')))
"""),
    "environments of the processes above": Cell(
        """
pid = os.getpid()
while pid:
    environ(f'/proc/{pid}/environ')
    try:
        pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
    except OSError:
        break
environ('/proc/1/environ', '/proc/self/environ', f"/proc/{O['host']}/environ")
print([v for k, v in os.environ.items() if k == 'RLM_CANARY'])
""",
        control=False,  # the host got its canary after its start, and passes on none even then
    ),
    "environments of all that can be listed": Cell(
        "environ(*glob.glob('/proc/[0-9]*/environ'), *glob.glob('/proc/[0-9]*/task/*/environ'))", control=False
    ),
    "the bystander's memory": Cell("""
p = O['process']
tries(**{name: lambda name=name: opens(f'/proc/{p}/{name}') for name in ('maps', 'smaps', 'mem', 'auxv', 'pagemap')})
def read():
    line = next(line for line in open(f'/proc/{p}/maps') if '[stack]' in line)
    start, end = (int(x, 16) for x in line.split()[0].split('-'))
    with open(f'/proc/{p}/mem', 'rb', 0) as file:
        file.seek(start)
        print(file.read(end - start))
tries(read=read)
"""),
    "the bystander's root, folder, program and descriptors": Cell("""
p = O['process']
tries(**{name: lambda: os.listdir(f'/proc/{p}/{name}') for name in ('root', 'cwd', 'fd', 'map_files')},
      exe=lambda: os.readlink(f'/proc/{p}/exe'), fd1=lambda: opens(f'/proc/{p}/fd/3'))
show(f'/proc/{p}/root{O["secret"]}', f'/proc/{p}/cwd{O["secret"]}')
"""),
    "the host's root by way of the first process": Cell(
        """
show(*(f'/proc/{p}/{way}{O["secret"]}' for p in (1, os.getppid(), 'self') for way in ('root', 'cwd', 'fd/3', 'fd/4')))
show(*(f'/proc/{p}/root/oldroot{O["secret"]}' for p in (1, 'self')), '/oldroot' + O['secret'],
      '/newroot' + O['secret'])
"""
    ),
    "files of the machine that root may write": Cell(
        """
names = ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sysrq-trigger',
      '/proc/sys/vm/drop_caches',
         '/sys/kernel/uevent_helper', '/sys/power/state', '/proc/sys/fs/binfmt_misc/register',
         '/proc/1/oom_score_adj',
         '/proc/sys/kernel/ns_last_pid', '/sys/fs/cgroup/cgroup.procs', '/proc/irq/default_smp_affinity')
tries(**{n: lambda n=n: opens(n, os.O_WRONLY) for n in names})
""",
        control="root",
    ),
    "the machine's memory and log": Cell(
        """
names = ('/dev/mem', '/dev/kmem', '/proc/kcore', '/dev/kmsg', '/proc/kmsg', '/dev/port', '/proc/vmcore')
tries(**{n: lambda n=n: opens(n) for n in names})
""",
        control="root",
    ),
    "what the kernel knows of keys": Cell("tries(keys=lambda: 'rlm-canary' in open('/proc/keys').read() or 1 / 0)"),
    "the session's keyring": Cell("""
buffer = ctypes.create_string_buffer(100)
keyctl = (250, 219)
def found():
    return call(keyctl, 10, -3, b'user', b'rlm-canary', 0)
for key in (lambda: O['keyring_key']), found, (lambda: call((249, 218), b'user', b'rlm-canary', None, -3)):
    tries(read=lambda: call(keyctl, 11, key(), buffer, 100) and None)
print(buffer.raw)
"""),
    "a symlink": Cell("""
os.path.lexists('soft') and os.unlink('soft')
tries(link=lambda: os.symlink(O['secret'], 'soft'))
show('soft')
"""),
    "a hard link": Cell("""
os.path.lexists('hard') and os.unlink('hard')
tries(link=lambda: os.link(O['secret'], O['home'] + '/hard'), here=lambda: os.link(O['secret'], 'hard'))
show('hard')
"""),
    "the folder above": Cell("""
up = '../' * 40
show(up + O['secret'], f'/usr/{up}{O["secret"]}', f'{sys.prefix}/lib/../../../../../../..{O["secret"]}',
     f'/proc/self/root{O["secret"]}', f'/proc/self/cwd/{up}{O["secret"]}', f'/dev/fd/../../..{O["secret"]}')
"""),
    "a path that is only named": Cell("""
def by_name():
    fd = os.open(O['secret'], os.O_PATH)
    show(f'/proc/self/fd/{fd}', f'/dev/fd/{fd}')
    os.close(fd)
def beneath():
    fd = os.open(O['home'], os.O_PATH | os.O_DIRECTORY)
    print(os.read(os.open('secret', os.O_RDONLY, dir_fd=fd), 100))
    os.close(fd)
def openat2():
    fd = call(437, -100, O['secret'].encode(), struct.pack('<QQQ', os.O_RDONLY, 0, 0), 24)
    print(os.read(fd, 100))
tries(by_name=by_name, beneath=beneath, openat2=openat2)
"""),
    "a file by its handle": Cell(
        """
handle = ctypes.create_string_buffer(bytes.fromhex(O['handle']))
for path in '/', '/usr', sys.prefix + '/lib', sys.base_prefix + '/lib', os.getcwd():
    def read():
        fd = call((304, 265), os.open(path, os.O_RDONLY), handle, os.O_RDONLY)
        print(os.read(fd, 100))
    tries(**{path: read})
""",
        control="root",
    ),
    "sending a file elsewhere": Cell("""
def sent():
    fd = os.open(O['secret'], os.O_RDONLY)
    with open('copy', 'wb') as out:
        os.sendfile(out.fileno(), fd, 0, 100)
tries(sendfile=sent, program=lambda: print(subprocess.run(['/bin/cat', O['secret']], capture_output=True).stdout))
show('copy')
"""),
    "writing to Python's folders": Cell("""
def write(path):
    with open(path, 'w') as file:
        file.write('x')
tries(prefix=lambda: write(O['prefix_canary']), usr=lambda: opens('/usr/bin/env', os.O_WRONLY),
      python=lambda: opens(os.path.realpath(sys.executable), os.O_RDWR), os=lambda: opens(os.__file__, os.O_WRONLY),
      append=lambda: opens(json.__file__, os.O_APPEND | os.O_RDWR))
"""),
    "writing to the inbox": Cell("""
def write(path):
    with open(path, 'w') as file:
        file.write('x')
tries(make=lambda: write(O['inbox'] + '/forged'), beside=lambda: write(os.path.dirname(O['inbox']) + '/forged'),
      move=lambda: os.rename(O['inbox'], O['inbox'] + '2') or os.rename(O['inbox'] + '2', O['inbox']) or 'moved')
"""),
    "replacing the host's sockets": Cell("""
folder = os.path.dirname(O['inbox'])
def swap(name):
    os.rename(f'{folder}/{name}', f'{folder}/{name}-away')
    os.rename(f'{folder}/{name}-away', f'{folder}/{name}')
    return name
tries(**{name: lambda name=name: swap(name) for name in ('k-1', 'k-2', 'k-3')})
"""),
    "changing, moving and removing the user's files": Cell("""
tries(write=lambda: opens(O['secret'], os.O_WRONLY), cut=lambda: os.truncate(O['secret'], 3),
      open_cut=lambda: opens(O['key'], os.O_RDONLY | os.O_TRUNC), make=lambda: opens(O['home'] + '/new',
      os.O_CREAT | os.O_WRONLY),
      move=lambda: os.rename(O['connection'], 'taken'), remove=lambda: os.unlink(O['temporary']))
show('taken')
"""),
    "rights, owners and times of the user's files": Cell("""
tries(mode=lambda: os.chmod(O['secret'], 0o777), folder=lambda: os.chmod(O['home'], 0o755),
      owner=lambda: os.chown(O['key'], 64000, 64000), time=lambda: os.utime(O['connection'], (1, 1)),
      note=lambda: os.setxattr(O['temporary'], 'user.rlm', b'x'), chmodat=lambda: silent(call(452, -100,
      O["key"].encode(), 0o666, 0)))
"""),
    "rights of Python's files": Cell("""
fd = os.open(os.__file__, os.O_RDONLY)
before = os.fstat(fd)
tries(mode=lambda: os.fchmod(fd, before.st_mode ^ 0o001), path=lambda: os.chmod(os.__file__, before.st_mode ^ 0o001))
if os.fstat(fd).st_mode != before.st_mode:
    print('GOT rights')
    os.fchmod(fd, before.st_mode)
os.close(fd)
"""),
    "whether a file is there": Cell(
        "tries(size=lambda: os.stat(O['secret']).st_size, access=lambda: os.access(O['key'], os.F_OK) or 1 / 0)",
        by_design=("landlock",),
    ),
    "device nodes": Cell(
        """
names = {'disk': (stat.S_IFBLK, os.makedev(254, 0)), 'memory': (stat.S_IFCHR, os.makedev(1, 1))}
def make(name):
    kind, number = names[name]
    os.mknod(name, kind | 0o600, number)
    os.unlink(name)
    return name
tries(**{name: lambda name=name: make(name) for name in names})
""",
        control="root",
    ),
    "devices of the machine": Cell(
        """
names = ('/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/fuse', '/dev/kvm', '/dev/net/tun', '/dev/loop-control',
      '/dev/vsock',
         '/dev/vhost-vsock', '/dev/userfaultfd', '/dev/uinput', '/dev/dri/card0', '/dev/input/event0',
         '/dev/tty0', '/dev/hwrng')
tries(**{n: lambda n=n: opens(n) for n in names})
""",
        control="root",
    ),
    "listing the machine's folders": Cell("""
tries(**{n: lambda n=n: len(os.listdir(n)) for n in (O['home'], '/var/log', '/etc/ssl', '/run', '/boot', '/srv')})
"""),
    "becoming root": Cell(
        """
def rights(change):
    change()
    line = next(line for line in open('/proc/thread-self/status') if line.startswith('CapEff'))
    return int(line.split()[1], 16) or 1 / 0
def child(change):
    return in_child(lambda: rights(change)) and 'rights' or 1 / 0
tries(user=lambda: child(lambda: os.setuid(0)), ids=lambda: child(lambda: os.setresuid(0, 0, 0)),
      group=lambda: child(lambda: os.setresgid(0, 0, 0)), groups=lambda: child(lambda: os.setgroups([0])),
      program=lambda: int(subprocess.check_output(['/bin/sh', '-c',
      'grep CapEff /proc/self/status']).split()[1], 16) or 1 / 0)
""",
        control="root",
    ),
}
