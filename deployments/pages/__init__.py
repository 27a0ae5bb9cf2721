"""What callers ask about Penstock itself, over HTTP: keys, usage, routing, tools, models, metrics."""
