"""When requests are sent: upload slots, adaptive concurrency, rate limits, retries, and throughput."""
