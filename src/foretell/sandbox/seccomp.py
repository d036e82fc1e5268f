"""Which system calls a command in a sandbox may not make: those that reach past its namespaces or around its limits.

`sandbox` asks. A filter in the kernel answers such a call with an error, and ends a process that calls in another way.
"""

import ctypes
import errno
import os
import platform
import struct

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By machine: its place in the tables below, and what the kernel calls it."""

_REFUSED: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "open_by_handle_at": (304, 265),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262), "syslog": (103, 116),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    # Not all sockets know namespaces (vsock), a file in a readable folder may be one, and the kernel buffers for all.
    "socket": (41, 198), "socketpair": (53, 199),
    # Memory that belongs to no process, so that no limit counts it.
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437)}
"""A filter cannot see their arguments. Libraries that are told that there are no such calls take the older ones."""

_NEW_NAMESPACES = 0x7E020000
_SET_ID = 0o6000
_ANY = 0xFFFFFFFF
_REFUSED_WITH: dict[str, tuple[tuple[int | None, int | None], dict[int, int]]] = {
    "clone": ((56, 220), {0: _NEW_NAMESPACES}),
    # No file that the command leaves gives whoever runs it its owner's rights.
    "open": ((2, None), {4: _SET_ID}), "creat": ((85, None), {2: _SET_ID}), "openat": ((257, 56), {6: _SET_ID}),
    "mknod": ((133, None), {2: _SET_ID}), "mknodat": ((259, 33), {4: _SET_ID}), "chmod": ((90, None), {2: _SET_ID}),
    "fchmod": ((91, 52), {2: _SET_ID}), "fchmodat": ((268, 53), {4: _SET_ID}), "fchmodat2": ((452, 452), {4: _SET_ID}),
    # It may ask for its limits, that is without new ones.
    "prlimit64": ((302, 261), {4: _ANY, 5: _ANY}), "setrlimit": ((160, 164), {2: _ANY, 3: _ANY}),
}  # fmt: skip
"""(numbers, bits by the place of a half argument, the lower half first): refused where one of the bits is set."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_OTHER_ABI = 0x40000000
_PR_SET_SECCOMP, _FILTER = 22, 2


def known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES


def install() -> None:
    """Filters this process's calls, and those of all that it starts, for good. Raises OSError."""
    program = b"".join(struct.pack("HBBI", *step) for step in _program())
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_ulong(_FILTER), described, ctypes.c_ulong(0), ctypes.c_ulong(0))
    if libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), *arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")


def _program() -> list[tuple[int, int, int, int]]:
    """Steps of the kernel's machine: (code, steps to skip if true, if false, value)."""
    at, architecture = _ARCHITECTURES[platform.machine()]
    steps = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _OTHER_ABI), (_RETURN, 0, 0, _KILL)]
    for calls, error in ((_REFUSED, errno.EPERM), (_UNKNOWN, errno.ENOSYS)):
        for numbers in calls.values():
            steps += [(_EQUAL, 0, 1, numbers[at]), (_RETURN, 0, 0, _ERROR | error)]
    for either, tested in _REFUSED_WITH.values():
        if (number := either[at]) is not None:
            steps += [(_EQUAL, 0, 3 * len(tested) + 1, number)]
            for half, bits in tested.items():
                steps += [(_LOAD, 0, 0, _ARGUMENTS_AT + 4 * half), (_ANY_BIT, 0, 1, bits)]
                steps += [(_RETURN, 0, 0, _ERROR | errno.EPERM)]
            steps += [(_RETURN, 0, 0, _ALLOW)]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]
