"""Tests on a real cluster: everything that only Ray, Serve, HAProxy and real processes can show."""
