"""The state: one mailbox each, a thin shell around a pure core of `pipelines`.

Above it: `deployments`. Below it: `pipelines`. Outside it: HTTP and sockets.
"""
