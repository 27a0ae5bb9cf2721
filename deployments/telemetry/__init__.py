"""What is told of what happens: metrics, traces and logs."""
