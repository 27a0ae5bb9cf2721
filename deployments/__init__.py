"""The edges: Serve deployments, HTTP, sockets, clocks and configuration.

Above it: `ray_config.yaml`, callers and operators. Below it: `actors` and `pipelines`.
"""
