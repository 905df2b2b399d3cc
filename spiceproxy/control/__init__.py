"""Control of a proxy while it runs: an HTTP API on loopback or a unix socket, and `spiceproxy ctl`, which asks it (docs/control.md).

`options.py` says where; `server.py` listens and lets in who has the token; `http.py` is one request; `routing.py` is what a
route is and the OpenAPI description of a table of them; `routes.py` is the table; `waiting.py` is what waits. `runtime.py` and
`client.py` are the side of who asks. Imported only when it is asked for.
"""
