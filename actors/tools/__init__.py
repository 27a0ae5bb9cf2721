"""The registry of tools, their sources, and the executors that run them contained."""
