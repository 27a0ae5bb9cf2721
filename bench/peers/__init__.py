"""Other gateways and plain proxies, measured beside Penstock: what is installed for it, and how each is started.

`python.in`, `python.lock`: LiteLLM's proxy. `package.json`, `package-lock.json`: Portkey's gateway, with the newest
`@hono/node-server` under which it streams: above 1.14.1 it answers every stream with 500 ("TypeError: immutable").

Above it: the Makefile. Below it: `bench.__main__`'s measuring. Outside it: what a request costs Penstock alone.
"""
