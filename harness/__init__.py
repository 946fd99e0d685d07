"""What tests and benchmarks share: services, networks, scenarios and sweeps in which uploads run."""
