"""seccomp: system calls that this process and everything it starts may not make, as a filter in classic BPF.

A deny-list: what a data program needs is too much to list, what it never needs is not. Numbers from the kernel's
tables (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h); the filter's form from seccomp(2).
"""

from __future__ import annotations

import ctypes
import platform
import struct

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
LOAD, EQUAL, GREATER_OR_EQUAL, ANY_BIT, RETURN, AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16
X32 = 0x40000000
NONE = -1
"""The architecture has no such call."""
NAMESPACES = 0x7E020080
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
AF_UNIX, AF_INET, SOCK_STREAM, SOCK_TYPE_MASK, IPPROTO_TCP = 1, 2, 1, 0xF, 6
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER = 38, 1

MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""Column of the tables below, the architecture's audit number, the number of seccomp itself."""
DENIED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "fanotify_init": (300, 262), "personality": (135, 92), "vhangup": (153, 58),
    "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "setrlimit": (160, 164), "memfd_secret": (447, 447), "memfd_create": (319, 279), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "iopl": (172, NONE), "ioperm": (173, NONE),
    "modify_ldt": (154, NONE),
}  # fmt: skip
"""memfd_create and System V: memory that counts for no process, and that outlives it."""
DENIED_WHERE_SHARED = {
    "setsid": (112, 157), "setpgid": (109, 154), "connect": (42, 203), "chown": (92, NONE), "fchown": (93, 55),
    "lchown": (94, NONE), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
"""What Landlock does not see: rights of the user's files, other programs' sockets, leaving the group."""
IGNORED_WHERE_SHARED = {
    "chmod": (90, NONE), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "utime": (132, NONE),
    "utimes": (235, NONE), "futimesat": (261, NONE), "utimensat": (280, 88), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setaffinity": (203, 122), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
}  # fmt: skip
"""The same, said to have worked, or shutil.copy and ZeroMQ would fail; and the order of the user's processes."""
CLONE, CLONE3, SOCKET, SOCKETPAIR = (56, 220), (435, 435), (41, 198), (53, 199)
IOCTL, PRLIMIT = (16, 29), (302, 261)


def number(name: str) -> int:
    """Of a system call in `DENIED`, on this machine."""
    return DENIED[name][MACHINES[platform.machine()][0]]


def program(*, shared: bool, tcp: bool = False) -> bytes:
    """The filter.

    Args:
        shared: there are no namespaces, so other programs' sockets can be seen, and a process could leave its group.
        tcp: sockets for TCP over IPv4 may be made; where they may be connected to is for Landlock to say.
    """
    column, architecture, _ = MACHINES[platform.machine()]
    made: list[bytes] = []

    def op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        made.append(struct.pack("<HBBI", code, if_true, if_false, value))

    def deny(number: int, error: int = EPERM) -> None:
        if number != NONE:
            op(EQUAL, number, 0, 1)
            op(RETURN, ERRNO | error)

    op(LOAD, AT_ARCHITECTURE)
    op(EQUAL, architecture, 1, 0)
    op(RETURN, KILL)
    op(LOAD, AT_NUMBER)
    if column == 0:
        op(GREATER_OR_EQUAL, X32, 0, 1)
        op(RETURN, ERRNO | ENOSYS)
    for numbers in DENIED.values():
        deny(numbers[column])
    deny(CLONE3[column], ENOSYS)  # its flags lie in memory; the C library goes on with clone
    for numbers in DENIED_WHERE_SHARED.values() if shared else ():
        deny(numbers[column])
    for numbers in IGNORED_WHERE_SHARED.values() if shared else ():
        deny(numbers[column], 0)
    # clone: no new namespaces
    op(EQUAL, CLONE[column], 0, 4)
    op(LOAD, AT_ARGUMENTS)
    op(ANY_BIT, NAMESPACES, 0, 1)
    op(RETURN, ERRNO | EPERM)
    op(RETURN, ALLOW)
    # ioctl: nothing may be typed into a terminal
    op(EQUAL, IOCTL[column], 0, 5)
    op(LOAD, AT_ARGUMENTS + 8)
    op(EQUAL, TIOCSTI, 1, 0)
    op(EQUAL, TIOCLINUX, 0, 1)
    op(RETURN, ERRNO | EPERM)
    op(RETURN, ALLOW)
    # prlimit: limits may be read, not set
    op(EQUAL, PRLIMIT[column], 0, 6)
    op(LOAD, AT_ARGUMENTS + 16)
    op(EQUAL, 0, 0, 2)
    op(LOAD, AT_ARGUMENTS + 20)
    op(EQUAL, 0, 1, 0)
    op(RETURN, ERRNO | EPERM)
    op(RETURN, ALLOW)
    for words in _tcp(SOCKET[column]) if tcp else ():
        op(*words)
    # sockets: streams of this machine only; no internet, netlink, vsock, crypto, packets
    for numbers in (SOCKET, SOCKETPAIR):
        op(EQUAL, numbers[column], 0, 8)
        op(LOAD, AT_ARGUMENTS)
        op(EQUAL, AF_UNIX, 1, 0)
        op(RETURN, ERRNO | EAFNOSUPPORT)
        op(LOAD, AT_ARGUMENTS + 8)
        op(AND, SOCK_TYPE_MASK)
        op(EQUAL, SOCK_STREAM, 0, 1)
        op(RETURN, ALLOW)
        op(RETURN, ERRNO | EPERM)
    op(RETURN, ALLOW)
    return b"".join(made)


def _tcp(number: int) -> tuple[tuple[int, ...], ...]:
    """Sockets for TCP, but not for what else comes as a stream (MPTCP, SCTP), of which Landlock knows nothing."""
    return (
        (EQUAL, number, 0, 11),
        (LOAD, AT_ARGUMENTS),
        (EQUAL, AF_INET, 0, 8),
        (LOAD, AT_ARGUMENTS + 8),
        (AND, SOCK_TYPE_MASK),
        (EQUAL, SOCK_STREAM, 0, 4),
        (LOAD, AT_ARGUMENTS + 16),
        (EQUAL, 0, 1, 0),
        (EQUAL, IPPROTO_TCP, 0, 1),
        (RETURN, ALLOW),
        (RETURN, ERRNO | EAFNOSUPPORT),
        (LOAD, AT_NUMBER),
    )


def install(filter_program: bytes) -> None:
    """Put the filter on this thread and what it starts.

    Raises:
        OSError: the kernel refuses.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    what = Program(len(filter_program) // 8, filter_program)
    if libc.syscall(MACHINES[platform.machine()][2], SET_MODE_FILTER, 0, ctypes.byref(what)):
        raise OSError(ctypes.get_errno(), "seccomp was refused")
