"""What is known of requests: the session log, the metrics, the traces."""
