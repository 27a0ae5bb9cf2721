"""The logic: pure values and async generators.

Above it: `actors` (state) and `deployments` (edges). Below it: nothing of ours.
Outside it: Ray, HTTP clients, clocks, files. What needs one of those takes it as an argument (`ports`).
"""
