"""A state that is hard to save, and what has to hold of it afterwards; cells for any kind of sandbox."""

from __future__ import annotations

__all__ = ["CHECK", "MAKE", "PLAIN", "PLAIN_CHECK"]

PLAIN = """\
import math, collections as c
from fractions import Fraction
k = 3
def f(x, y=2, *, z=0): return x * k + y + z
def counter():
    n = 0
    def inc():
        nonlocal n
        n += 1
        return n
    return inc
inc = counter(); inc()
def fact(n): return 1 if n < 2 else n * fact(n - 1)
f.note = 'mine'
same1 = [1]; same2 = same1
half = Fraction(1, 2)
ask, answers = llm_query, [SubcallError('x'), 'y']
_helper = 7
lam = lambda: _helper + k
data = {'a': [1, (2, 3)], 'b': {4}}
raw = bytearray(b'x' * 300_000)
text = 'é' * 5_000_000
gen = (i for i in range(3))
"""
"""Needs nothing but Python."""
PLAIN_CHECK = """\
k = 10
assert (f(1), f(1, z=1), f.note, f.__name__) == (12, 13, 'mine', 'f')
assert inc() == 2
assert fact(5) == 120
assert lam() == 17
same1.append(2)
assert same2 == [1, 2]
assert half + half == 1
assert ask is llm_query and isinstance(answers[0], SubcallError) and answers[1] == 'y'
assert data == {'a': [1, (2, 3)], 'b': {4}} and type(data['a'][1]) is tuple
raw[0] = 1
assert len(text) == 5_000_000 and c.Counter('aa')['a'] == 2 and math.pi > 3
assert 'gen' not in globals()
"""
MAKE = f"""\
{PLAIN}
import numpy as np, pandas as pd
import dataclasses, enum
class P:
    def __init__(self, x): self.x = x
    def double(self): return P(self.x * k)
@dataclasses.dataclass
class D:
    a: int
    b: list = dataclasses.field(default_factory=list)
class E(enum.Enum):
    one = 1
p, d, e = P(2), D(1), E.one
big = np.arange(1_000_000, dtype='float64')
fixed = np.arange(5); fixed.flags.writeable = False
df = pd.DataFrame({{'a': range(1000), 'b': list('ab') * 500}})
"""
CHECK = f"""\
{PLAIN_CHECK}
assert p.double().x == 20 and type(p.double()) is P
assert d == D(1) and D(2).b == []
assert e is E.one
assert big.sum() == 499999500000
big[0] = 1
assert not fixed.flags.writeable
assert df.b.value_counts()['a'] == 500
df.loc[0, 'a'] = 5
"""
