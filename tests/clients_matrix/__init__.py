"""`make clients`: other people's clients, unmodified, against a running gateway.

`python -m tests.clients_matrix [client …]` starts a gateway and a real model server (`servers`), lets every client
(`clients`) do the same few things (`features`) with each of them, and prints a table.
"""
