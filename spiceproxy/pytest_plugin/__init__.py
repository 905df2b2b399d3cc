"""spiceproxy in other people's test suites: a plugin of pytest (docs/pytest.md).

`plugin.py` is what pytest loads, in every run on a machine that has spiceproxy: it imports nothing but pytest, and the
rest only when a test asks for it.
"""
