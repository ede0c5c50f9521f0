"""What a worker tells of itself: status, metrics, HTTP, logs."""
