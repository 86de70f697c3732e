"""The first cell of a sandbox: makes a package of the guest files that the host sends along.

This file is sent as it stands, followed by one call of `_bootstrap`; it leaves no name behind but the guest.
"""


def _bootstrap(sources: "dict[str, str]", parent_pid: "int | None", needs: "tuple[int, int]" = (3, 11)) -> None:
    """Import the guest package from `sources` (module name to source text) and install it.

    Args:
        sources: the guest files.
        parent_pid: the host's process, when it is this process's parent; None on another machine.
        needs: the oldest Python that runs them; this file alone is read by older ones too.

    Raises:
        RuntimeError: this Python is older.
    """
    import importlib.abc
    import importlib.util
    import linecache
    import sys

    if tuple(sys.version_info) < needs:
        raise RuntimeError(f"its Python is {sys.version.split()[0]}, the sandbox needs {needs[0]}.{needs[1]} or newer")
    package = "rlm_guest"

    class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]  # importlib's protocol
            if name == package or (name.partition(".")[0] == package and name.partition(".")[2] in sources):
                return importlib.util.spec_from_loader(name, self, is_package=name == package)
            return None

        def exec_module(self, module):  # type: ignore[no-untyped-def]  # importlib's protocol
            name = module.__name__.partition(".")[2] or "__init__"
            file = f"<{package}.{name}>"
            linecache.cache[file] = (len(sources[name]), None, sources[name].splitlines(keepends=True), file)
            exec(compile(sources[name], file, "exec"), module.__dict__)  # noqa: S102 - this is how a module is run

    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        del sys.modules[name]
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__qualname__ != Loader.__qualname__]
    sys.meta_path.append(Loader())
    from rlm_guest.kernel import install  # type: ignore[import-not-found]  # made just now

    install(parent_pid)
