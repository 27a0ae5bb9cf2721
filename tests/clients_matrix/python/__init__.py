"""The runners of Python clients: one small script a client, run in that client's own environment."""
