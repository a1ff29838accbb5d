"""What tests run: the daemon, a real Prometheus, and the patience to wait for either."""
