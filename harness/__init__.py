"""What tests and benchmarks share: worlds in which uploads run."""
