"""Measurements: a fake provider that costs next to nothing, and what is measured against it.

Above it: nothing. Below it: the standard library, uvloop, msgspec. Outside it: the gateway, reached by HTTP.
"""
