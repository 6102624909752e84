"""What `benches/relay/run` measures with."""
