"""What people work with runs inside as it does outside."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab

CELLS = {
    "numpy": (
        """
import numpy as np
a = np.random.default_rng(0).random((500, 500))
print((a @ np.linalg.inv(a)).trace().round())
""",
        "500.0",
    ),
    "pandas": (
        """
import pandas as pd
t = pd.DataFrame({'a': ['x', 'y', 'x'], 'b': [1, 2, 3]})
t.to_csv('t.csv')
print(pd.read_csv('t.csv').groupby('a')['b'].sum()['x'], pd.Timestamp('2024-06-01', tz='Europe/Berlin').utcoffset())
""",
        "4 2:00:00",
    ),
    "pyarrow": (
        """
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc
pq.write_table(pa.table({'a': list(range(1000))}), 't.parquet')
print(pc.sum(pq.read_table('t.parquet')['a']))
""",
        "499500",
    ),
    "polars": (
        """
import polars as pl
t = pl.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]})
print(t.lazy().group_by('a').agg(pl.col('b').sum()).sort('a').collect()['b'].to_list())
""",
        "[3, 3]",
    ),
    "matplotlib": (
        """
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.title('Größe')
plt.savefig('p.png')
print(open('p.png', 'rb').read(4))
""",
        "b'\\x89PNG'",
    ),
    "PIL": (
        """
from PIL import Image
Image.new('RGB', (50, 50), 'red').save('p.jpg')
print(Image.open('p.jpg').size)
""",
        "(50, 50)",
    ),
    "sqlite3": (
        """
import sqlite3
c = sqlite3.connect('t.db')
c.execute('create table t (a)')
c.execute('insert into t values (7)')
c.commit()
print(sqlite3.connect('t.db').execute('select a from t').fetchall())
""",
        "[(7,)]",
    ),
    "scipy": (
        """
from scipy import optimize
print(optimize.minimize(lambda x: (x[0] - 3) ** 2, [0.0]).x.round(3)[0])
""",
        "3.0",
    ),
    "sklearn": (
        """
from sklearn.ensemble import RandomForestClassifier as F
x = [[i] for i in range(100)]
y = [i > 50 for i in range(100)]
print(F(n_jobs=2, random_state=0).fit(x, y).predict([[90]])[0])
""",
        "True",
    ),
    "lxml": (
        """
from lxml import etree
print(etree.fromstring('<a><b>x</b></a>').findtext('b'))
""",
        "x",
    ),
    "tempfile": (
        """
import tempfile, os
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile('w') as f:
    f.write('x')
    print(os.path.isdir(d), os.path.exists(f.name))
""",
        "True True",
    ),
    "subprocess": (
        """
import subprocess
print(subprocess.run(['sort'], input='b\\na', text=True, capture_output=True).stdout)
""",
        "a\nb",
    ),
    "shutil": (
        """
import shutil, os
os.makedirs('d/e')
open('d/e/f', 'w').write('x')
shutil.copytree('d', 'g')
shutil.copy2('d/e/f', 'h')
shutil.make_archive('z', 'zip', 'd')
shutil.unpack_archive('z.zip', 'u')
shutil.move('g', 'i')
shutil.rmtree('i')
print(os.listdir('u'))
""",
        "['e']",
    ),
    "threading": (
        """
import threading
said = []
ts = [threading.Thread(target=said.append, args=(i,)) for i in range(20)]
[t.start() for t in ts]
[t.join() for t in ts]
print(sum(said))
""",
        "190",
    ),
    "concurrent": (
        """
from concurrent.futures import ThreadPoolExecutor
import time
with ThreadPoolExecutor(100) as pool:
    print(sum(pool.map(lambda i: time.sleep(0.05) or i, range(200))))
""",
        "19900",
    ),
    "asyncio": (
        """
import asyncio
print(await asyncio.gather(*(asyncio.sleep(0.01, i) for i in range(3))))
""",
        "[0, 1, 2]",
    ),
    "zoneinfo": (
        """
import zoneinfo, datetime
print(datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo('Asia/Tokyo')).utcoffset())
""",
        "9:00:00",
    ),
    "mmap": (
        """
import mmap
open('m', 'wb').write(b'abc' * 2000)
with open('m', 'r+b') as f:
    print(len(mmap.mmap(f.fileno(), 0)))
""",
        "6000",
    ),
    "ctypes": (
        """
import ctypes
f = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)
print(f(1))
""",
        "2",
    ),
    "IPython": (
        """
!echo hi
x = !seq 3
print(len(x))
""",
        "hi\r\n3",
    ),
}
"""The module that it needs, the cell, what it prints."""
POOLS = {
    "a pool of forks": """
import multiprocessing as m
with m.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))
""",
    "an executor": """
import multiprocessing as m
from concurrent.futures import ProcessPoolExecutor as P
with P(2, m.get_context('fork')) as p: print(list(p.map(abs, [-1, -2])))
""",
    "shared memory": """
from multiprocessing import shared_memory
s = shared_memory.SharedMemory(create=True, size=10)
s.buf[0] = 7
print([s.buf[0]] and [1, 2])
s.close()
s.unlink()
""",
    "spawned": """
import multiprocessing as m
with m.get_context('spawn').Pool(2) as p: print(p.map(abs, [-1, -2]))
""",
    "joblib": """
import joblib
print(joblib.Parallel(2)(joblib.delayed(abs)(i) for i in (-1, -2)))
""",
}


@pytest.fixture(scope="module")
def sandbox(level: str) -> Iterator[Lab]:
    """One sandbox for all, with the limits that people get."""
    with lab(KernelSandbox(level=level)) as made:
        yield made


@pytest.mark.parametrize("name", CELLS)
def test_package(name: str, sandbox: Lab) -> None:
    """It does what it does."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    code, expected = CELLS[name]
    sandbox.start()
    ran = sandbox.outcome(sandbox.begin(code, ready=None))

    assert ran.status == "ok", ran.text()
    assert ran.text("stdout").replace("\r\n", "\n").strip() == expected.replace("\r\n", "\n")


@pytest.mark.parametrize("name", POOLS)
def test_several_processes(name: str, sandbox: Lab) -> None:
    """They work where there is shared memory of its own; elsewhere an error says so, and nothing hangs."""
    if name == "joblib" and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    sandbox.start()
    ran = sandbox.run(POOLS[name])

    if sandbox.sandbox.level == "full" or ran.status == "ok":
        assert "[1, 2]" in ran.text(), ran.text()
    else:
        assert "Error" in ran.text()
    assert sandbox.run("print(1)").text() == "1\n"


def test_data_beyond_the_limit_on_memory(sandbox: Lab) -> None:
    """The limit is for what the code makes; what the host sends comes on top."""
    sandbox.start()
    sandbox.put(text="x" * 50_000_000)

    assert sandbox.say("len(text)") == "50000000"
