"""Which libraries' threads forbid a copy of the process: looked at, and the verdict tried by forking."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.resources import files

import pytest

WORK = {
    "nothing": "def work(): return 1",
    "numpy": "import numpy as np\ndef work(): return (np.ones((600, 600)) @ np.ones((600, 600)))[0, 0]",
    "pandas": (
        "import pandas as pd\ndef work(): return pd.DataFrame({'a': range(1000), 'b': 'x'}).groupby('b').a.sum()['x']"
    ),
    "pyarrow": (
        "import pyarrow as pa, pyarrow.compute as pc\n"
        "def work():\n    table = pa.table({str(i): range(100_000) for i in range(8)})\n"
        "    return table.to_pandas(use_threads=True).shape, pc.sum(table['0']).as_py()"
    ),
    "polars": (
        "import polars as pl\n"
        "def work(): return pl.DataFrame({'a': range(100_000)}).lazy().filter(pl.col('a') > 3).collect().height"
    ),
    "sklearn": (
        "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingClassifier as Model\n"
        "data = np.arange(60_000.0).reshape(-1, 3)\n"
        "def work(): return Model(max_iter=3).fit(data, data[:, 0] > 9)"
    ),
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\ndef work(): return 1"
    ),
    "a pool": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\n"
        "def work(): return pool.submit(sum, [1, 2]).result()"
    ),
}
TRY = """
import os, signal, sys, threading, time, types
threads = types.ModuleType("threads")
exec(compile(sys.stdin.read(), "threads", "exec"), threads.__dict__)
own = threading.enumerate()
exec(sys.argv[1])
work()
for _ in range(100):
    if (why := threads.obstacles(own)) is not None:
        break
    time.sleep(0.05)
print("why", repr(why), flush=True)
if not os.fork():
    signal.alarm(10)
    work()
    print("the copy works", flush=True)
    os._exit(0)
os.wait()
work()
print("so does the original", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("name", WORK)
def test_the_verdict(name: str) -> None:
    """Where nothing is said against a copy the library works in the copy as well; threads that are lost are seen."""
    if name in ("pyarrow", "sklearn", "polars", "pandas", "numpy"):
        try:
            importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")
    source = (files("rlm_kernel.sandbox.isolation.inside") / "threads.py").read_text()
    done = subprocess.run(
        [sys.executable, "-c", TRY, WORK[name]], input=source, capture_output=True, text=True, timeout=60
    )
    assert "so does the original" in done.stdout, done.stderr
    if "why ''" in done.stdout:
        assert "the copy works" in done.stdout
    assert ("why ''" in done.stdout) == (name in ("nothing", "numpy", "pandas", "pyarrow"))
    if name in ("polars", "a thread", "a pool"):
        assert {"polars": "polars", "a thread": "Thread-", "a pool": "ThreadPool"}[name] in done.stdout
