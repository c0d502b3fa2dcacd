"""What the Messages API takes, refuses and sends. Each rule cites the page it comes from."""
