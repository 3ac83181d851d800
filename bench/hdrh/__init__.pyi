"""What the benchmarks use of hdrhistogram, which comes without types."""
