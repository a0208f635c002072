"""What `tools/fuzz` does: damaged and hostile bytes for each of shardkit's parsers, all drawn from one seed."""
