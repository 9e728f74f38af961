"""What runs in the sandbox, as a script of its own that imports nothing of ours.

It reads tasks from standard input as JSON and writes what they gave to standard output. Each module
is imported by a process of its own, from which each of its tasks is forked, with limits on its
time, memory and files; an audit hook keeps files, sockets, processes and native code from it.

A task is {"module", "source", "name", "calls"}: `source` defines the function `name` among a copy
of the names of `module`; each call is a list of arguments, literals, or {"attributes": {...}} for
an object that has nothing else. What a call gives is its result as text, or null where it failed,
or gave what has no such text. A task that was stopped gives null in place of the list.
"""

import ast
import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import types

MEMORY = 1 << 29  # bytes of address space
IMPORT_SECONDS = 10
LONGEST = 10_000  # characters of a result
PLAIN = (type(None), bool, int, float, str, bytes)
# Audit events that raise: of a module that is imported, and of what is called then.
RISKY = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.", "webbrowser.", "urllib.",
)  # fmt: skip
FORBIDDEN = (
    "open", "os.", "socket.", "subprocess.", "shutil.", "ctypes.", "import", "pty.", "signal.",
    "glob.", "tempfile.", "urllib.", "http.", "ftplib.", "smtplib.", "sqlite3.", "mmap.", "fcntl.",
    "webbrowser.", "builtins.input", "code.", "pickle.", "marshal.", "gc.", "sys._", "syslog.",
    "resource.", "cpython.run_", "setopencodehook", "winreg.", "msvcrt.",
)  # fmt: skip
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # of unshare(2)


def text(value, depth=0):
    """A value of plain types as text, equal for equal values; raises ValueError for any other.

    Of types themselves, not of their subclasses: a subclass may print as it likes.
    """
    if depth > 8:
        raise ValueError("nested too deep")
    kind = type(value)
    if kind in PLAIN:
        return repr(value)
    if kind in (list, tuple):
        return f"{kind.__name__}[{', '.join(text(each, depth + 1) for each in value)}]"
    if kind in (set, frozenset):
        return f"{kind.__name__}{{{', '.join(sorted(text(each, depth + 1) for each in value))}}}"
    if kind is dict:
        pairs = [f"{text(k, depth + 1)}: {text(v, depth + 1)}" for k, v in value.items()]
        return f"dict{{{', '.join(sorted(pairs))}}}"
    raise ValueError(f"a {kind.__name__} has no text")


def argument(given):
    """What a call is given for `given`, made afresh: a call may change it."""
    if isinstance(given, dict):
        attributes = {name: ast.literal_eval(value) for name, value in given["attributes"].items()}
        return types.SimpleNamespace(**attributes)
    return ast.literal_eval(given)


def forbid(events):
    """Let all of these audit events raise in this process, and in those forked from it."""

    def hook(event, _):
        if event.startswith(events):
            raise PermissionError(event)

    sys.addaudithook(hook)


def limit_time(seconds):
    """Let a signal end this process after so many seconds of its own time; 0 takes it back.

    Ten times as many on the clock are for those that wait: a busy machine makes no body wrong.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)


def confine(seconds):
    """Limit the time, memory and files of this process."""
    limit_time(seconds)
    whole = int(seconds) + 1
    for name, most in (
        ("RLIMIT_CPU", whole), ("RLIMIT_AS", MEMORY), ("RLIMIT_FSIZE", 0), ("RLIMIT_NPROC", 0),
        ("RLIMIT_CORE", 0),
    ):  # fmt: skip
        resource.setrlimit(getattr(resource, name), (most, most))
    sys.setrecursionlimit(500)
    forbid(FORBIDDEN)


def run(task, names, seconds):
    """What the calls of a task give, in this very process; `names` are those it may use."""
    calls = [[argument(each) for each in given] for given in task["calls"]]
    results, namespace = [], {**names, "__name__": "sandboxed"}
    confine(seconds)
    try:
        exec(compile(task["source"], "<sandboxed>", "exec", dont_inherit=True), namespace)
    except BaseException:
        return [None] * len(calls)
    for arguments in calls:
        try:
            result = text(namespace[task["name"]](*arguments))
            results.append(result if len(result) <= LONGEST else None)
        except BaseException:
            results.append(None)
    return results


def run_module(module, tasks, seconds):
    """What the tasks of one module give, each in a fork of this process."""
    limit_time(IMPORT_SECONDS)
    forbid(RISKY)
    names = vars(importlib.import_module(module)) if module else {}
    limit_time(0)
    return [forked(run, task, names, seconds) for task in tasks]


def forked(function, *arguments):
    """What `function` returns, as JSON, in a process of its own; None where it was stopped."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            found = json.dumps(function(*arguments)).encode()
            while found:
                found = found[os.write(write, found) :]
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    try:
        return json.loads(answer)
    except ValueError:
        return None


def main():
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    given = json.load(sys.stdin)
    for number in (0, 1, 2):
        os.dup2(null, number)
    # No network at all, where the system lets one have none; the audit hook stands everywhere.
    with contextlib.suppress(AttributeError):  # which only Linux has
        ctypes.CDLL(None).unshare(NEW_USER | NEW_NETWORK)
    tasks, found = given["tasks"], [None for _ in given["tasks"]]
    for module in dict.fromkeys(task["module"] for task in tasks):
        places = [place for place, task in enumerate(tasks) if task["module"] == module]
        chosen = [tasks[place] for place in places]
        results = forked(run_module, module, chosen, given["seconds"])
        for place, result in zip(places, results or (), strict=False):
            found[place] = result
    with os.fdopen(answer, "w") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
