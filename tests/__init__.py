"""The tests: they mirror the three floors."""
