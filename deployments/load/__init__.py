"""How much is taken on at once: the limiter, what sets it, and the number of replicas."""
