"""Faults carried out in the live proxy: what `spiceproxy.faults` decides is done here, on sockets.

`injector.py` has one engine for a proxy, and the sessions; `faulty.py` is one connection: it asks the engine and takes its
effects; `direction.py` and `pump.py` see that what is put in lies between two messages; `shaping.py` slows down, holds up
and throws away; `passing.py` tells recording, log and account of migrations; `ending.py` closes. A proxy without faults
uses nothing of this.
"""

from spiceproxy.injection.injector import Faults, Injector

__all__ = ["Faults", "Injector"]
