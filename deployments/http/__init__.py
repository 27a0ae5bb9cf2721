"""HTTP itself: listeners and connections on the way in, the transport on the way out, and their timeouts."""
