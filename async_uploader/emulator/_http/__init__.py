"""Connections, host checks, throttling, rate limits, and the exchange of one request and its response."""
