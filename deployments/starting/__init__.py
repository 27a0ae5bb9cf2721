"""What stands around a start on this machine: what must be true before, ports, processes, files, probes."""
